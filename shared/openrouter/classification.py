"""Which failure an answer is: a status, its headers and a body, or an error object inside a 200 or a stream; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from shared.openrouter import retry_after
from shared.openrouter.errors import (
    BadRequest,
    CallFailed,
    CannotAfford,
    InFlightBudget,
    KeyLimit,
    KeyRejected,
    Misdirected,
    Moderated,
    NoEndpoints,
    NotPermitted,
    OutOfCredit,
    Overloaded,
    ParameterRefused,
    PromptTooCostly,
    PromptTooLong,
    ReasoningMandatory,
    RequestTooHeavy,
    ServerFault,
    Throttled,
    TimedOut,
    UnknownModel,
)

Kind = TypeVar("Kind", bound=CallFailed)

_CAUSE_LENGTH = 600


@dataclass(frozen=True, slots=True)
class Envelope:
    """What surrounds a body: the status and headers it came with, when (UTC epoch seconds), and secrets to redact."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    now: float = 0.0
    secrets: tuple[str, ...] = field(default=(), repr=False)


def from_response(envelope: Envelope, body: bytes) -> CallFailed:
    """The failure behind an answer whose status is not 200."""
    if 300 <= envelope.status < 400:
        return _made(Misdirected, envelope, {}, "redirected, which is never followed")
    try:
        answer = json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        # A proxy in between speaks HTML or nothing; its page says little, so only the beginning is kept.
        return from_error({"message": body[:2000].decode("utf-8", "replace")}, envelope)
    if not isinstance(answer, dict):
        return from_error({"message": body[:2000].decode("utf-8", "replace")}, envelope)
    return from_error(answer["error"] if answer.get("error") else answer, envelope)


def from_error(error: object, envelope: Envelope) -> CallFailed:
    """The failure behind an error object: of a refusal, of a 200 that is none, or of an event in a stream.

    Read in this order, because the later ones are always there but say less: availability code, error type (or a code
    given as a word), status with `limit_source`, and the text with the provider's raw answer.
    """
    said = error if isinstance(error, Mapping) else {"message": str(error)}
    status = _status(said, envelope)
    text = _text(said)
    words = [
        word.lower()
        for word in (
            _mapping(said.get("availability")).get("code"),
            _mapping(said.get("metadata")).get("error_type"),
            said.get("code"),
            said.get("type"),
        )
        if isinstance(word, str)
    ]
    known = next((word for word in words if word in _BY_WORD), None)
    failure = _classify(said, known, status, text, envelope)
    failure.error_type = known
    return failure


def _classify(said: Mapping[str, Any], known: str | None, status: int, text: str, envelope: Envelope) -> CallFailed:
    kind = _BY_WORD[known] if known else None
    if kind is None:
        kind = _by_status(status)
    if kind is _PAYMENT or (status == 402 and not known):
        return _payment(said, text, envelope)
    if kind is _REFUSAL:
        return _refusal(said, text, envelope)
    if kind is _INVALID:
        return _invalid(said, text, envelope)
    if kind is _MISSING:
        # A funnel shows that the model exists and which of our wishes emptied it.
        ours = "failed_routing_step" in _mapping(said.get("metadata")) or _OUR_WISHES.search(text)
        return _made(NoEndpoints if ours else UnknownModel, envelope, said, text)
    assert isinstance(kind, type)
    return _made(kind, envelope, said, text)


# Four meanings need a second look at the text; the rest is decided by a word or a status alone.
_PAYMENT, _REFUSAL, _INVALID, _MISSING = "payment", "refusal", "invalid", "missing"

_BY_WORD: Mapping[str, type[CallFailed] | str] = {
    # availability codes
    "model_not_found": UnknownModel,
    "wrong_endpoint": UnknownModel,
    "model_deprecated": UnknownModel,
    "model_unavailable_upstream": UnknownModel,
    "free_variant_ended": UnknownModel,
    "no_endpoints": _MISSING,
    "constraint_filtered": NoEndpoints,
    "privacy_restricted": NoEndpoints,
    "region_restricted": NotPermitted,
    "capacity_exhausted": Throttled,
    "temporarily_unavailable": Overloaded,
    # error types
    "context_length_exceeded": PromptTooLong,
    "max_tokens_exceeded": PromptTooLong,
    "token_limit_exceeded": PromptTooLong,
    "string_too_long": PromptTooLong,
    "invalid_request": _INVALID,
    "invalid_prompt": _INVALID,
    "content_policy_violation": Moderated,
    "refusal": Moderated,
    "invalid_image": BadRequest,
    "image_too_large": BadRequest,
    "image_too_small": BadRequest,
    "unsupported_image_format": BadRequest,
    "image_download_failed": BadRequest,
    "image_not_found": BadRequest,
    "authentication": KeyRejected,
    "payment_required": _PAYMENT,
    "permission_denied": _REFUSAL,
    "not_found": _MISSING,
    "precondition_failed": BadRequest,
    "payload_too_large": BadRequest,
    "unprocessable": _INVALID,
    "rate_limit_exceeded": Throttled,
    "server": ServerFault,
    "unmapped": ServerFault,
    "provider_unavailable": ServerFault,
    "provider_overloaded": Overloaded,
    "timeout": TimedOut,
    # words that other servers of the same wire put into `code` or `type`
    "content_filter": Moderated,
    "invalid_request_error": _INVALID,
    "badrequesterror": _INVALID,
    "unsupported_parameter": _INVALID,
    "unsupported_value": _INVALID,
    "authentication_error": KeyRejected,
    "invalid_api_key": KeyRejected,
    "insufficient_quota": OutOfCredit,
    "permission_error": _REFUSAL,
    "not_found_error": _MISSING,
    "notfounderror": _MISSING,
    "rate_limit_error": Throttled,
    "server_error": ServerFault,
    "api_error": ServerFault,
    "internal_error": ServerFault,
    "overloaded_error": Overloaded,
    "service_unavailable": Overloaded,
}

