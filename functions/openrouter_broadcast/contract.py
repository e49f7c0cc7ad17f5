"""What OpenRouter Broadcast sends: OTLP traces as JSON, read for the cost of generations and for nothing else.

Documented by OpenRouter (Broadcast: Webhook, Elastic, Grafana): `gen_ai.response.id` is the generation id;
`gen_ai.usage.input_tokens`, `gen_ai.usage.output_tokens`, and in an example `gen_ai.usage.prompt_tokens` and
`gen_ai.usage.completion_tokens`; the test of a connection sends an empty payload and wants a 2xx status.
Not documented, but seen in deliveries that others have published: `gen_ai.usage.total_cost` in USD, the tokens'
`.cached`, `.cache_write` and `.reasoning`, and the generation id as `openrouter.trace.id` of the resource.
Leniency, for the day it is renamed: every other name below, from OpenTelemetry's conventions for generative AI.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.reconciliation import Booking

GENERATION_ID = ("gen_ai.response.id", "openrouter.generation_id", "openrouter.trace.id")
COST = ("gen_ai.usage.total_cost", "gen_ai.usage.cost", "openrouter.usage.cost", "openrouter.cost")
INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
CACHED = ("gen_ai.usage.input_tokens.cached", "gen_ai.usage.cache_read.input_tokens")
CACHE_WRITE = ("gen_ai.usage.input_tokens.cache_write", "gen_ai.usage.cache_creation.input_tokens")
REASONING = ("gen_ai.usage.output_tokens.reasoning", "gen_ai.usage.reasoning.output_tokens")

# Anything beyond is no cost of one generation and no count of its tokens, but a mistake.
MOST_USD = 100_000
MOST_TOKENS = 10**12
# Longer or smaller numerals are not written by anybody who means a number.
MOST_DIGITS = 40

# Whoever cuts a prompt in JavaScript may leave half of a pair, which is no text. Nothing that is read here has one.
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_ID = re.compile(r"[\x21-\x7e]{1,200}")


class Traces(BaseModel):
    """An OTLP export. Unknown fields and odd values are skipped, never refused: one of them must not cost the rest."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    resource_spans: list[Any] | None = Field(default=None, alias="resourceSpans")

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        raw = json_data.encode() if isinstance(json_data, str) else json_data
        return super().model_validate_json(_SURROGATE.sub(rb"\\ufffd", raw), **options)

    def spans(self) -> list[dict[str, Any]]:
        """The attributes of every span, with those of its resource."""
        return [
            {**shared, **_attributes(span)}
            for resource in _objects(self.resource_spans)
            for shared in [_attributes(resource.get("resource"))]
            for scope in _objects(resource.get("scopeSpans"))
            for span in _objects(scope.get("spans"))
        ]


def booking(span: Mapping[str, Any]) -> Booking | None:
    """What a span tells about the cost of a generation; None when it tells nothing."""
    generation_id = next((span[name] for name in GENERATION_ID if _is_id(span.get(name))), None)
    cost = _number(span, COST, MOST_USD)
    if generation_id is None or cost is None:
        return None
    return Booking(
        generation_id=generation_id,
        cost_usd=cost,
        source="broadcast",
        input_tokens=_count(span, INPUT),
        output_tokens=_count(span, OUTPUT),
        cached_tokens=_count(span, CACHED),
        cache_write_tokens=_count(span, CACHE_WRITE),
        reasoning_tokens=_count(span, REASONING),
    )


def _attributes(holder: object) -> dict[str, Any]:
    """The attributes of a span or resource by name: OTLP lists them as {key, value: {stringValue | intValue | …}}."""
    found: dict[str, Any] = {}
    for attribute in _objects(holder.get("attributes") if isinstance(holder, Mapping) else None):
        key, value = attribute.get("key"), attribute.get("value")
        if isinstance(key, str) and isinstance(value, Mapping):
            for kind in ("stringValue", "intValue", "doubleValue"):
                if value.get(kind) is not None:
                    found[key] = value[kind]
    return found


def _number(said: Mapping[str, Any], names: Sequence[str], most: int) -> Decimal | None:
    """The first of these that is a sensible number. OTLP writes whole numbers as text."""
    for name in names:
        value = said.get(name)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            continue
        text = str(value)
        try:
            number = Decimal(text) if len(text) <= MOST_DIGITS else Decimal("NaN")
        except InvalidOperation:
            continue
        if number.is_finite() and 0 <= number <= most and number.adjusted() >= -MOST_DIGITS:
            return number
    return None


def _count(said: Mapping[str, Any], names: Sequence[str]) -> int | None:
    number = _number(said, names, MOST_TOKENS)
    return int(number) if number is not None and number == number.to_integral_value() else None


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    return (item for item in value if isinstance(item, Mapping)) if isinstance(value, list) else iter(())
