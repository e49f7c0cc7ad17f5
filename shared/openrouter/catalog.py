"""What OpenRouter tells about itself: its models and their prices, one generation, one key; pure parsing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from shared.openrouter import answer
from shared.openrouter.classification import Envelope
from shared.openrouter.errors import UnreadableAnswer


@dataclass(frozen=True, slots=True)
class PriceOverride:
    """Other prices above a prompt size, or at a time of day (`utc_start`/`utc_end` as HHMM, days as given)."""

    min_prompt_tokens: int | None
    utc_start: str | None
    utc_end: str | None
    utc_days: tuple[str, ...]
    prompt: Decimal | None
    completion: Decimal | None
    input_cache_read: Decimal | None
    input_cache_write: Decimal | None


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars per token (`request`, `image` and `web_search`: per piece). None is unknown, never 0.

    It is the price of the cheapest endpoint: the truth for one call is its `usage.cost`.
    """

    prompt: Decimal | None
    completion: Decimal | None
    input_cache_read: Decimal | None = None
    input_cache_write: Decimal | None = None
    internal_reasoning: Decimal | None = None
    request: Decimal | None = None
    image: Decimal | None = None
    web_search: Decimal | None = None
    overrides: tuple[PriceOverride, ...] = ()


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """One model as listed. Answers name the dated `canonical_slug`, so match by either name."""

    id: str
    canonical_slug: str | None
    name: str
    prices: Prices
    context_length: int | None
    max_output_tokens: int | None
    supported_parameters: frozenset[str]
    input_modalities: tuple[str, ...]
    output_modalities: tuple[str, ...]
    is_moderated: bool
    # True: reasoning cannot be switched off; False: it can; None: nothing is said.
    reasoning_mandatory: bool | None
    expires_on: date | None
    created_at: datetime | None
    alias_target: str | None

    @property
    def is_free(self) -> bool:
        """Only the suffix means free: a price of 0 may be a model that is priced by the image or the second."""
        return self.id.endswith(":free")

    @property
    def can_chat(self) -> bool:
        """False for batch-only names and for models that do not answer in text."""
        return not self.id.endswith(":batch") and (not self.output_modalities or "text" in self.output_modalities)


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """What is left on a key, in US dollars; a limit of None is unlimited. It lags by minutes."""

    label: str | None
    limit: Decimal | None
    limit_remaining: Decimal | None
    limit_reset: str | None
    usage: Decimal | None
    is_free_tier: bool
    is_management_key: bool
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation as booked. Appears 20 s to many minutes after the call; tokens are native ones."""

    id: str
    total_cost: Decimal | None
    upstream_cost: Decimal | None
    model: str | None
    provider: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    streamed: bool | None
    cancelled: bool | None
    is_byok: bool | None
    finish_reason: str | None
    latency_ms: int | None
    generation_time_ms: int | None


def parse_models(body: bytes, envelope: Envelope) -> list[CatalogModel]:
    """Every listed model that has an id. One odd entry is left out, it does not cost us the others."""
    listed = _data(body, envelope)
    if not isinstance(listed, list):
        raise UnreadableAnswer("the catalogue is no list")
    return [_model(item) for item in listed if isinstance(item, dict) and answer.text_or_none(item.get("id"))]


def parse_key(body: bytes, envelope: Envelope) -> KeyStatus:
    """The key's limits and use."""
    data = _mapping(_data(body, envelope))
    return KeyStatus(
        label=answer.text_or_none(data.get("label")),
        limit=answer.dollars(data.get("limit")),
        limit_remaining=_signed(data.get("limit_remaining")),
        limit_reset=answer.text_or_none(data.get("limit_reset")),
        usage=answer.dollars(data.get("usage")),
        is_free_tier=data.get("is_free_tier") is True,
        is_management_key=data.get("is_management_key") is True,
        expires_at=_moment(data.get("expires_at")),
    )