_BY_STATUS: Mapping[int, type[CallFailed] | str] = {
    400: _INVALID,
    401: KeyRejected,
    402: _PAYMENT,
    403: _REFUSAL,
    404: _MISSING,
    408: TimedOut,
    413: _INVALID,
    422: _INVALID,
    429: Throttled,
    503: Overloaded,
    504: TimedOut,
    524: TimedOut,
    529: Overloaded,
}


def _by_status(status: int) -> type[CallFailed] | str:
    return _BY_STATUS.get(status) or (BadRequest if 400 <= status < 500 else ServerFault)


def _status(said: Mapping[str, Any], envelope: Envelope) -> int:
    """The status that counts: the HTTP one, or inside a 200 the code of the error (a number, or a number as text)."""
    if envelope.status != 200:
        return envelope.status
    code = said.get("code")
    if isinstance(code, str) and re.fullmatch(r"\d{3}", code):
        code = int(code)
    if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599:
        return code
    # The validation error of some routes has no code at all; it is always a 400.
    return 400 if said.get("name") == "ZodError" else 502


_CONTEXT = re.compile(
    r"context[ _-]?(length|window|size|limit)|maximum context|(prompt|input) is too long|too many (input )?tokens"
    r"|reduce the length|exceeds? the (maximum|available) (number of |context |input )?(tokens|size|length)",
    re.IGNORECASE,
)
_UNKNOWN_MODEL = re.compile(
    r"not a valid model|model.{0,120}(not found|does not exist)|unknown model|no such model", re.IGNORECASE
)
_POLICY = re.compile(
    r"content[ _-]?(policy|filter|management policy)|moderation|flagged|safety system|responsibleaipolicy"
    r"|usage polic|violat\w+ [^.]{0,60}polic",
    re.IGNORECASE,
)
_MANDATORY_REASONING = re.compile(r"reasoning is mandatory", re.IGNORECASE)
_OUR_WISHES = re.compile(
    r"polic(y|ies)|guardrail|endpoints found (that|matching)|providers? (have been|are) ignored|restriction"
    r"|allowed providers",
    re.IGNORECASE,
)
_REFUSING = re.compile(
    r"unsupported|not support|n't support|unrecogni[sz]ed|unknown|deprecated|not permitted|not allowed"
    r"|cannot both|can't both|only one|incompatible|unexpected|extra inputs|must be|range|invalid value|not available",
    re.IGNORECASE,
)
# Longest first, so that `max_completion_tokens` is not read as a part of another name.
_PARAMETERS = (
    "temperature|top_p|top_k|top_a|min_p|stop|seed|frequency_penalty|presence_penalty|repetition_penalty|logit_bias"
    "|logprobs|top_logprobs|max_tokens|max_completion_tokens|tools|tool_choice|parallel_tool_calls|response_format"
    "|reasoning|reasoning_effort|include_reasoning|verbosity|stream_options|prediction|service_tier|user|metadata"
)
# Words of everyday English count only when they are quoted or stand in code marks.
_PLAIN_WORDS = frozenset({"stop", "seed", "tools", "reasoning", "prediction", "user", "metadata", "verbosity"})
_NAMED = re.compile(rf"(?P<mark>[`'\"]?)\b(?P<name>{_PARAMETERS})\b(?P<end>[`'\"]?)")


_LIMIT_NAMES = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_NOT_KNOWN = re.compile(r"unsupported param|not support|unrecogni[sz]ed|unknown|extra inputs", re.IGNORECASE)


def refused_parameter(said: Mapping[str, Any], text: str) -> tuple[str, str | None] | None:
    """Which parameter a 400 refuses, and the name wanted instead; None when it names none."""
    field_ = said.get("param") or _mapping(_raw(said).get("error")).get("param")
    if isinstance(field_, str) and re.fullmatch(_PARAMETERS, field_):
        named = [field_]
    else:
        named = [
            hit["name"]
            for hit in _NAMED.finditer(text)
            if hit["name"] not in _PLAIN_WORDS or (hit["mark"] and hit["mark"] == hit["end"])
        ]
    if not named or not _REFUSING.search(text):
        return None
    other = _LIMIT_NAMES.get(named[0])
    if other is not None:
        # A limit is always sent, so it can only change its name; a wrong value of it is not for us to mend.
        return (named[0], other) if other in named or _NOT_KNOWN.search(text) else None
    if {"temperature", "top_p"} <= set(named[:2]):
        return "top_p", None
    return named[0], None


