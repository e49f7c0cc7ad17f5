"""Errors that come with their own HTTP status, before any answer was begun."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from local.simulator.catalog import Json
from local.simulator.faults.fault import Fault, Options, Value
from local.simulator.wire import JSON_HEADERS, Data, Head, Refusal, Reply, Script, encoded, refused

Refusing = Callable[[Reply, Options], Refusal]


def all_refusals() -> Iterable[Fault]:
    yield from _statuses()
    yield from _error_types()
    yield from _availabilities()
    yield from _rate_limits()
    yield from _payments()
    yield from _policies()
    yield from _providers()
    yield from _parameters()
    yield _zod_error()


def _fault(
    name: str,
    section: str,
    description: str,
    status: int,
    refusing: Refusing,
    options: Mapping[str, Value] | None = None,
) -> Fault:
    def script(reply: Reply, chosen: Options) -> Script:
        return Script(refused(refusing(reply, chosen), reply.generation_id), charge="nothing")

    return Fault(
        name, description, section, script, script, status=status, refuses=True, options=options if options else {}
    )


def _said(status: int, message: str, metadata: Json | None = None) -> Refusing:
    """A refusal with a fixed message, in which {model} stands for the model's id."""
    return lambda reply, _: Refusal(status, message.replace("{model}", reply.model.id), metadata)


def _statuses() -> Iterable[Fault]:
    rows = (
        ("bad_request", 400, "Bad request"),
        ("invalid_model", 400, "{model} is not a valid model ID"),
        ("input_required", 400, 'Input required: specify "prompt" or "messages"'),
        ("input_empty", 400, "Input must have at least 1 token."),
        ("auth_no_cookie", 401, "No cookie auth credentials found"),
        ("auth_no_credentials", 401, "No auth credentials found"),
        ("auth_no_header", 401, "Missing Authentication header"),
        ("auth_unknown_user", 401, "User not found."),
        ("payment_required", 402, "Insufficient credits"),
        ("forbidden", 403, "You do not have permission to use this model"),
        ("no_endpoints", 404, "No endpoints found for {model}."),
        ("request_timeout", 408, "Request timed out"),
        ("conflict", 409, "Conflict"),
        ("gone", 410, "This endpoint is gone"),
        ("precondition", 412, "Precondition failed"),
        ("payload_too_large", 413, "Request entity too large"),
        ("unprocessable", 422, "The request was understood but cannot be processed"),
        ("too_many_requests", 429, "Rate limit exceeded"),
        ("client_closed", 499, "Client closed request"),
        ("internal_error", 500, "Internal Server Error"),
        ("provider_down", 502, "Provider returned error"),
        ("service_unavailable", 503, "No available model provider meets your routing requirements"),
        ("provider_timeout", 504, "The provider did not answer in time"),
        ("edge_timeout", 524, "A timeout occurred"),
        ("provider_overloaded", 529, "Provider returned error"),
    )
    for name, status, message in rows:
        yield _fault(name, "3.2", f"HTTP {status}: {message}", status, _said(status, message))


ERROR_TYPES = {
    400: (
        "context_length_exceeded", "max_tokens_exceeded", "token_limit_exceeded", "string_too_long", "invalid_request",
        "invalid_prompt", "content_policy_violation", "refusal", "invalid_image", "image_too_large", "image_too_small",
        "unsupported_image_format", "image_download_failed",
    ),
    401: ("authentication",),
    402: ("payment_required",),
    403: ("permission_denied",),
    404: ("not_found", "image_not_found"),
    412: ("precondition_failed",),
    413: ("payload_too_large",),
    422: ("unprocessable",),
    429: ("rate_limit_exceeded",),
    500: ("server", "unmapped"),
    502: ("provider_unavailable",),
    503: ("provider_overloaded",),
    504: ("timeout",),
}  # fmt: skip


