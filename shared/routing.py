"""Which models may answer a request, in which order, with which parameters: the plan, made in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import TypeAdapter

from shared import database as sql
from shared.database import Database
from shared.errors import ConfigError
from shared.openrouter import Endpoint, Sampling

if TYPE_CHECKING:
    from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class Preset:
    """The row of the use case: its sentence and the thresholds of its flags."""

    use_case: str
    system_prompt: str | None
    slow_response_ms: int
    short_response_chars: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that may serve the request, and who serves it."""

    provider: str
    provider_type: Literal["openrouter", "chat_worker", "openai_compatible"]
    base_url: str | None
    secret_name: str | None
    model_id: str
    model: str
    context_length: int | None
    max_output_tokens: int | None
    supported_parameters: frozenset[str] | None
    exclusive_parameters: tuple[tuple[str, ...], ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered candidates with their parameters. Never empty."""

    preset: Preset
    candidates: tuple[Candidate, ...]


async def plan(request: Mapping[str, Any], database: Database) -> Plan:
    """Ask the database for the plan of a request: {completion_id, caller, use_case, model, models, params, …}.

    Raises what the plan refuses with (unknown use case or model, …), or `Unavailable`.
    """
    answer = await database.call("plan_completion", {"request": dict(request)})
    refusal = answer.get("refusal")
    if refusal is not None:
        raise sql.failure(refusal["code"], refusal["message"], refusal["field"])
    return _plans().validate_python(answer)


class Provider(Protocol):
    """How a provider is reached, as its row says it."""

    @property
    def provider_type(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def secret_name(self) -> str | None: ...


def endpoint(provider: Provider, settings: Settings) -> Endpoint:
    """Where to ask this provider, and with which key. Raises ConfigError when it cannot be asked.

    OpenRouter needs a key, everybody else an address: the row's, for a chat worker else that of the settings.
    """
    key = settings.secret(provider.secret_name) if provider.secret_name else None
    if provider.provider_type == "openrouter":
        if key is None:
            raise ConfigError(f"{provider.secret_name or 'OPENROUTER_API_KEY'} is not set: its models cannot be asked")
        return Endpoint(provider.base_url or settings.openrouter_base_url, key)
    base_url = provider.base_url
    if base_url is None and provider.provider_type == "chat_worker":
        base_url = settings.chat_worker_url
        if base_url is None:
            raise ConfigError("CHAT_WORKER_URL is not set: the chat worker cannot be asked")
    if base_url is None:
        raise ConfigError("A provider has no base_url: its models cannot be asked")
    return Endpoint(base_url, key or "", kind="openai_compatible")


async def models(database: Database, settings: Settings) -> list[dict[str, Any]]:
    """What a picker shows (`get_models` in SQL), without the chat worker's models where no worker is configured."""
    found = (await database.call("get_models", {}))["models"]
    return [
        model
        for model in found
        # Only the deployment knows: the row has no address of its own.
        if not model.pop("needs_worker_url") or settings.chat_worker_url is not None
    ]


def sampling(params: Mapping[str, Any]) -> Sampling:
    """The plan's parameters as the OpenRouter module takes them. What is not there is not sent."""
    rest = dict(params)
    stop = rest.pop("stop", ())
    return Sampling(
        max_tokens=rest.pop("max_tokens", None),
        temperature=_float(rest.pop("temperature", None)),
        top_p=_float(rest.pop("top_p", None)),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        seed=rest.pop("seed", None),
        extra=rest,
    )


def _float(value: Any) -> float | None:
    return None if value is None else float(value)


@cache
def _plans() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)