def _invalid(said: Mapping[str, Any], text: str, envelope: Envelope) -> CallFailed:
    if _MANDATORY_REASONING.search(text):
        return _made(ReasoningMandatory, envelope, said, text)
    if _CONTEXT.search(text):
        return _made(PromptTooLong, envelope, said, text)
    if _UNKNOWN_MODEL.search(text):
        return _made(UnknownModel, envelope, said, text)
    parameter = refused_parameter(said, text)
    if parameter is not None:
        refused = _made(ParameterRefused, envelope, said, text)
        refused.parameter, refused.instead = parameter
        return refused
    if _POLICY.search(text):
        return _made(Moderated, envelope, said, text)
    return _made(BadRequest, envelope, said, text)


_KEY_LIMIT = re.compile(r"key limit exceeded|openrouter_key_limit", re.IGNORECASE)


def _refusal(said: Mapping[str, Any], text: str, envelope: Envelope) -> CallFailed:
    metadata = _mapping(said.get("metadata"))
    if _KEY_LIMIT.search(text) or metadata.get("limit_source") == "openrouter_key_limit":
        return _made(KeyLimit, envelope, said, text)
    if "patterns" not in metadata and ("reasons" in metadata or "flagged_input" in metadata or _POLICY.search(text)):
        return _made(Moderated, envelope, said, text)
    return _made(NotPermitted, envelope, said, text)


_AFFORD = re.compile(r"can only afford (\d{1,9})", re.IGNORECASE)
_CANNOT_AFFORD = re.compile(r"can only afford|fewer max_tokens", re.IGNORECASE)
_PROMPT_COST = re.compile(r"prompt tokens limit exceeded", re.IGNORECASE)


def _payment(said: Mapping[str, Any], text: str, envelope: Envelope) -> CallFailed:
    metadata = _mapping(said.get("metadata"))
    source, reason = metadata.get("limit_source"), metadata.get("reason")
    if reason == "weight_exceeds_budget":
        return _made(RequestTooHeavy, envelope, said, text)
    if source == "openrouter_in_flight_budget" or reason == "in_flight_budget_exhausted":
        return _made(InFlightBudget, envelope, said, text)
    if source == "openrouter_key_limit" or _KEY_LIMIT.search(text):
        return _made(KeyLimit, envelope, said, text)
    # Before the source: newer bodies name the account's credit as the source of an affordability refusal too.
    if _CANNOT_AFFORD.search(text):
        failure = _made(CannotAfford, envelope, said, text)
        amount = _AFFORD.search(text)
        failure.affordable = int(amount[1]) if amount else None
        return failure
    if _PROMPT_COST.search(text):
        return _made(PromptTooCostly, envelope, said, text)
    return _made(OutOfCredit, envelope, said, text)


def _made(kind: type[Kind], envelope: Envelope, said: Mapping[str, Any], text: str) -> Kind:
    metadata = _mapping(said.get("metadata"))
    provider = metadata.get("provider_name")
    return kind(
        redacted(text, envelope.secrets),
        status=envelope.status,
        retry_after_s=retry_after.read(envelope.headers, said, now=envelope.now),
        generation_id=generation_id(envelope.headers),
        upstream_provider=provider if isinstance(provider, str) else None,
        told=True,
    )


def generation_id(headers: Mapping[str, str]) -> str | None:
    """The id of the generation as the headers tell it; refusals carry one too."""
    return next((value for name, value in headers.items() if name.lower() == "x-generation-id"), None)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _raw(said: Mapping[str, Any]) -> Mapping[str, Any]:
    """The provider's own answer, if it is an object or the text of one."""
    raw = _mapping(said.get("metadata")).get("raw")
    if isinstance(raw, str):
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            return {}
    return _mapping(raw)


def _text(said: Mapping[str, Any]) -> str:
    """Everything said in words, bounded. Not the flagged input: that is our user's text."""
    parts = [said.get("message"), said.get("detail"), said.get("error")]
    metadata = _mapping(said.get("metadata"))
    raw = metadata.get("raw")
    parts.append(raw if isinstance(raw, str) or raw is None else json.dumps(raw, default=str))
    parts.extend(metadata.get(name) for name in ("reason", "limit_source", "remedy_hint"))
    return " | ".join(part.strip()[:4000] for part in parts if isinstance(part, str) and part.strip())


_SECRETS = re.compile(
    r"\b(sk|rk|pk|key|tok)-[\w-]{8,}|\bBearer\s+[\w.~+/=-]+|\b(user|org|acct)[_-][A-Za-z0-9]{6,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.?[\w-]*|[\w.+-]+@[\w-]+\.[\w.]+",
    re.IGNORECASE,
)


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """The text for a log: one line, bounded, without keys, tokens, account ids and mail addresses."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[redacted]")
    return re.sub(r"\s+", " ", _SECRETS.sub("[redacted]", text)).strip()[:_CAUSE_LENGTH]
