"""What is left out of a conversation that is too long for a model, and what never is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import context, tokens
from shared.conversation import Section
from shared.errors import ContextTooLong

Message = dict[str, Any]


def say(role: str, words: int = 20, **more: Any) -> Message:
    return {"role": role, "content": "word " * words, **more}


SYSTEM, NOTE = say("system"), say("system", 5)
LONG = [
    SYSTEM,
    say("user", 101),
    say("assistant", 102),
    say("user", 103),
    say("assistant", 104),
    say("user", 105),
]


def room_for(messages: list[Message]) -> int:
    """The least context length that holds these messages without any reply."""
    needed = tokens.estimate_messages(messages)
    return next(length for length in range(needed, needed * 2) if int(length * (1 - context.MARGIN)) >= needed)


def kept_of(messages: list[Message], like: list[Message], max_tokens: int = 0) -> list[Mapping[str, Any]]:
    """What is kept where exactly `like` has room."""
    return list(context.fit(messages, context_length=room_for(like) + max_tokens, max_tokens=max_tokens).messages)


def test_a_conversation_that_fits_is_left_alone() -> None:
    """Nothing is dropped without need, and the account says what there is."""
    fitted = context.fit(LONG, context_length=8_000, max_tokens=300)

    assert fitted.messages == LONG
    assert fitted.dropped == 0
    assert fitted.tokens == {
        "prompt": tokens.estimate_messages(LONG),
        "dropped": 0,
        "reply": 300,
        "available": 7_469,
    }


def test_an_unknown_context_drops_nothing() -> None:
    """A model whose context is not known is sent everything: it will say if that is too much."""
    fitted = context.fit(LONG * 50, context_length=None, max_tokens=300)

    assert fitted.dropped == 0
    assert fitted.tokens["available"] is None


def test_the_oldest_exchange_goes_first() -> None:
    """A question is dropped together with its answer."""
    assert kept_of(LONG, LONG[:1] + LONG[3:]) == LONG[:1] + LONG[3:]


def test_one_token_too_many_costs_a_whole_exchange() -> None:
    """No answer stays without its question."""
    fitted = context.fit(LONG, context_length=room_for(LONG) - 2, max_tokens=0)

    assert fitted.messages == LONG[:1] + LONG[3:]
    assert fitted.dropped == 2
    assert fitted.tokens["prompt"] == tokens.estimate_messages(fitted.messages)
    assert fitted.tokens["dropped"] == tokens.estimate_messages(LONG) - tokens.estimate_messages(fitted.messages)


def test_the_reply_has_its_room() -> None:
    """The tokens reserved for the reply are not given to the prompt."""
    without = context.fit(LONG, context_length=room_for(LONG), max_tokens=0)
    with_reply = context.fit(LONG, context_length=room_for(LONG), max_tokens=100)

    assert without.dropped == 0
    assert with_reply.dropped == 2


def test_a_greeting_goes_before_the_first_exchange() -> None:
    """An assistant's greeting may open what is sent; it is the oldest turn and the first to go."""
    greeted = [SYSTEM, say("assistant", 50), say("user", 30), say("assistant", 40), say("user", 20)]

    assert kept_of(greeted, greeted) == greeted
    assert kept_of(greeted, [SYSTEM, *greeted[2:]]) == [SYSTEM, *greeted[2:]]


def test_instructions_behind_the_last_turn_stay() -> None:
    """What stands after the last user message is for this very reply."""
    instructed = [*LONG, NOTE]

    assert kept_of(instructed, [SYSTEM, LONG[-1], NOTE]) == [SYSTEM, LONG[-1], NOTE]


def test_a_tool_result_never_loses_its_call() -> None:
    """Call and result belong to one exchange: both go or both stay."""
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    used = [
        SYSTEM,
        say("user", 30),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        say("tool", 60, tool_call_id="call_1"),
        say("assistant", 40),
        say("user", 30),
        {"role": "assistant", "content": None, "tool_calls": [call]},
        say("tool", 60, tool_call_id="call_1"),
    ]

    fitted = context.fit(used, context_length=room_for(used) - 2, max_tokens=0)

    assert fitted.messages == [SYSTEM, *used[5:]]


