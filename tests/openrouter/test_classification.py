"""Which failure an answer is, for every status, machine word and text that is known."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import errors as tree
from shared.openrouter import classification, errors
from shared.openrouter.classification import Envelope
from shared.openrouter.errors import CallFailed


def failure(status: int, error: Any = None, **headers: str) -> CallFailed:
    body = error if isinstance(error, bytes) else json.dumps({"error": error} if error is not None else {}).encode()
    return classification.from_response(Envelope(status, {n.replace("_", "-"): v for n, v in headers.items()}), body)


def inside(error: Any) -> CallFailed:
    return classification.from_error(error, Envelope(200))


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.KeyRejected),
        (402, errors.OutOfCredit),
        (403, errors.NotPermitted),
        (404, errors.UnknownModel),
        (405, errors.BadRequest),
        (408, errors.TimedOut),
        (409, errors.BadRequest),
        (410, errors.BadRequest),
        (412, errors.BadRequest),
        (413, errors.BadRequest),
        (422, errors.BadRequest),
        (429, errors.Throttled),
        (499, errors.BadRequest),
        (500, errors.ServerFault),
        (501, errors.ServerFault),
        (502, errors.ServerFault),
        (503, errors.Overloaded),
        (504, errors.TimedOut),
        (520, errors.ServerFault),
        (524, errors.TimedOut),
        (529, errors.Overloaded),
        (301, errors.Misdirected),
        (302, errors.Misdirected),
        (307, errors.Misdirected),
        (204, errors.ServerFault),
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        {"message": "No."},
        None,
        b"",
        b"<html><title>Oops</title></html>",
        b"[]",
        b'{"error": "No."}',
        b'{"message": "No."}',
        b'{"detail": "No."}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=["object", "empty object", "nothing", "html", "list", "error text", "bare message", "detail", "noise", "deep"],
)
def test_a_status_alone_decides_when_the_body_says_nothing(status: int, kind: type[CallFailed], body: Any) -> None:
    """Whatever the body is, the status still means the same."""
    assert type(failure(status, body)) is kind


@pytest.mark.parametrize(
    ("word", "status", "kind"),
    [
        ("context_length_exceeded", 400, errors.PromptTooLong),
        ("max_tokens_exceeded", 400, errors.PromptTooLong),
        ("token_limit_exceeded", 400, errors.PromptTooLong),
        ("string_too_long", 400, errors.PromptTooLong),
        ("invalid_request", 400, errors.BadRequest),
        ("invalid_prompt", 400, errors.BadRequest),
        ("content_policy_violation", 400, errors.Moderated),
        ("refusal", 400, errors.Moderated),
        ("invalid_image", 400, errors.BadRequest),
        ("image_too_large", 400, errors.BadRequest),
        ("authentication", 401, errors.KeyRejected),
        ("payment_required", 402, errors.OutOfCredit),
        ("permission_denied", 403, errors.NotPermitted),
        ("not_found", 404, errors.UnknownModel),
        ("precondition_failed", 412, errors.BadRequest),
        ("payload_too_large", 413, errors.BadRequest),
        ("unprocessable", 422, errors.BadRequest),
        ("rate_limit_exceeded", 429, errors.Throttled),
        ("server", 500, errors.ServerFault),
        ("unmapped", 500, errors.ServerFault),
        ("provider_unavailable", 502, errors.ServerFault),
        ("provider_overloaded", 503, errors.Overloaded),
        ("timeout", 504, errors.TimedOut),
    ],
)
def test_the_error_type_decides_inside_and_outside_a_200(word: str, status: int, kind: type[CallFailed]) -> None:
    """The stable machine key counts more than the status around it."""
    error = {"code": status, "message": "Provider returned error", "metadata": {"error_type": word}}

    for seen in (failure(status, error), failure(500, error), inside(error)):
        assert type(seen) is kind
        assert seen.error_type == word


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("model_not_found", 400, errors.UnknownModel),
        ("wrong_endpoint", 400, errors.UnknownModel),
        ("no_endpoints", 404, errors.UnknownModel),
        ("model_deprecated", 404, errors.UnknownModel),
        ("model_unavailable_upstream", 404, errors.UnknownModel),
        ("constraint_filtered", 404, errors.NoEndpoints),
        ("privacy_restricted", 404, errors.NoEndpoints),
        ("free_variant_ended", 404, errors.UnknownModel),
        ("region_restricted", 403, errors.NotPermitted),
        ("capacity_exhausted", 429, errors.Throttled),
        ("temporarily_unavailable", 503, errors.Overloaded),
        ("something_new", 503, errors.Overloaded),
    ],
)
def test_the_availability_code_decides_first(code: str, status: int, kind: type[CallFailed]) -> None:
    """It says most precisely why a model cannot be had; a new code leaves the status to decide."""
    error = {"code": status, "message": "Not available.", "availability": {"code": code, "retry_after": 2}}

    assert type(failure(status, error)) is kind
    assert failure(status, error).retry_after_s == 2.0


RAW = {"provider_name": "Some Provider", "is_byok": False}
TEXTS: list[tuple[int, Any, type[CallFailed]]] = [
    (400, "maker/gone is not a valid model ID", errors.UnknownModel),
    (400, "The model `gpt-9.9` does not exist", errors.UnknownModel),
    (400, "This endpoint's maximum context length is 8191 tokens. However, you requested 9000", errors.PromptTooLong),
    (400, "prompt is too long: 208310 tokens > 200000 maximum", errors.PromptTooLong),
    (400, "Input tokens exceed the configured limit: please reduce the length of the messages.", errors.PromptTooLong),
    (400, "request (9000 tokens) exceeds the available context size (4096 tokens)", errors.PromptTooLong),
    (400, "Reasoning is mandatory for this endpoint and cannot be disabled.", errors.ReasoningMandatory),
    (400, "Unsupported parameter: 'temperature' is not supported with this model.", errors.ParameterRefused),
    (400, "Your request was rejected by our safety system.", errors.Moderated),
    (400, "The response was filtered due to the content management policy", errors.Moderated),
    (400, 'Input required: specify "prompt" or "messages"', errors.BadRequest),
    (400, "'models' array must have 3 items or fewer", errors.BadRequest),
    (402, "Insufficient credits", errors.OutOfCredit),
    (402, "This request requires more credits, or fewer max_tokens. You requested up to 65536 tokens, but can "
     "only afford 1833.", errors.CannotAfford),
    (402, "Prompt tokens limit exceeded: 4210 > 1833", errors.PromptTooCostly),
    (402, "This model requires at least $1.00 in balance for image or video output", errors.OutOfCredit),
    (402, "Key limit exceeded (daily limit)", errors.KeyLimit),
    (403, "Key limit exceeded (total limit)", errors.KeyLimit),
    (403, "Your chosen model requires moderation and your input was flagged", errors.Moderated),
    (403, "This model is not available in your region", errors.NotPermitted),
    (403, "Request blocked by a guardrail of this workspace", errors.NotPermitted),
    (404, "No endpoints found for maker/gone.", errors.UnknownModel),
    (404, "No endpoints found matching your data policy (Free model training)", errors.NoEndpoints),
    (404, "No endpoints available matching your guardrail restrictions and data policy", errors.NoEndpoints),
    (404, "No endpoints found that support tool use.", errors.NoEndpoints),
    (404, "No allowed providers are available for the selected model.", errors.NoEndpoints),
    (404, "All providers have been ignored.", errors.NoEndpoints),
]  # fmt: skip


@pytest.mark.parametrize(("status", "message", "kind"), TEXTS, ids=[f"{s} {t[:40]}" for s, t, _ in TEXTS])
def test_the_text_decides_when_no_machine_word_is_there(status: int, message: str, kind: type[CallFailed]) -> None:
    """Real bodies often have nothing but a sentence, in the message or in the provider's raw answer."""
    direct = {"code": status, "message": message}
    raw_text = {"code": status, "message": "Provider returned error", "metadata": {**RAW, "raw": message}}
    raw_json = {**raw_text, "metadata": {**RAW, "raw": json.dumps({"error": {"message": message}})}}
    raw_object = {**raw_text, "metadata": {**RAW, "raw": {"error": {"message": message}}}}

    for error in (direct, raw_text, raw_object) if '"' not in message else (direct,):
        assert type(failure(status, error)) is kind
        assert type(inside(error)) is kind
        assert type(inside({**error, "code": str(status)})) is kind
    assert '"' in message or type(failure(status, raw_json)) is kind


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        (
            {"limit_source": "openrouter_in_flight_budget", "reason": "in_flight_budget_exhausted"},
            errors.InFlightBudget,
        ),
        ({"limit_source": "openrouter_in_flight_budget", "reason": "weight_exceeds_budget"}, errors.RequestTooHeavy),
        ({"limit_source": "openrouter_in_flight_budget"}, errors.InFlightBudget),
        ({"limit_source": "openrouter_key_limit"}, errors.KeyLimit),
        ({"limit_source": "openrouter_credits"}, errors.OutOfCredit),
        ({}, errors.OutOfCredit),
    ],
)
def test_a_402_is_told_apart_by_its_source(metadata: dict[str, str], kind: type[CallFailed]) -> None:
    """Only one of the reasons passes by itself, so they must not be mixed up."""
    assert type(failure(402, {"code": 402, "message": "Payment.", "metadata": metadata})) is kind