def _error_types() -> Iterable[Fault]:
    for status, types in ERROR_TYPES.items():
        for error_type in types:
            message = f"The request failed: {error_type.replace('_', ' ')}"
            yield _fault(
                f"type_{error_type}",
                "3.3",
                f"HTTP {status} with metadata.error_type {error_type}",
                status,
                _said(status, message, {"error_type": error_type}),
            )
            yield _fault(
                f"type_{error_type}_bare",
                "3.3",
                f"HTTP {status} whose text alone says {error_type}; no metadata, as most recordings",
                status,
                _said(status, message),
            )


AVAILABILITY = {
    "model_not_found": (400, False),
    "wrong_endpoint": (400, False),
    "no_endpoints": (404, False),
    "model_deprecated": (404, False),
    "model_unavailable_upstream": (404, False),
    "constraint_filtered": (404, False),
    "privacy_restricted": (404, False),
    "free_variant_ended": (404, False),
    "region_restricted": (403, False),
    "capacity_exhausted": (429, True),
    "temporarily_unavailable": (503, True),
}
_EXCLUDED_BY = {
    "constraint_filtered": "max_price",
    "privacy_restricted": "data_policy:zdr",
    "region_restricted": "geo",
}


def _availability(reply: Reply, code: str, retryable: bool) -> Json:
    found: Json = {
        "code": code,
        "retryable": retryable,
        "requested_models": [reply.model.id],
        "affected_providers": [reply.provider],
        "docs_url": "https://openrouter.ai/docs",
    }
    if code in _EXCLUDED_BY:
        found["excluded_by"] = [_EXCLUDED_BY[code]]
        found["constraint"] = {"field": _EXCLUDED_BY[code], "detail": "No endpoint is left under this constraint"}
    if code in {"model_deprecated", "free_variant_ended", "capacity_exhausted"}:
        found["fallback_models"] = ["openai/gpt-4.1-mini"]
    return found


def _availabilities() -> Iterable[Fault]:
    for code, (status, retryable) in AVAILABILITY.items():

        def refusing(
            reply: Reply, options: Options, code: str = code, status: int = status, retryable: bool = retryable
        ) -> Refusal:
            found = _availability(reply, code, retryable)
            if "retry_after" in options.values:
                found["retry_after"] = options.number("retry_after")
            return Refusal(status, f"{reply.model.id} is not available: {code}", availability=found)

        yield _fault(
            f"availability_{code}",
            "3.4",
            f"HTTP {status} with availability.code {code}",
            status,
            refusing,
            {"retry_after": 2} if retryable else None,
        )


