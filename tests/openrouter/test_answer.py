"""Whole answers: what is in a good one, and the failures that hide behind status 200."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.openrouter import Completion, Usage, answer, errors
from shared.openrouter.classification import Envelope
from shared.openrouter.errors import CallFailed
from tests.openrouter.upstream import USAGE, answered


def parse(value: Any) -> Completion:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return answer.parse_answer(body, Envelope())


def ending(value: dict[str, Any], **choice: Any) -> dict[str, Any]:
    value["choices"][0] |= choice
    return value


def calling(arguments: Any, **choice: Any) -> dict[str, Any]:
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    return ending(answered(None, tool_calls=[call]), finish_reason="tool_calls", **choice)


def test_a_good_answer_is_read_whole() -> None:
    """Every field of the completion comes from its place on the wire."""
    details = [{"type": "reasoning.text", "text": "Hm.", "signature": None, "index": 0, "format": None, "odd": 1.5}]
    completion = parse(b"\n         \n" * 8 + json.dumps(answered(reasoning="Hm.", reasoning_details=details)).encode())

    assert completion == Completion(
        id="gen-1",
        model="maker/model-20260101",
        provider="OpenAI",
        content="Hello there.",
        reasoning="Hm.",
        reasoning_details=tuple(details),
        finish_reason="stop",
        native_finish_reason="completed",
        usage=Usage(10, 5, 15, 4, 1, 2, Decimal("0.00012")),
    )


def test_an_empty_list_of_reasoning_details_is_kept() -> None:
    """Some models want it back as it was, so it is not the same as none."""
    assert parse(answered(reasoning_details=[])).reasoning_details == ()
    assert parse(answered()).reasoning_details is None


def test_details_can_be_sent_again_as_they_came() -> None:
    """Nothing in them is a Decimal, which could not be written as JSON again."""
    details = [{"type": "reasoning.text", "score": 0.25, "deep": [{"n": 1.5}]}]

    assert json.loads(json.dumps(parse(answered(reasoning_details=details)).reasoning_details)) == details


@pytest.mark.parametrize(
    ("said", "native", "finish"),
    [
        ("stop", "completed", "stop"),
        ("stop", "STOP", "stop"),
        ("length", "MAX_TOKENS", "length"),
        ("stop", "max_output_tokens", "length"),
        (None, "length", "length"),
        (None, "end_turn", "stop"),
        (None, None, "stop"),
        ("paused", "PAUSED", "stop"),
        ("content_filter", "SAFETY", "content_filter"),
        ("tool_calls", "tool_use", "stop"),
    ],
)
def test_the_finish_reason_is_one_of_ours(said: str | None, native: str | None, finish: str) -> None:
    """Null and unknown reasons are no failure, and the provider's own word is looked at too."""
    completion = parse(ending(answered(), finish_reason=said, native_finish_reason=native))

    assert (completion.finish_reason, completion.native_finish_reason) == (finish, native)
    assert completion.outcome == "complete"


@pytest.mark.parametrize(
    "value",
    [
        ending(answered(None, refusal="I cannot.")),
        ending(answered("", refusal="I cannot."), finish_reason="content_filter"),
        ending(answered(None), finish_reason="content_filter"),
        ending(answered(None), native_finish_reason="refusal"),
    ],
    ids=["refusal text", "both", "filtered", "native word"],
)
def test_a_refusal_is_an_answer(value: dict[str, Any]) -> None:
    """The model answered that it will not; asking another model would go behind its back."""
    completion = parse(value)

    assert (completion.finish_reason, completion.content) == ("content_filter", "")
    assert completion.refusal == value["choices"][0]["message"]["refusal"]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"error": {"code": 429, "message": "Slow"}, "user_id": "u"}, errors.Throttled),
        ({"error": {"code": "502", "message": "Down"}}, errors.ServerFault),
        ({"error": "broken"}, errors.ServerFault),
        ({"error": {}}, errors.ServerFault),
        (answered() | {"error": {"code": 503, "message": "Down"}}, errors.Overloaded),
        (ending(answered("Half"), error={"code": 503, "message": "Down"}), errors.Overloaded),
        (ending(answered("Half"), finish_reason="error"), errors.ServerFault),
        ({"object": "error", "message": "model gone does not exist", "code": 404}, errors.UnknownModel),
        (dict.fromkeys(answered()), errors.EmptyAnswer),
        (answered() | {"choices": []}, errors.EmptyAnswer),
        (answered() | {"choices": [None]}, errors.EmptyAnswer),
        (answered() | {"choices": "none"}, errors.EmptyAnswer),
        (ending(answered(), message=None), errors.EmptyAnswer),
        (answered(""), errors.EmptyAnswer),
        (answered(None), errors.EmptyAnswer),
        (answered(" \n "), errors.EmptyAnswer),
        (answered("", reasoning="Hm."), errors.EmptyAnswer),
        (ending(answered(""), finish_reason="tool_calls"), errors.EmptyAnswer),
        (ending(answered("", reasoning="Hm."), finish_reason="length"), errors.ReasoningAteBudget),
        (ending(answered(""), finish_reason="length"), errors.ReasoningAteBudget),
        (ending(answered("") | {"usage": None}, finish_reason="length"), errors.EmptyAnswer),
        (calling('{"place":"the old li', native_finish_reason="tool_calls"), errors.ToolCallCut),
        (calling('{"place":"here"}', native_finish_reason="length"), errors.ToolCallCut),
        (calling('{"place":"here"}', native_finish_reason="max_output_tokens"), errors.ToolCallCut),
        ({"id": "x"}, errors.UnreadableAnswer),
        (b"", errors.UnreadableAnswer),
        (b"\n   \n", errors.UnreadableAnswer),
        (b"<html></html>", errors.UnreadableAnswer),
        (b'{"choices": [{"message"', errors.UnreadableAnswer),
        (b"null", errors.UnreadableAnswer),
        (b"[]", errors.UnreadableAnswer),
        (b"\xff\xfe\x00", errors.UnreadableAnswer),
        (b"[" * 100_000, errors.UnreadableAnswer),
        (b'{"n":' + b"9" * 5000 + b"}", errors.UnreadableAnswer),
    ],
)  # fmt: skip
def test_a_200_that_is_a_failure_is_raised(value: Any, kind: type[CallFailed]) -> None:
    """A status proves nothing: errors, nothing at all, and cut answers all come with 200."""
    with pytest.raises(CallFailed) as caught:
        parse(value)

    assert type(caught.value) is kind