def test_an_affordable_limit_is_read_from_the_text() -> None:
    """ "Can only afford M" carries M, with and without a source beside it."""
    text = "You requested up to 65536 tokens, but can only afford 1833."
    for metadata in ({}, {"limit_source": "openrouter_credits"}):
        seen = failure(402, {"code": 402, "message": text, "metadata": metadata})

        assert isinstance(seen, errors.CannotAfford)
        assert seen.affordable == 1833


@pytest.mark.parametrize(
    ("metadata", "kind"),
    [
        ({"reasons": ["violence"], "flagged_input": "some words of the user"}, errors.Moderated),
        ({"reasons": []}, errors.Moderated),
        ({"patterns": ["ssn"], "reasons": ["x"]}, errors.NotPermitted),
        ({}, errors.NotPermitted),
    ],
    ids=["moderated", "no reason given", "guardrail", "plain"],
)
def test_a_403_is_a_moderation_only_if_it_says_so(metadata: dict[str, Any], kind: type[CallFailed]) -> None:
    """Moderation ends a request; a guardrail or a region lets another model try."""
    seen = failure(403, {"code": 403, "message": "Forbidden", "metadata": metadata})

    assert type(seen) is kind
    assert "some words" not in seen.cause_text


@pytest.mark.parametrize(
    ("text", "parameter", "instead"),
    [
        ("Unsupported parameter: 'temperature' is not supported with this model.", "temperature", None),
        ("Unsupported value: 'temperature' does not support 0.7 with this model.", "temperature", None),
        ("`temperature` is deprecated for this model.", "temperature", None),
        ("`temperature` and `top_p` cannot both be specified for this model. Please use only one.", "top_p", None),
        ("temperature: range: 0..1", "temperature", None),
        ("Unrecognized request argument supplied: top_k", "top_k", None),
        ("min_p: Extra inputs are not permitted", "min_p", None),
        ("property 'frequency_penalty' is unsupported", "frequency_penalty", None),
        ("This model does not support the 'stop' parameter", "stop", None),
        (
            "Unsupported parameter: 'max_tokens' is not supported here. Use 'max_completion_tokens' instead.",
            "max_tokens",
            "max_completion_tokens",
        ),
        ("Unknown parameter: 'max_completion_tokens'", "max_completion_tokens", "max_tokens"),
        ("Unknown parameter: 'stream_options'.", "stream_options", None),
    ],
)
def test_the_refused_parameter_is_named(text: str, parameter: str, instead: str | None) -> None:
    """However the provider words it, the name that can be left out or changed is found."""
    seen = failure(400, {"code": 400, "message": "Provider returned error", "metadata": {**RAW, "raw": text}})

    assert isinstance(seen, errors.ParameterRefused)
    assert (seen.parameter, seen.instead) == (parameter, instead)