def parse_generation(body: bytes, envelope: Envelope) -> Generation:
    """One generation's booking."""
    data = _mapping(_data(body, envelope))
    id = answer.text_or_none(data.get("id"))
    if id is None:
        raise UnreadableAnswer("a generation without an id")
    return Generation(
        id=id,
        total_cost=answer.dollars(data.get("total_cost")),
        upstream_cost=answer.dollars(data.get("upstream_inference_cost")),
        model=answer.text_or_none(data.get("model")),
        provider=answer.text_or_none(data.get("provider_name")),
        prompt_tokens=_first_count(data, "native_tokens_prompt", "tokens_prompt"),
        completion_tokens=_first_count(data, "native_tokens_completion", "tokens_completion"),
        reasoning_tokens=answer.count(data.get("native_tokens_reasoning")),
        cached_tokens=answer.count(data.get("native_tokens_cached")),
        streamed=_flag(data.get("streamed")),
        cancelled=_flag(data.get("cancelled")),
        is_byok=_flag(data.get("is_byok")),
        finish_reason=answer.text_or_none(data.get("finish_reason")),
        latency_ms=answer.count(data.get("latency")),
        generation_time_ms=answer.count(data.get("generation_time")),
    )


def _data(body: bytes, envelope: Envelope) -> Any:
    parsed = answer.parse_json(body)
    if not isinstance(parsed, dict):
        raise UnreadableAnswer("not an object")
    answer.raise_error_of(parsed, envelope)
    return parsed.get("data")


def _model(item: Mapping[str, Any]) -> CatalogModel:
    top, architecture = _mapping(item.get("top_provider")), _mapping(item.get("architecture"))
    id = str(item["id"])
    context = answer.count(item.get("context_length"))
    return CatalogModel(
        id=id,
        canonical_slug=answer.text_or_none(item.get("canonical_slug")),
        name=answer.text_or_none(item.get("name")) or id,
        prices=_prices(_mapping(item.get("pricing"))),
        context_length=context if context is not None else answer.count(top.get("context_length")),
        max_output_tokens=answer.count(top.get("max_completion_tokens")),
        supported_parameters=frozenset(_texts(item.get("supported_parameters"))),
        input_modalities=_texts(architecture.get("input_modalities")),
        output_modalities=_texts(architecture.get("output_modalities")),
        is_moderated=top.get("is_moderated") is True,
        reasoning_mandatory=_flag(_mapping(item.get("reasoning")).get("mandatory")),
        expires_on=_day(item.get("expiration_date")),
        created_at=_epoch(item.get("created")),
        alias_target=answer.text_or_none(item.get("alias_target")),
    )


def _prices(pricing: Mapping[str, Any]) -> Prices:
    listed = pricing.get("overrides")
    overrides = [part for part in listed if isinstance(part, dict)] if isinstance(listed, list) else []
    return Prices(
        # `dollars` turns the "-1" of the routers, which means unknown, into None.
        prompt=answer.dollars(pricing.get("prompt")),
        completion=answer.dollars(pricing.get("completion")),
        input_cache_read=answer.dollars(pricing.get("input_cache_read")),
        input_cache_write=answer.dollars(pricing.get("input_cache_write")),
        internal_reasoning=answer.dollars(pricing.get("internal_reasoning")),
        request=answer.dollars(pricing.get("request")),
        image=answer.dollars(pricing.get("image")),
        web_search=answer.dollars(pricing.get("web_search")),
        overrides=tuple(
            PriceOverride(
                min_prompt_tokens=answer.count(part.get("min_prompt_tokens")),
                utc_start=_clock(part.get("utc_start")),
                utc_end=_clock(part.get("utc_end")),
                utc_days=tuple(str(day) for day in part["utc_days"]) if isinstance(part.get("utc_days"), list) else (),
                prompt=answer.dollars(part.get("prompt")),
                completion=answer.dollars(part.get("completion")),
                input_cache_read=answer.dollars(part.get("input_cache_read")),
                input_cache_write=answer.dollars(part.get("input_cache_write")),
            )
            for part in overrides
        ),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _clock(value: object) -> str | None:
    """HHMM, whether it was sent as text or as a number."""
    return f"{value:04d}" if isinstance(value, int) and not isinstance(value, bool) else answer.text_or_none(value)


def _signed(value: object) -> Decimal | None:
    """An amount that may be negative: a key can be overdrawn."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    amount = Decimal(value)
    return amount if amount.is_finite() else None


def _first_count(data: Mapping[str, Any], *names: str) -> int | None:
    return next((number for name in names if (number := answer.count(data.get(name))) is not None), None)


def _day(value: object) -> date | None:
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment


def _epoch(value: object) -> datetime | None:
    seconds = answer.count(value)
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