def test_a_failure_inside_a_200_keeps_what_was_charged() -> None:
    """An empty answer may cost something, and the ledger wants to know for which call."""
    with pytest.raises(errors.EmptyAnswer) as caught:
        parse(answered(""))

    assert caught.value.usage is not None
    assert caught.value.usage.cost == Decimal("0.00012")
    assert (caught.value.generation_id, caught.value.upstream_provider) == ("gen-1", "OpenAI")


def test_an_answer_inside_its_provider_is_rescued() -> None:
    """Rarely a whole completion arrives inside that field of an otherwise empty one."""
    completion = parse(dict.fromkeys(answered()) | {"provider": answered("Here I am.")})

    assert (completion.content, completion.provider, completion.id) == ("Here I am.", "OpenAI", "gen-1")


@pytest.mark.parametrize("arguments", ['{"a": 1}', "{}", "", "  ", {"a": 1}, None])
def test_whole_tool_arguments_pass(arguments: Any) -> None:
    """Also none at all, which is how a call without arguments is often written."""
    completion = parse(calling(arguments, native_finish_reason="tool_use"))

    assert completion.finish_reason == "tool_calls"
    assert completion.tool_calls[0]["function"]["name"] == "look"
    assert isinstance(completion.tool_calls[0]["function"]["arguments"], str)


def test_tool_calls_with_finish_stop_are_tool_calls() -> None:
    """Some providers say stop after a tool call."""
    value = calling("{}", native_finish_reason="stop")

    assert parse(ending(value, finish_reason="stop")).finish_reason == "tool_calls"


def test_content_in_parts_is_joined() -> None:
    """A list of text parts is text as well."""
    assert (
        parse(answered([{"type": "text", "text": "One "}, {"type": "text", "text": "two."}, {}])).content == "One two."
    )


def test_half_a_character_does_not_reach_the_caller() -> None:
    """It could be neither stored nor sent on."""
    assert parse(answered("ok \ud83d")).content == "ok \ufffd"


@pytest.mark.parametrize(
    ("cost", "parsed"),
    [
        ("0.1", Decimal("0.1")),
        ("1e-7", Decimal("0.0000001")),
        ("0", Decimal(0)),
        ("0.30000000000000004", Decimal("0.30000000000000004")),
        ('"0.002"', Decimal("0.002")),
        ("null", None),
        ("-1", None),
        ('"-1"', None),
        ("true", None),
        ("NaN", None),
        ("1e999", None),
        ("1e999999999999999999999", None),
        ('"lots"', None),
        ("[]", None),
    ],
)
def test_a_cost_is_an_exact_decimal_or_unknown(cost: str, parsed: Decimal | None) -> None:
    """It never passes through a float, and what is negative or absurd is unknown, not zero."""
    body = json.dumps(answered()).replace("0.00012", cost).encode()
    usage = parse(body).usage

    assert usage is not None
    assert usage.cost == parsed
    assert usage.cost is None or str(usage.cost) == str(parsed)


@pytest.mark.parametrize("usage", [None, {}, [], "none", {"prompt_tokens": "ten"}, {"prompt_tokens": -1}])
def test_no_usage_is_none_and_not_zero(usage: Any) -> None:
    """Nobody told what it cost, which is not the same as nothing."""
    assert parse(answered() | {"usage": usage}).usage is None


def test_usage_without_a_cost_and_a_total_still_counts() -> None:
    """Servers of the same wire have no cost, some no total."""
    usage = parse(answered() | {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}).usage

    assert usage == Usage(3, 4, 7)


def test_more_reasoning_than_completion_is_accepted() -> None:
    """It was recorded once; nothing is asserted about it."""
    odd = USAGE | {"completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 11}}
    usage = parse(answered() | {"usage": odd}).usage

    assert usage is not None
    assert (usage.completion_tokens, usage.reasoning_tokens) == (10, 11)


def test_a_key_of_ones_own_tells_the_upstream_cost_apart() -> None:
    """Then `cost` is only the fee."""
    byok = USAGE | {"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.5}}
    usage = parse(answered() | {"usage": byok}).usage

    assert usage is not None
    assert (usage.cost, usage.upstream_cost, usage.is_byok) == (Decimal(0), Decimal("0.5"), True)


FIELDS = ["id", "provider", "model", "choices", "message", "content", "tool_calls", "function", "arguments", "usage"]
FIELDS += ["reasoning", "reasoning_details", "refusal", "finish_reason", "native_finish_reason", "cost", "delta"]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=15,
)


@given(value=values, message=values, choice=values)
def test_any_json_is_an_answer_or_a_failure_of_ours(value: Any, message: Any, choice: Any) -> None:
    """Every field may hold anything; nothing but our own failures comes out."""
    for body in (value, answered() | {"usage": value, "choices": [choice]}, ending(answered(), message=message)):
        try:
            completion = parse(body)
        except CallFailed:
            continue
        assert completion.content.strip() or completion.tool_calls or completion.finish_reason == "content_filter"