def test_the_param_field_names_the_parameter_too() -> None:
    """OpenAI's shape says it in a field of its own, at the top or in the raw answer."""
    error = {"message": "Not allowed here: unsupported.", "type": "invalid_request_error", "param": "logit_bias"}
    for said in (error, {"code": 400, "message": "Provider returned error", "metadata": {"raw": {"error": error}}}):
        seen = failure(400, said)

        assert isinstance(seen, errors.ParameterRefused)
        assert seen.parameter == "logit_bias"


@pytest.mark.parametrize(
    "text",
    ["max_tokens: 500000 > 64000, which must be lower", "We cannot stop unknown errors", "temperature was fine"],
)
def test_a_text_that_refuses_no_parameter_is_a_bad_request(text: str) -> None:
    """A wrong limit is not for us to drop, and everyday words are no parameters."""
    assert type(failure(400, {"code": 400, "message": text})) is errors.BadRequest


def test_a_validation_error_without_a_code_is_a_bad_request() -> None:
    """Some routes answer in the shape of their validator, even with status 200."""
    body = {"success": False, "error": {"name": "ZodError", "message": '[{"path": ["model"]}]'}}

    assert type(classification.from_response(Envelope(400), json.dumps(body).encode())) is errors.BadRequest
    assert type(inside(body["error"])) is errors.BadRequest


