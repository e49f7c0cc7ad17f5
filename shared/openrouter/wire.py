"""What is asked and what is answered: the values of a chat call, and the body of its request; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import SecretStr

EndpointKind = Literal["openrouter", "openai_compatible"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]
Outcome = Literal["complete", "truncated"]
Action = Literal["answered", "retried", "gave up", "cancelled"]

# The seed's default; also what is sent when a caller gives no limit, because without one the credit check reserves the
# model's maximum and answers 402.
DEFAULT_MAX_TOKENS = 500
# Some providers refuse smaller limits, so a lowered limit below it is not worth a call.
LEAST_MAX_TOKENS = 16
MOST_STOPS = 4


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask and with which key. The key never shows in a repr."""

    base_url: str
    api_key: SecretStr | str = field(repr=False)
    kind: EndpointKind = "openrouter"

    @property
    def key(self) -> str:
        return (self.api_key if isinstance(self.api_key, str) else self.api_key.get_secret_value()).strip()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. None is "do not send"; an explicit 0 is sent. A limit is always sent: None means the default.

    `extra` holds every other parameter by its name on the wire (top_k, min_p, frequency_penalty, reasoning, …).
    """

    max_tokens: int | None = DEFAULT_MAX_TOKENS
    temperature: float | None = 0.7
    top_p: float | None = 0.9
    stop: tuple[str, ...] = ()
    seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to one model, and what is known about that model.

    `supported_parameters` None means unknown: everything is sent. Of each group in `exclusive_parameters` the first one
    that is set is kept: (("temperature", "top_p"),) lets temperature win.
    """

    model: str
    messages: Sequence[Mapping[str, Any]]
    sampling: Sampling = Sampling()
    tools: Sequence[Mapping[str, Any]] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    user: str | None = None
    session_id: str | None = None
    metadata: Mapping[str, str] | None = None
    trace: Mapping[str, Any] | None = None
    provider: Mapping[str, Any] | None = None
    supported_parameters: frozenset[str] | None = None
    exclusive_parameters: tuple[tuple[str, ...], ...] = ()
    max_output_tokens: int | None = None
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Adjustments:
    """What earlier tries of the same request taught us: parameters refused, a lower limit, another name for it."""

    dropped: tuple[str, ...] = ()
    max_tokens: int | None = None
    limit_name: str | None = None


UNADJUSTED = Adjustments()


@dataclass(frozen=True, slots=True)
class Question:
    """A request body, the parameters it really carries (the limit always as max_tokens), and those left out."""

    body: dict[str, Any]
    parameters: dict[str, Any]
    dropped: tuple[str, ...]

    def encoded(self) -> bytes:
        """JSON in a fixed key order. Half a surrogate pair, which no server accepts, becomes a question mark."""
        text = json.dumps(self.body, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)
        return text.encode("utf-8", "replace")


# Not sampling: no model lists them, so a list of supported parameters says nothing about them.
_ROUTING = frozenset(
    {"models", "plugins", "service_tier", "cache_control", "prompt_cache_key", "prompt_cache_options", "preset"}
    | {"modalities", "image_config", "prediction", "debug", "max_tool_calls", "deferred_tools"}
    | {"stop_server_tools_when"}
)
# `extra` may not replace these: they have a field of their own, or are no-ops and dead names of the wire.
_RESERVED = frozenset(
    {"model", "messages", "prompt", "stream", "max_tokens", "max_completion_tokens", "temperature", "top_p", "stop"}
    | {"n", "seed", "tools", "tool_choice", "response_format", "user", "session_id", "metadata", "trace", "provider"}
    | {"usage", "stream_options", "route", "transforms"}
)
# A model that lists the second takes the first as well.
_IMPLIED_BY = {
    "reasoning_effort": "reasoning",
    "include_reasoning": "reasoning",
    "verbosity": "reasoning",
    "parallel_tool_calls": "tools",
    "tool_choice": "tools",
    "response_format": "structured_outputs",
    "top_logprobs": "logprobs",
}
_REASONING_NAMES = frozenset({"reasoning", "reasoning_effort", "include_reasoning"})


def build(
    request: ChatRequest,
    *,
    kind: EndpointKind = "openrouter",
    stream: bool = False,
    adjustments: Adjustments = UNADJUSTED,
) -> Question:
    """The body for this request. When nothing is asked for it has exactly the seed's six keys, in the seed's order."""
    wanted, dropped = _parameters(request)
    for name in [name for name in wanted if not _supported(name, request.supported_parameters)]:
        dropped.append(name)
        del wanted[name]
    for group in request.exclusive_parameters:
        for name in [name for name in group if name in wanted][1:]:
            dropped.append(name)
            del wanted[name]
    refused = frozenset(adjustments.dropped)
    if "reasoning" in refused:
        refused |= _REASONING_NAMES
    for name in [name for name in wanted if name in refused]:
        dropped.append(name)
        del wanted[name]
    if "tools" not in wanted:
        # Without tools these two are refused, so they go with them.
        for name in ("tool_choice", "parallel_tool_calls"):
            wanted.pop(name, None)

    limit = _limit(request, adjustments)
    body: dict[str, Any] = {"model": request.model, "messages": [_message(message) for message in request.messages]}
    body[adjustments.limit_name or _limit_name(request.supported_parameters)] = limit
    for name in ("temperature", "top_p"):
        if name in wanted:
            body[name] = wanted.pop(name)
    body["stream"] = stream
    asked = {name: body[name] for name in ("temperature", "top_p") if name in body}
    parameters = {"max_tokens": limit} | asked | wanted
    body |= wanted
    if kind == "openrouter":
        about: tuple[str, ...] = ("user", "session_id", "metadata", "trace", "provider")
    else:
        about = ("user",)
        if stream and "stream_options" not in refused:
            # A no-op at OpenRouter, which always counts; other servers count only when asked.
            body["stream_options"] = {"include_usage": True}
    told = {name: value for name in about if (value := getattr(request, name)) is not None}
    dropped.extend(name for name in told if name in refused)
    body |= {name: value for name, value in told.items() if name not in refused}
    return Question(body, parameters, tuple(dict.fromkeys(dropped)))