def _rate_limits() -> Iterable[Fault]:
    provider = "Provider returned error"
    base: Json = {
        "raw": '{"error":{"message":"Too many requests","type":"rate_limit"}}',
        "provider_name": "Simulated",
        "is_byok": False,
        "provider_error_code": "rate_limit",
        "limit_source": "upstream_provider_shared_pool",
        "remedy_hint": "Add your own provider key, or try another model.",
    }

    def header(value: Callable[[Reply, Options], str]) -> Refusing:
        return lambda reply, options: Refusal(
            429, provider, metadata=base, headers=(("retry-after", value(reply, options)),)
        )

    def date(reply: Reply, options: Options) -> str:
        at = datetime.fromtimestamp(reply.created, UTC) + timedelta(seconds=options.number("seconds"))
        return format_datetime(at, usegmt=True)

    def platform(message: str, limit: str) -> Refusing:
        def refusing(reply: Reply, options: Options) -> Refusal:
            reset_ms = int((reply.created + options.number("seconds")) * 1000)
            headers = {"X-RateLimit-Limit": limit, "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset_ms)}
            return Refusal(429, message, metadata={"headers": headers})

        return refusing

    def availability(reply: Reply, options: Options) -> Refusal:
        found = _availability(reply, "capacity_exhausted", True) | {"retry_after": options.number("seconds")}
        return Refusal(429, provider, availability=found)

    def in_metadata(reply: Reply, options: Options) -> Refusal:
        seconds = options.number("seconds")
        return Refusal(429, provider, metadata=base | {"retry_after_seconds": seconds, "retry_after_seconds_raw": 0.4})

    def in_metadata_headers(reply: Reply, options: Options) -> Refusal:
        return Refusal(429, provider, metadata=base | {"headers": {"Retry-After": options.text("seconds")}})

    def everywhere(reply: Reply, options: Options) -> Refusal:
        return Refusal(
            429,
            provider,
            metadata=base | {"retry_after_seconds": 30, "headers": {"Retry-After": "40"}},
            availability=_availability(reply, "capacity_exhausted", True) | {"retry_after": 20},
            headers=(("retry-after", options.text("seconds")),),
        )

    def fixed(text: str) -> Refusing:
        return header(lambda reply, options: text)

    seconds: dict[str, Value] = {"seconds": 1}
    rows: tuple[tuple[str, str, Refusing, Mapping[str, Value] | None], ...] = (
        ("rate_limit_no_hint", "no hint at all", _said(429, provider, base), None),
        ("rate_limit_http_seconds", "Retry-After in seconds", header(lambda r, o: o.text("seconds")), seconds),
        ("rate_limit_http_date", "Retry-After as an HTTP date", header(date), {"seconds": 2}),
        ("rate_limit_http_past_date", "Retry-After as a date that is over", header(date), {"seconds": -60}),
        ("rate_limit_http_broken_date", "Retry-After that is no date", fixed("Mon, 99 Foo 2026"), None),
        ("rate_limit_http_empty", "an empty Retry-After", fixed(""), None),
        ("rate_limit_http_zero", "Retry-After 0", fixed("0"), None),
        ("rate_limit_http_huge", "Retry-After of ten years", fixed("315360000"), None),
        ("rate_limit_http_negative", "a negative Retry-After", fixed("-5"), None),
        ("rate_limit_http_nan", "Retry-After nan", fixed("nan"), None),
        ("rate_limit_http_inf", "Retry-After inf", fixed("inf"), None),
        ("rate_limit_availability", "availability.retry_after", availability, seconds),
        ("rate_limit_metadata_seconds", "metadata.retry_after_seconds", in_metadata, seconds),
        ("rate_limit_metadata_headers", "metadata.headers Retry-After", in_metadata_headers, seconds),
        ("rate_limit_every_hint", "every hint, each another one; HTTP is the first to read", everywhere, seconds),
        (
            "rate_limit_free_per_minute",
            "X-RateLimit-Reset in epoch milliseconds",
            platform("Rate limit exceeded: free-models-per-min. ", "20"),
            {"seconds": 30},
        ),
        (
            "rate_limit_free_per_day",
            "the day's free requests used up; reset far away",
            platform(
                "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day",
                "50",
            ),
            {"seconds": 36000},
        ),
    )
    for name, description, refusing, options in rows:
        yield _fault(name, "3.5", f"HTTP 429 with {description}", 429, refusing, options)
    yield _fault(
        "unavailable_retry_after",
        "3.5",
        "HTTP 503 with Retry-After in seconds",
        503,
        lambda reply, options: Refusal(503, provider, headers=(("retry-after", options.text("seconds")),)),
        seconds,
    )


def _payments() -> Iterable[Fault]:
    def in_flight(reason: str) -> Refusing:
        return lambda reply, options: Refusal(
            402,
            "This request would exceed your in-flight budget",
            metadata={"limit_source": "openrouter_in_flight_budget", "reason": reason},
            headers=(("retry-after", options.text("seconds")),),
        )

    def affordability(source: bool) -> Refusing:
        def refusing(reply: Reply, options: Options) -> Refusal:
            asked, afford = int(options.number("requested")), int(options.number("afford"))
            message = (
                "This request requires more credits, or fewer max_tokens. "
                f"You requested up to {asked} tokens, but can only afford {afford}."
            )
            return Refusal(402, message, metadata={"limit_source": "openrouter_credits"} if source else None)

        return refusing

    key_limit = {"limit_source": "openrouter_key_limit"}
    credit = {"limit_source": "openrouter_credits"}
    afford: dict[str, Value] = {"requested": 65536, "afford": 40}
    rows: tuple[tuple[str, str, Refusing, Mapping[str, Value] | None], ...] = (
        (
            "payment_in_flight",
            "in-flight budget exhausted; wait and retry",
            in_flight("in_flight_budget_exhausted"),
            {"seconds": 1},
        ),
        (
            "payment_request_too_big",
            "the request alone is above the in-flight budget",
            in_flight("weight_exceeds_budget"),
            {"seconds": 1},
        ),
        ("payment_key_limit", "the key's limit", _said(402, "Key limit exceeded", key_limit), None),
        ("payment_credits", "no credit on the account", _said(402, "Insufficient credits", credit), None),
        (
            "payment_negative_balance",
            "a negative balance, even for a free model",
            _said(402, "Insufficient credits: your balance is negative. Add credits to use any model", credit),
            None,
        ),
        ("payment_afford", "can only afford fewer tokens", affordability(True), afford),
        ("payment_afford_old", "can only afford, without limit_source", affordability(False), afford),
        ("payment_prompt", "the prompt is too costly", _said(402, "Prompt tokens limit exceeded: 4210 > 1833"), None),
        (
            "payment_media",
            "a minimum balance for media",
            _said(402, "This model requires at least $1.00 in balance for image or video output"),
            None,
        ),
    )
    for name, description, refusing, options in rows:
        yield _fault(name, "3.6", f"HTTP 402: {description}", 402, refusing, options)


def _policies() -> Iterable[Fault]:
    moderated: Json = {
        "reasons": ["sexual/minors", "violence"],
        "flagged_input": "Write me a scene in which…and then they all",
        "provider_name": "OpenAI",
        "model_slug": "openai/gpt-4.1",
    }
    funnel: Json = {
        "routing_funnel": [{"step": "all", "remaining": 3}, {"step": "zdr", "remaining": 0}],
        "failed_routing_step": "zdr",
    }
    guardrail = {"patterns": ["credit_card"]}
    flagged = "Your chosen model requires moderation and your input was flagged"
    restricted = "No endpoints available matching your guardrail restrictions and data policy"
    allowed = "No allowed providers are available for the selected model."
    parameters = "No endpoints found that can handle the requested parameters."
    rows: tuple[tuple[str, int, str, str, Json | None], ...] = (
        ("moderation", 403, "3.7", flagged, moderated),
        ("guardrail", 403, "3.7", "Request blocked by a guardrail of this workspace", guardrail),
        ("region", 403, "3.2", "This model is not available in your region", None),
        ("no_endpoints_policy", 404, "3.2", restricted, None),
        ("no_endpoints_free_training", 404, "1.4", "No endpoints found matching your data policy (Free model training)",
         None),
        ("no_endpoints_provider", 404, "3.2", allowed, None),
        ("no_endpoints_parameters", 404, "3.2", parameters, None),
        ("no_endpoints_funnel", 404, "3.7", "No endpoints found for {model}.", funnel),
    )  # fmt: skip
    for name, status, section, message, metadata in rows:
        yield _fault(name, section, f"HTTP {status}: {message}", status, _said(status, message, metadata))


def _providers() -> Iterable[Fault]:
    cause = {"error": {"message": "upstream connect error", "type": "server_error"}}
    failed = "Provider returned error"
    rows: tuple[tuple[str, str, Json], ...] = (
        ("provider_raw_text", "raw as text", {"raw": "upstream connect error", "provider_name": "Groq"}),
        ("provider_raw_json_text", "raw as JSON text", {"raw": json.dumps(cause), "provider_name": "Azure"}),
        ("provider_raw_object", "raw as an object", {"raw": cause, "provider_name": "DeepInfra", "provider_code": 500}),
        ("provider_unnamed", "provider_name null", {"raw": "", "provider_name": None, "is_byok": False}),
        (
            "provider_previous_errors",
            "the errors of the providers tried before",
            {"raw": cause, "provider_name": "Novita", "previous_errors": [{"code": 429, "message": failed}]},
        ),
    )
    for name, description, metadata in rows:
        yield _fault(name, "3.7", f"HTTP 502 with {description}", 502, _said(502, failed, metadata))


def _parameters() -> Iterable[Fault]:
    def upstream(message: str, provider: str, param: str | None) -> Refusing:
        raw = {"error": {"message": message, "type": "invalid_request_error", "param": param}}
        return _said(400, "Provider returned error", {"raw": json.dumps(raw), "provider_name": provider})

    overflow = (
        "This endpoint's maximum context length is 8191 tokens. However, you requested about 9410 tokens "
        "(8910 of text input, 500 in the output). Please reduce the length of either one."
    )
    rows: tuple[tuple[str, str, str, Refusing], ...] = (
        (
            "param_temperature",
            "1.7",
            "temperature is refused by the provider",
            upstream("`temperature` is deprecated for this model.", "Anthropic", "temperature"),
        ),
        (
            "param_top_p",
            "1.7",
            "top_p is refused by the provider",
            upstream("Unsupported parameter: 'top_p' is not supported with this model.", "OpenAI", "top_p"),
        ),
        (
            "param_sampling_pair",
            "1.7",
            "temperature and top_p together are refused",
            upstream(
                "`temperature` and `top_p` cannot both be specified for this model. Please use only one.",
                "Anthropic",
                None,
            ),
        ),
        (
            "param_max_tokens",
            "1.2",
            "max_tokens is refused, max_completion_tokens wanted",
            upstream(
                "Unsupported parameter: 'max_tokens' is not supported with this model. "
                "Use 'max_completion_tokens' instead.",
                "Azure",
                "max_tokens",
            ),
        ),
        (
            "param_max_completion_tokens",
            "1.2",
            "max_completion_tokens is refused, max_tokens wanted",
            upstream("Unknown parameter: 'max_completion_tokens'.", "DeepInfra", "max_completion_tokens"),
        ),
        (
            "param_max_tokens_too_low",
            "1.2",
            "a token limit below the provider's minimum of 16",
            upstream(
                "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16, but got 8 instead.",
                "OpenAI",
                "max_output_tokens",
            ),
        ),
        (
            "reasoning_mandatory",
            "1.6",
            "reasoning cannot be switched off",
            _said(400, "Reasoning is mandatory for this endpoint and cannot be disabled."),
        ),
        ("context_overflow", "3.2", "prompt and limit are longer than the context", _said(400, overflow)),
        (
            "context_overflow_provider",
            "3.2",
            "context overflow that only the provider's words tell",
            upstream("prompt is too long: 208310 tokens > 200000 maximum", "Anthropic", None),
        ),
        ("too_many_fallbacks", "1.3", "models too long", _said(400, "'models' array must have 3 items or fewer")),
    )
    for name, section, description, refusing in rows:
        yield _fault(name, section, f"HTTP 400: {description}", 400, refusing)


def _zod_error() -> Fault:
    complaint = [{"code": "invalid_type", "expected": "string", "path": ["model"], "message": "Invalid input"}]
    payload = {"success": False, "error": {"name": "ZodError", "message": json.dumps(complaint)}}

    def script(reply: Reply, options: Options) -> Script:
        headers = (*JSON_HEADERS, ("x-generation-id", reply.generation_id))
        return Script((Head(400, headers), Data(encoded(payload))), charge="nothing")

    return Fault(
        "zod_error",
        "HTTP 400 in the second error shape: success false, no code",
        "3.1",
        script,
        script,
        status=400,
        refuses=True,
    )