@pytest.mark.parametrize("code", ["server_error", "something", None, True, 200, 9999, 12.5, [], {}, "50"])
def test_an_error_with_an_odd_code_is_a_fault_of_the_server(code: Any) -> None:
    """Inside a 200 there is no status to fall back on."""
    assert type(inside({"code": code, "message": "It broke"})) is errors.ServerFault


def test_the_caller_never_reads_the_providers_words() -> None:
    """The message is ours, the seed's; theirs is for the log, on one line, bounded, without keys and account ids."""
    secret = "sk-or-v1-0123456789abcdef"
    raw = f"Key {secret} of user_2abcDEFghi <a@b.example>\nBearer abc.def " + "x" * 5000 + " TheKey"
    error = {"code": 429, "message": "Slow down, TheKey", "metadata": {**RAW, "raw": raw}}
    seen = classification.from_response(Envelope(429, secrets=("TheKey",)), json.dumps({"error": error}).encode())

    assert seen.message == str(seen) == "Rate limit exceeded, please try again later"
    assert "Slow down" in seen.cause_text
    assert len(seen.cause_text) <= 600
    for hidden in (secret, "user_2abc", "a@b.example", "abc.def", "TheKey", "\n"):
        assert hidden not in seen.cause_text


def test_what_a_refusal_tells_about_the_call_is_kept() -> None:
    """Generation id, provider, status and the wait go into the ledger."""
    error = {"code": 429, "message": "Slow", "metadata": {**RAW, "retry_after_seconds": 2}}
    seen = failure(429, error, X_Generation_Id="gen-9")

    assert (seen.generation_id, seen.upstream_provider, seen.status) == ("gen-9", "Some Provider", 429)
    assert (seen.retry_after_s, seen.told) == (2.0, True)


@pytest.mark.parametrize(
    ("seen", "code", "message", "falls_back"),
    [
        (failure(429), "RATE_LIMITED", "Rate limit exceeded, please try again later", True),
        (failure(402), "PAYMENT_REQUIRED", "Payment required for OpenRouter API", True),
        (failure(503), "UNAVAILABLE", "OpenRouter service temporarily unavailable", True),
        (failure(500), "UPSTREAM_ERROR", "Unknown OpenRouter API error", True),
        (failure(401), "UPSTREAM_ERROR", "Unknown OpenRouter API error", True),
        (failure(404), "MODEL_NOT_FOUND", tree.ModelGone.default_message, True),
        (failure(504), "TIMEOUT", tree.UpstreamTimeout.default_message, True),
        (errors.PromptTooLong(), "CONTEXT_TOO_LONG", tree.ContextTooLong.default_message, True),
        (errors.ReasoningAteBudget(), "EMPTY_RESPONSE", tree.EmptyResponse.default_message, True),
        (errors.Moderated(), "CONTENT_BLOCKED", tree.ContentBlocked.default_message, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, CallFailed) else "",
)
def test_every_kind_keeps_the_code_and_text_of_the_common_tree(
    seen: CallFailed, code: str, message: str, falls_back: bool
) -> None:
    """The finer kinds of this room change nothing for our callers; a refusal of content never falls back."""
    assert (seen.code, seen.message, seen.fallback) == (code, message, falls_back)
    assert isinstance(seen, tree.Upstream)


def test_our_own_misconfiguration_calls_for_an_operator() -> None:
    """A rejected key, an empty account, a spent key and a wrong address do not heal by themselves."""
    kinds = (errors.KeyRejected, errors.OutOfCredit, errors.KeyLimit, errors.Misdirected)

    assert all(kind.page for kind in kinds)
    assert not errors.Throttled.page


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "metadata", "raw", "availability", "type", "param", "headers"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(status=st.integers(100, 599), said=anything)
def test_any_error_becomes_some_failure(status: int, said: Any) -> None:
    """No shape of an error object makes the reading fail."""
    assert isinstance(inside(said), CallFailed)
    assert isinstance(classification.from_response(Envelope(status), json.dumps(said).encode()), CallFailed)


@given(status=st.integers(100, 599), body=st.binary(max_size=200))
def test_any_bytes_become_some_failure(status: int, body: bytes) -> None:
    """Nor does any noise."""
    assert isinstance(classification.from_response(Envelope(status), body), CallFailed)
