"""Request bodies, to the byte."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from pydantic import SecretStr

from shared.openrouter import ChatRequest, Endpoint, Sampling, wire
from shared.openrouter.wire import Adjustments, Question

HELLO = [{"role": "user", "content": "Hello"}]
PLAIN = ChatRequest("maker/model", HELLO)


def build(request: ChatRequest = PLAIN, **how: Any) -> Question:
    return wire.build(request, **how)


def sampled(**sampling: Any) -> ChatRequest:
    return replace(PLAIN, sampling=Sampling(**sampling))


def test_the_plain_body_is_the_seeds_to_the_byte() -> None:
    """Six keys in the seed's order with its defaults, and nothing else."""
    assert build().encoded() == (
        b'{"model":"maker/model","messages":[{"role":"user","content":"Hello"}],'
        b'"max_tokens":500,"temperature":0.7,"top_p":0.9,"stream":false}'
    )


def test_a_full_body_has_a_fixed_order() -> None:
    """The same request gives the same bytes, whatever order its mappings were made in."""
    one = replace(
        PLAIN,
        sampling=Sampling(stop=("END",), seed=7, extra={"top_k": 4, "min_p": Decimal("0.05")}),
        tools=[{"type": "function", "function": {"name": "look"}}],
        tool_choice="auto",
        response_format={"type": "json_object"},
        user="u1",
        session_id="s1",
        metadata={"a": "b"},
        trace={"trace_id": "t"},
        provider={"data_collection": "deny"},
    )
    other = replace(one, sampling=replace(one.sampling, extra={"min_p": Decimal("0.05"), "top_k": 4}))
    body = build(one, stream=True).body

    assert list(body) == [
        "model", "messages", "max_tokens", "temperature", "top_p", "stream", "stop", "seed", "min_p", "top_k", "tools",
        "tool_choice", "response_format", "user", "session_id", "metadata", "trace", "provider",
    ]  # fmt: skip
    assert build(one).encoded() == build(other).encoded()
    assert b'"min_p":0.05' in build(one).encoded()


def test_an_explicit_zero_is_sent_and_none_is_not() -> None:
    """Zero is a wish; only None is the absence of one."""
    body = build(sampled(temperature=0, top_p=0.0, seed=0, extra={"min_p": 0, "top_k": None})).body

    assert (body["temperature"], body["top_p"], body["seed"], body["min_p"]) == (0, 0.0, 0, 0)
    assert "top_k" not in body
    assert {"temperature", "top_p"}.isdisjoint(build(sampled(temperature=None, top_p=None)).body)


@pytest.mark.parametrize(
    ("supported", "name"),
    [
        (None, "max_tokens"),
        ({"max_tokens"}, "max_tokens"),
        ({"max_tokens", "max_completion_tokens"}, "max_tokens"),
        ({"max_completion_tokens"}, "max_completion_tokens"),
        (set(), "max_tokens"),
    ],
    ids=["unknown", "old", "both", "new", "neither"],
)
def test_a_limit_is_always_sent_under_the_name_the_model_knows(supported: set[str] | None, name: str) -> None:
    """Without a limit the credit check reserves the model's maximum."""
    request = replace(PLAIN, supported_parameters=None if supported is None else frozenset(supported))
    body = build(request).body

    assert body[name] == 500
    assert len({"max_tokens", "max_completion_tokens"} & set(body)) == 1
    assert build(request).parameters["max_tokens"] == 500


@pytest.mark.parametrize(
    ("request_", "limit"),
    [
        (sampled(max_tokens=None), 500),
        (sampled(max_tokens=9000), 9000),
        (replace(sampled(max_tokens=9000), max_output_tokens=4096), 4096),
        (replace(sampled(max_tokens=100), max_output_tokens=4096), 100),
        (replace(sampled(max_tokens=9000), max_output_tokens=4096, context_length=2000), 1995),
        (replace(sampled(max_tokens=9000), context_length=3), 9000),
        (replace(sampled(max_tokens=9000), max_output_tokens=0), 9000),
    ],
    ids=["none given", "as asked", "clamped", "within", "no more than fits", "no room", "nonsense"],
)
def test_the_limit_fits_the_model(request_: ChatRequest, limit: int) -> None:
    """A limit above the model's own drops endpoints, so it is clamped; the prompt is for the model to judge."""
    assert build(request_).body["max_tokens"] == limit


def test_only_supported_parameters_are_sent_and_the_others_reported() -> None:
    """What the model does not know is left out and named, and what no model lists is left alone."""
    request = replace(
        sampled(stop=("x",), seed=3, extra={"top_k": 4, "reasoning_effort": "low", "service_tier": "flex"}),
        supported_parameters=frozenset({"max_tokens", "top_p", "reasoning"}),
        response_format={"type": "json_object"},
    )
    question = build(request)

    assert set(question.dropped) == {"temperature", "stop", "seed", "top_k", "response_format"}
    assert set(question.body) == {
        "model", "messages", "max_tokens", "top_p", "stream", "reasoning_effort", "service_tier"
    }  # fmt: skip