def _parameters(request: ChatRequest) -> tuple[dict[str, Any], list[str]]:
    sampling = request.sampling
    stops = [stop for stop in sampling.stop if stop]
    wanted: dict[str, Any] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop": stops[:MOST_STOPS] or None,
        "seed": sampling.seed,
    }
    dropped = [f"stop[{MOST_STOPS}:]"] if len(stops) > MOST_STOPS else []
    for name in sorted(sampling.extra):
        if name in _RESERVED:
            dropped.append(name)
        else:
            wanted[name] = sampling.extra[name]
    wanted |= {
        "tools": list(request.tools) if request.tools else None,
        "tool_choice": request.tool_choice,
        "response_format": request.response_format,
    }
    return {name: value for name, value in wanted.items() if value is not None}, dropped


def _supported(name: str, supported: frozenset[str] | None) -> bool:
    if supported is None or name in supported or name in _ROUTING:
        return True
    return _IMPLIED_BY.get(name) in supported


def _limit_name(supported: frozenset[str] | None) -> str:
    if supported is not None and "max_tokens" not in supported and "max_completion_tokens" in supported:
        return "max_completion_tokens"
    return "max_tokens"


def _limit(request: ChatRequest, adjustments: Adjustments) -> int:
    limit = request.sampling.max_tokens if request.sampling.max_tokens is not None else DEFAULT_MAX_TOKENS
    bounds = [request.max_output_tokens, adjustments.max_tokens]
    if request.context_length is not None:
        room = request.context_length - estimated_tokens(request.messages)
        # A prompt that fills the window is for the model to judge: the estimate is too rough to refuse it here.
        bounds.append(room if room >= LEAST_MAX_TOKENS else None)
    return min([limit, *(bound for bound in bounds if bound is not None and bound > 0)])


def estimated_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """A rough count of the prompt's tokens: one per four characters, and four per message."""
    return sum(4 + len(text_of(message.get("content"))) // 4 for message in messages)


def _message(message: Mapping[str, Any]) -> Mapping[str, Any]:
    # Some providers refuse an empty text beside tool calls; null is what they accept.
    if message.get("tool_calls") and message.get("content") == "":
        return {**message, "content": None}
    return message


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens by the model's own tokenizer, and dollars. None is "not said"; prompt_tokens include the cached ones."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal | None = None
    # With a key of one's own (BYOK) `cost` is only OpenRouter's fee; this is what the provider charges.
    upstream_cost: Decimal | None = None
    is_byok: bool = False
    # Counted by whoever asked, because the server said nothing.
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. `model` and `provider` are as answered: often a dated slug, and the upstream that served it.

    `outcome` truncated means the connection broke or the provider failed after text had been shown; an answer that
    reached its own token limit is complete, with finish_reason length. finish_reason is None only when truncated.
    A refusal is an answer: finish_reason content_filter, with the model's words in `refusal`.
    """

    id: str | None
    model: str | None
    provider: str | None
    content: str
    finish_reason: FinishReason | None
    native_finish_reason: str | None = None
    reasoning: str | None = None
    reasoning_details: tuple[Mapping[str, Any], ...] | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    refusal: str | None = None
    outcome: Outcome = "complete"
    usage: Usage | None = None
    first_token_ms: int | None = None
    dropped: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One HTTP call, for the ledger: how it went, what it may have cost, and what the policy did next.

    `code` is our error code, CANCELLED, or None. `billed_unknown`: the call may have been charged although no usage
    came back; then `characters` (streamed so far), `generation_id` and `billing_stops` (does this upstream stop
    charging on a cancel; None: not known, assume it does not) are the basis of an estimate.
    """

    model: str
    status: int | None
    code: str | None
    duration_ms: int
    action: Action
    first_token_ms: int | None = None
    generation_id: str | None = None
    upstream_provider: str | None = None
    usage: Usage | None = None
    retry_after_s: float | None = None
    billed_unknown: bool = False
    characters: int = 0
    billing_stops: bool | None = None
    cause_text: str = ""


def text_of(content: object) -> str:
    """The text of a content field: a string, or the text parts of a list."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "".join(text for text in texts if isinstance(text, str))