def test_parts_of_text_are_counted_too() -> None:
    """Content may be a list of parts."""
    parted = [{**message, "content": [{"type": "text", "text": message["content"]}]} for message in LONG]

    plain = context.fit(LONG, context_length=room_for(LONG) - 2, max_tokens=0)
    assert context.fit(parted, context_length=room_for(LONG) - 2, max_tokens=0).tokens == plain.tokens


def test_what_cannot_be_shortened_is_refused_with_its_sizes() -> None:
    """When even the kept part is too long, the caller learns how long and how long it may be."""
    needed = tokens.estimate_messages([SYSTEM, LONG[-1]])

    with pytest.raises(ContextTooLong, match=rf"{needed} tokens.* 40 are reserved.* context of 150"):
        context.fit(LONG, context_length=150, max_tokens=40)


def test_a_reply_longer_than_the_context_is_refused() -> None:
    """A reply that leaves no room for a prompt is told apart from nothing."""
    with pytest.raises(ContextTooLong):
        context.fit([say("user", 1)], context_length=1_000, max_tokens=2_000)


def test_the_vendor_decides_what_fits() -> None:
    """A vocabulary that needs more tokens drops more."""
    russian = [{"role": "user", "content": "Добрый вечер, дорогие друзья! " * 40} for _ in range(10)]

    plain = context.fit(russian, context_length=3_000, max_tokens=0)
    heavier = context.fit(russian, context_length=3_000, max_tokens=0, family="qwen")

    assert heavier.dropped > plain.dropped


def test_sections_are_itemized_in_order() -> None:
    """One row per section; an empty one is told with 0."""
    sections = [
        Section("system_prompt", "Be kind."),
        Section("lore", ""),
        Section("history", "Hello there, old friend."),
    ]

    assert context.itemize(sections) == [
        {"section": section.name, "tokens": tokens.estimate(section.text)} for section in sections
    ]
    assert context.itemize(sections)[1] == {"section": "lore", "tokens": 0}


turn = st.builds(say, st.sampled_from(["user", "assistant", "tool", "system"]), st.integers(0, 60))
conversations = st.builds(
    lambda head, turns, last, tail: [*head, *turns, last, *tail],
    st.lists(st.builds(say, st.just("system"), st.integers(0, 60)), max_size=2),
    st.lists(turn, max_size=12),
    st.builds(say, st.just("user"), st.integers(0, 60)),
    st.lists(st.builds(say, st.sampled_from(["system", "assistant", "tool"]), st.integers(0, 30)), max_size=2),
)


@given(conversations, st.integers(1, 1_500), st.integers(0, 300))
def test_whatever_is_said_the_rules_hold(messages: list[Message], context_length: int, max_tokens: int) -> None:
    """Head and last turn stay, the rest loses its oldest part at a user's turn, no more than needed, and it fits."""
    head = next(place for place, message in enumerate(messages) if message["role"] != "system")
    last = max(place for place, message in enumerate(messages) if message["role"] == "user")
    try:
        fitted = context.fit(messages, context_length=context_length, max_tokens=max_tokens)
    except ContextTooLong:
        needed = tokens.estimate_messages([*messages[:head], *messages[last:]])
        assert needed > (context_length - max_tokens) * (1 - context.MARGIN) - 1
        return

    begin = head + fitted.dropped
    assert list(fitted.messages) == [*messages[:head], *messages[begin:]]
    assert begin <= last
    assert tokens.estimate_messages(fitted.messages) == fitted.tokens["prompt"]
    assert tokens.estimate_messages(fitted.messages) <= (context_length - max_tokens) * (1 - context.MARGIN)
    if fitted.dropped:
        assert messages[begin]["role"] == "user"
        earlier = max((place for place in range(head + 1, begin) if messages[place]["role"] == "user"), default=head)
        one_more = [*messages[:head], *messages[earlier:]]
        assert tokens.estimate_messages(one_more) > int((context_length - max_tokens) * (1 - context.MARGIN))