def test_without_tools_their_companions_are_not_sent_either() -> None:
    """A tool choice without tools is refused."""
    request = replace(
        sampled(extra={"parallel_tool_calls": False}),
        tools=[{"type": "function"}],
        tool_choice="auto",
        supported_parameters=frozenset({"tool_choice", "parallel_tool_calls"}),
    )

    assert {"tools", "tool_choice", "parallel_tool_calls"}.isdisjoint(build(request).body)


@pytest.mark.parametrize(
    ("request_", "kept", "dropped"),
    [
        (sampled(), "temperature", ("top_p",)),
        (sampled(temperature=None), "top_p", ()),
        (replace(sampled(), supported_parameters=frozenset({"top_p"})), "top_p", ("temperature",)),
    ],
    ids=["both set", "only the second", "the first is not supported"],
)
def test_of_exclusive_parameters_the_first_that_is_sent_stays(
    request_: ChatRequest, kept: str, dropped: tuple[str, ...]
) -> None:
    """Some models take a temperature or a top_p, not both."""
    question = build(replace(request_, exclusive_parameters=(("temperature", "top_p"),)))

    assert {"temperature", "top_p"} & set(question.body) == {kept}
    assert question.dropped == dropped


def test_at_most_four_stops_are_sent() -> None:
    """The wire takes four, and no empty ones."""
    question = build(sampled(stop=("a", "", "b", "c", "d", "e")))

    assert question.body["stop"] == ["a", "b", "c", "d"]
    assert question.dropped == ("stop[4:]",)


def test_extra_parameters_cannot_replace_the_body() -> None:
    """Fields of their own, no-ops and dead names are not taken from `extra`, and that is said."""
    extra = {"model": "x", "messages": [], "stream": True, "usage": {"include": True}, "stream_options": {}, "n": 5}
    question = build(sampled(extra=extra))

    assert question.body == build().body
    assert set(question.dropped) == set(extra)


def test_an_empty_text_beside_tool_calls_becomes_null() -> None:
    """Some providers refuse the empty text; other messages are passed on unchanged."""
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    messages: list[dict[str, Any]] = [*HELLO, call, {"role": "assistant", "content": ""}]
    body = build(replace(PLAIN, messages=messages)).body

    assert [message["content"] for message in body["messages"]] == ["Hello", None, ""]
    assert call["content"] == ""


def test_what_earlier_tries_taught_is_kept_to() -> None:
    """Refused parameters stay out and are reported; a lower limit and its new name are used."""
    request = replace(sampled(extra={"reasoning": {"effort": "none"}, "reasoning_effort": "none"}), user="u")
    lessons = Adjustments(("temperature", "reasoning", "user"), 64, "max_completion_tokens")
    question = build(request, adjustments=lessons)

    assert question.body == {
        "model": "maker/model", "messages": HELLO, "max_completion_tokens": 64, "top_p": 0.9, "stream": False
    }  # fmt: skip
    assert set(question.dropped) == {"temperature", "reasoning", "reasoning_effort", "user"}


def test_a_compatible_server_is_not_told_openrouters_own_fields() -> None:
    """They would be refused; in exchange it must be asked to count the tokens of a stream."""
    request = replace(PLAIN, user="u", session_id="s", trace={"t": 1}, metadata={"a": "b"}, provider={"zdr": True})
    body = build(request, kind="openai_compatible", stream=True).body

    assert list(body) == [
        "model", "messages", "max_tokens", "temperature", "top_p", "stream", "stream_options", "user"
    ]  # fmt: skip
    assert "stream_options" not in build(request, kind="openai_compatible").body
    assert "stream_options" not in build(request, stream=True).body
    assert "stream_options" not in build(
        request, kind="openai_compatible", stream=True, adjustments=Adjustments(("stream_options",))
    ).body  # fmt: skip


def test_text_in_any_language_survives_and_half_characters_do_not_break_it() -> None:
    """Text goes out as UTF-8; half a surrogate pair cannot, and becomes a question mark."""
    body = build(replace(PLAIN, messages=[{"role": "user", "content": "Grüße 🐉 \ud83d"}])).encoded()

    assert json.loads(body)["messages"][0]["content"] == "Grüße 🐉 ?"


def test_a_number_that_is_none_cannot_be_sent() -> None:
    """NaN is not JSON, and saying so here is better than a puzzle at the provider."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        build(sampled(temperature=float("nan"))).encoded()


@pytest.mark.parametrize("key", ["sk-secret", SecretStr("sk-secret")], ids=["text", "secret"])
def test_a_key_never_shows(key: str | SecretStr) -> None:
    """Endpoints end up in logs and tracebacks."""
    endpoint = Endpoint("https://far.example/v1", key)

    assert "sk-secret" not in repr(endpoint)
    assert endpoint.key == "sk-secret"
