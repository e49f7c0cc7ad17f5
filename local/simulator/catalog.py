"""The models that the simulated OpenRouter serves, with their prices, limits and providers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# Providers that stop billing when the caller hangs up; every other one bills the whole answer.
STOPS_BILLING = frozenset(
    {
        "OpenAI", "Azure", "Anthropic", "Fireworks", "Mancer", "Recursal", "AnyScale", "Lepton", "OctoAI", "Novita",
        "DeepInfra", "Together", "Cohere", "Hyperbolic", "Infermatic", "Avian", "xAI", "Cloudflare", "SFCompute",
        "Nineteen", "Liquid", "Friendli", "Chutes", "DeepSeek",
    }
)  # fmt: skip

FAULT_FAMILY = "sim/"


@dataclass(frozen=True)
class Prices:
    """US dollars per token."""

    prompt: Decimal
    completion: Decimal


@dataclass(frozen=True)
class Model:
    """One row of the catalogue; `wire` is what `GET /models` shows."""

    id: str
    permaslug: str
    wire: Json
    providers: tuple[str, ...]

    @property
    def context_length(self) -> int:
        return int(self.wire["context_length"])

    @property
    def max_output(self) -> int:
        return int(self.wire["top_provider"]["max_completion_tokens"] or self.context_length)

    @property
    def supported(self) -> frozenset[str]:
        return frozenset(self.wire["supported_parameters"])

    @property
    def reasoning(self) -> Json | None:
        reasoning: Json | None = self.wire.get("reasoning")
        return reasoning

    @property
    def is_free(self) -> bool:
        return self.id.endswith(":free")

    @property
    def is_batch(self) -> bool:
        return self.id.endswith(":batch")

    def prices(self, prompt_tokens: int, provider: str) -> Prices:
        """The price of this request; an override starts above its number of prompt tokens."""
        pricing: Json = self.wire["pricing"]
        for override in pricing.get("overrides", ()):
            if prompt_tokens > override["min_prompt_tokens"]:
                pricing = override
        dearer = self._dearer(provider)
        return Prices(Decimal(pricing["prompt"]) * dearer, Decimal(pricing["completion"]) * dearer)

    def _dearer(self, provider: str) -> Decimal:
        return Decimal(1) + Decimal("0.25") * self.providers.index(provider)

    def endpoints(self) -> list[Json]:
        """One endpoint per provider; only the first has the catalogue's price, as in real life."""
        return [self._endpoint(provider) for provider in self.providers]

    def _endpoint(self, provider: str) -> Json:
        dearer = self._dearer(provider)
        unpriced = self.wire["pricing"]["prompt"] == "-1"
        pricing = {
            key: price if unpriced else format((Decimal(price) * dearer).normalize(), "f")
            for key, price in self.wire["pricing"].items()
            if key != "overrides"
        }
        percentiles = {"p50": 400.0, "p75": 700.0, "p90": 1200.0, "p99": 4000.0}
        return {
            "name": f"{provider} | {self.permaslug}",
            "model_id": self.id,
            "model_name": self.wire["name"],
            "provider_name": provider,
            "tag": slug_of(provider),
            "context_length": self.context_length,
            "max_completion_tokens": self.wire["top_provider"]["max_completion_tokens"],
            "max_prompt_tokens": None,
            "pricing": pricing | {"discount": 0},
            "quantization": "unknown",
            "status": 0,
            "supported_parameters": self.wire["supported_parameters"],
            "supports_implicit_caching": False,
            "supports_tool_choice": {"auto": True, "none": True, "required": True, "function": True},
            "native_tools": [],
            "service_tier": None,
            "uptime_last_5m": 100.0,
            "uptime_last_30m": 99.9,
            "uptime_last_1d": 99.8,
            "latency_last_30m": percentiles,
            "throughput_last_30m": percentiles,
        }


@dataclass(frozen=True)
class Catalog:
    models: tuple[Model, ...]
    routes: dict[str, str]
    gone: frozenset[str]

    def find(self, slug: str) -> Model | None:
        """The model of this id or permaslug. An id wins, because `:free` and `:batch` share a permaslug."""
        for model in self.models:
            if model.id == slug:
                return model
        for model in self.models:
            if model.permaslug == slug:
                return model
        if slug.startswith(FAULT_FAMILY):
            return stand_in(slug)
        return None

    def serving(self, model: Model) -> Model:
        """The model that really answers: routers and aliases pass the request on."""
        target = self.routes.get(model.id)
        return model if target is None else self.find(target) or model


def slug_of(provider: str) -> str:
    """A provider's slug as requests name it: `Amazon Bedrock` is `amazon-bedrock`."""
    return provider.lower().replace(" ", "-")


def stand_in(slug: str) -> Model:
    """A model named after a fault. It is never listed, so that no catalogue sync picks it up."""
    parameters: Sequence[str] = sorted({name for model in load().models for name in model.wire["supported_parameters"]})
    wire: Json = {
        "id": slug,
        "canonical_slug": f"{slug}-20261101",
        "name": slug,
        "created": 1793491200,
        "description": "Gives the fault it is named after.",
        "context_length": 131072,
        "architecture": {"modality": "text->text", "input_modalities": ["text"], "output_modalities": ["text"]},
        "pricing": {"prompt": "0.000001", "completion": "0.000002"},
        "top_provider": {"context_length": 131072, "max_completion_tokens": 16384, "is_moderated": False},
        "supported_parameters": parameters,
        "reasoning": {"supported_efforts": ["high", "medium", "low", "none"], "mandatory": False},
    }
    return Model(slug, f"{slug}-20261101", wire, ("Simulated",))


@cache
def load() -> Catalog:
    """Read `catalog.json`, which lies beside this file."""
    document = json.loads(Path(__file__).with_name("catalog.json").read_text(encoding="utf-8"))
    models = tuple(
        Model(wire["id"], wire["canonical_slug"], wire, tuple(document["served_by"][wire["id"]]))
        for wire in document["models"]
    )
    return Catalog(models, document["routes"], frozenset(document["gone"]))
