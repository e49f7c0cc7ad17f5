"""The door `roleplay`: the exact messages that go to the model, and what comes back."""

from __future__ import annotations

from typing import Any

import pytest

from shared import tokens
from tests.house import House
from tests.use_cases import cards
from tests.use_cases.dialogue import asked, is_well_formed, models_say, streamed, text_of

SENTENCE = "You are roleplaying as {} in the scenario: {}. Stay in character and respond naturally."
WORDS = ["What now?", "Hold on.", "To what?", "To me.", "Ready."]
TALK = [{"role": "user" if place % 2 == 0 else "assistant", "content": text} for place, text in enumerate(WORDS)]
OPENING = {"role": "assistant", "content": '*Captain Mira looks up.* "So you are Ann."'}
MIRA = (
    "You are roleplaying as Captain Mira in the scenario: the Heron lies in harbour. "
    "Stay in character and respond naturally.\n"
    "The sea is called the Grey.\n"
    "Description: Captain Mira is 42 and sails the Heron. Ann is her new mate.\n"
    "Personality: dry, patient\n"
    "The user's name: Ann\n"
    "Example dialogue, which shows the tone and did not happen:\n\n"
    "Ann: Is it far?\nCaptain Mira: Everything is far.\n\n"
    "Ann: Sleep well.\nCaptain Mira: I never do."
)
LAST_WORD = {"role": "system", "content": "Answer as Captain Mira in one paragraph."}


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


async def sent(house: House, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages that this request became."""
    answer = await house.http.post("/roleplay", json=body)
    assert answer.status_code == 200, answer.text
    messages: list[dict[str, Any]] = (await asked(house))[-1]["messages"]
    return messages


async def refusal(house: House, body: dict[str, Any]) -> tuple[int, str, list[tuple[str, str]]]:
    """Status, code and the fields that were wrong; nothing was sent upstream."""
    answer = await house.http.post("/roleplay", json=body)
    error = answer.json()["error"]
    assert await asked(house) == []
    return answer.status_code, error["code"], [(detail["field"], detail["message"]) for detail in error["details"]]


async def test_a_name_and_a_scene(house: House) -> None:
    """The whole request for the plainest call: the manual's sentence, and a stop before the user's line."""
    body = {"character": "Captain Mira", "scenario": "a storm at sea", "messages": TALK[:1]}
    await house.http.post("/roleplay", json=body)

    [request] = await asked(house)
    assert request == {
        "model": request["model"],
        "messages": [system(SENTENCE.format("Captain Mira", "a storm at sea")), user("What now?")],
        "max_tokens": 300,
        "temperature": 0.8,
        "stop": ["\nUser:"],
        "stream": False,
    }


async def test_an_object(house: House) -> None:
    """Fields in either spelling; macros filled in; what nobody knows ignored."""
    character: dict[str, Any] = {
        "name": "Mira",
        "description": "{{char}} trusts {{USER}}.",
        "postHistoryInstructions": "Be brief.",
    }
    character |= {"colour": "blue", "personality": None, "mesExample": "{{user}}: Hi\n{{char}}: Hm."}

    assert await sent(house, {"character": character, "user_name": "Ann", "message": "Hi"}) == [
        system(
            SENTENCE.format("Mira", "an open-ended conversation") + "\nDescription: Mira trusts Ann.\n"
            "The user's name: Ann\nExample dialogue, which shows the tone and did not happen:\n\nAnn: Hi\nMira: Hm."
        ),
        user("Hi"),
        system("Be brief."),
    ]


async def test_a_v2_card(house: House) -> None:
    """Constant lore within the stable message, called-up lore after it, deep lore at its depth, the last word last."""
    body = {"character": cards.card("mira_v2"), "user_name": "Ann", "messages": [user("The Heron is fine.")]}

    assert await sent(house, body) == [
        system(MIRA),
        system("The Heron leaks. Her mast came from Orvik."),
        OPENING,
        system("Orvik sells timber."),
        user("The Heron is fine."),
        LAST_WORD,
    ]


async def test_a_v3_card_in_a_png(house: House) -> None:
    """Of the two cards in the picture V3 counts; its nickname is {{char}}, its note stands at its depth."""
    picture = cards.encoded((cards.FOLDER / "tove_v3.png").read_bytes())
    expected = [
        system(
            SENTENCE.format("Tove Lund", "an open-ended conversation") + " Write in the present tense.\n"
            "Description: Tove keeps the lighthouse."
        ),
        assistant('"Mind the stairs, User."'),
        system("Tove hears the wind."),
        user("Hi"),
    ]

    assert await sent(house, {"character": picture, "message": "Hi"}) == expected
    assert await sent(house, {"character": f"data:image/png;base64,{picture}", "message": "Hi"}) == expected


async def test_lore_and_author_note_at_depth(house: House) -> None:
    """Depth counts messages from the end; beyond the first message is before it; lore comes before the note."""
    lorebook = {
        "entries": {
            "0": {"key": ["hold"], "content": "Ropes burn.", "position": 4, "depth": 2, "order": 5, "role": 1},
            "1": {"key": ["hold"], "content": "It rains.", "position": 4, "depth": 2, "order": 1},
            "2": {"key": ["me"], "content": "Old lore.", "position": 4, "depth": 99},
            "3": {"key": ["anchor"], "content": "Not told.", "position": 4, "depth": 0},
        }
    }
    body = {"character": "Mira", "messages": TALK, "lorebook": lorebook}

    assert await sent(house, {**body, "author_note": {"text": "{{char}} limps.", "depth": 2}}) == [
        system(SENTENCE.format("Mira", "an open-ended conversation")),
        system("Old lore."),
        *TALK[:3],
        system("It rains."),
        user("Ropes burn."),
        system("Mira limps."),
        *TALK[3:],
    ]
    assert (await sent(house, {**body, "lorebook": None, "author_note": "Soon."}))[1:] == [
        TALK[0],
        system("Soon."),
        *TALK[1:],
    ]


BARE = system(SENTENCE.format("Mira", "a pier"))
STORY = [*TALK, assistant("We hold.")]


@pytest.mark.parametrize(
    ("action", "messages", "expected"),
    [
        ("reply", TALK[:1], TALK[:1]),
        ("reply", STORY, [*STORY, user("[Write Mira's next message.]")]),
        (
            "continue",
            STORY,
            [*STORY, user("[Continue Mira's last message from exactly where it ends. Do not repeat any of it.]")],
        ),
        ("regenerate", STORY, TALK),
        ("regenerate", [assistant("Ahoy.")], [user("[Begin the scene with Mira's first message.]")]),
        (
            "impersonate",
            STORY,
            [*STORY, user("[Write the next message of Ann, as Ann. Do not write anything for Mira.]")],
        ),
    ],
    ids=["reply", "reply again", "continue", "regenerate", "regenerate the opening", "impersonate"],
)
async def test_actions(
    house: House, action: str, messages: list[dict[str, Any]], expected: list[dict[str, Any]]
) -> None:
    """What each action sends."""
    body = {"character": "Mira", "scenario": "a pier", "user_name": "Ann", "messages": messages, "action": action}
    head = system(f"{BARE['content']}\nThe user's name: Ann")

    assert await sent(house, body) == [head, *expected]


async def test_impersonating_leaves_the_characters_last_word_out(house: House) -> None:
    """It is an instruction to the character, and the user is about to speak; the stop is the character's name."""
    body = {"character": cards.card("mira_v2"), "user_name": "Ann", "action": "impersonate"}

    assert (await sent(house, body))[-2:] == [
        OPENING,
        user("[Write the next message of Ann, as Ann. Do not write anything for Captain Mira.]"),
    ]
    assert (await asked(house))[-1]["stop"] == ["\nCaptain Mira:"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"messages": [user("Hi")]}, [OPENING, user("Hi")]),
        ({"messages": [assistant("Ho"), user("Hi")]}, [assistant("Ho"), user("Hi")]),
        (
            {"message": "Hi", "greeting": 1},
            [assistant('*The deck is empty.* "Down here, Ann."'), user("Hi")],
        ),
        ({}, [OPENING, user("[Write Captain Mira's next message.]")]),
        ({"messages": [], "action": "regenerate"}, [user("[Begin the scene with Captain Mira's first message.]")]),
    ],
    ids=["put before", "there already", "an alternative", "nobody spoke", "another opening"],
)
async def test_the_first_message(house: House, more: dict[str, Any], expected: list[dict[str, Any]]) -> None:
    """The card's first message opens a conversation that has no opening."""
    card = cards.card("mira_v2")
    card["data"] |= {"character_book": None, "post_history_instructions": ""}

    assert (await sent(house, {"character": card, "user_name": "Ann", **more}))[1:] == expected


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"character": "Mira"}, "messages"),
        ({"character": "Mira", "messages": []}, "messages"),
        ({"character": "Mira", "message": "Hi", "messages": TALK}, "body"),
        ({"character": "Mira", "message": "Hi", "greeting": 0}, "greeting"),
        ({"character": {"name": "Mira", "first_mes": "Hi"}, "message": "Hi", "greeting": 1}, "greeting"),
        ({"character": "Mira", "message": "Hi", "action": "continue"}, "action"),
        ({"character": "Mira", "message": "Hi", "action": "regenerate"}, "action"),
        ({"character": "Mira", "message": "Hi", "action": "impersonate"}, "action"),
        ({"character": "Mira", "message": "Hi", "action": "sing"}, "action"),
        ({"character": {"name": "Mira", "description": 5}, "message": "Hi"}, "character.description"),
        ({"character": {"spec": "chara_card_v2"}, "message": "Hi"}, "character.data.name"),
        ({"character": {"spec": "chara_card_v2", "data": []}, "message": "Hi"}, "character.data"),
        ({"character": {"description": "?"}, "message": "Hi"}, "character.name"),
        ({"character": "data:image/png;base64,AAAA", "message": "Hi"}, "character"),
        ({"character": '{"name": ', "message": "Hi"}, "character"),
        ({"character": "x" * 20_001, "message": "Hi"}, "character"),
        ({"character": "Mira", "message": "Hi", "lorebook": {"entries": [{"keys": 5}]}}, "lorebook.entries.0.keys"),
        ({"character": "Mira", "message": "Hi", "lorebook": {"entries": {"7": 1}}}, "lorebook.entries.7"),
        ({"character": "Mira", "message": "Hi", "lorebook": "x"}, "lorebook"),
        ({"character": "Mira", "messages": [user("x" * 200_000)] * 6}, "messages"),
        ({"character": "Mira", "message": "Hi", "session_id": "x" * 257}, "session_id"),
        ({"character": "Mira", "message": "Hi", "author_note": {"text": "x", "depth": -1}}, "author_note.depth"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_cannot_be_is_refused_by_name(house: House, body: dict[str, Any], field: str) -> None:
    """One shape of error, the field as the caller wrote it, and nothing sent upstream."""
    status, code, details = await refusal(house, body)

    assert (status, code) == (400, "VALIDATION_ERROR")
    assert field in [name for name, _ in details]


async def test_a_large_card_passes_the_door(house: House) -> None:
    """A picture of eight megabytes is a card like any other; one of ten is refused as too large."""
    tove = cards.text_chunk(b"ccv3", cards.packed(cards.card("tove_v3")))
    large = cards.encoded(cards.png(cards.chunk(b"IDAT", bytes(8_000_000)), tove))
    too_large = cards.encoded(cards.png(cards.chunk(b"IDAT", bytes(10_000_000)), tove))
    answer = await house.http.post("/roleplay", json={"character": too_large, "message": "Hi"})

    assert (await sent(house, {"character": large, "message": "Hi"}))[-1] == user("Hi")
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_two_turns_share_their_beginning_byte_for_byte(house: House) -> None:
    """What the provider's cache knows of the first turn is all still there in the second, and the provider is kept."""
    card = cards.card("mira_v2")
    card["data"]["description"] += " She rolled {{roll:20}} and wears {{random:red,green,blue}}."
    card["data"]["post_history_instructions"] = ""
    body = {"character": card, "user_name": "Ann", "session_id": "chat-1"}
    await house.http.post("/roleplay", json={**body, "messages": [OPENING, user("Hi")]})
    await house.http.post("/roleplay", json={**body, "messages": [OPENING, user("Hi"), assistant("Ho"), user("And?")]})

    first, second = await asked(house)
    assert second["messages"][: len(first["messages"])] == first["messages"]
    assert len(first["messages"]) == 3
    assert (first["session_id"], second["session_id"]) == ("chat-1", "chat-1")


async def test_lore_that_comes_and_goes_leaves_the_stable_part_alone(house: House) -> None:
    """Only what follows the first message changes."""
    body = {"character": cards.card("mira_v2"), "user_name": "Ann"}
    quiet = await sent(house, {**body, "message": "Hi"})
    called = await sent(house, {**body, "message": "What of the kraken?"})

    assert quiet[0] == called[0] == system(MIRA)
    assert called[1] == system("Nobody speaks of the kraken.")


async def test_itemize_tells_where_the_tokens_went_and_why_lore_fired(house: House) -> None:
    """Every section by name, every entry with its reason."""
    body = {"character": cards.card("mira_v2"), "user_name": "Ann", "message": "The Heron is fine.", "itemize": True}
    itemized = (await house.http.post("/roleplay", json={**body, "author_note": "Soon."})).json()["itemized"]

    assert [section["section"] for section in itemized["sections"]] == [
        *("system_prompt", "description", "personality", "scenario", "examples", "lore", "author_note", "history"),
        "post_history",
    ]
    assert all(section["tokens"] > 0 for section in itemized["sections"])
    assert [(lore["name"], lore["fired"], lore["reason"], lore["position"]) for lore in itemized["lore"]] == [
        ("sea", True, "constant", "before_char"),
        ("ship", True, "key 'Heron'", "after_char"),
        ("town", True, "in other lore: key 'Orvik'", "depth 1"),
        ("kraken", False, "no key found", "before_char"),
        ("off", False, "disabled", "before_char"),
    ]
    assert all(lore["tokens"] > 0 for lore in itemized["lore"])


async def test_lore_beyond_the_budget_is_dropped_from_the_lowest_priority(house: House) -> None:
    """The account says so, and the prompt is without it."""
    entries = [
        {"keys": ["sea"], "content": f"Fact {name}. " * 5, "priority": priority, "name": name, "insertion_order": order}
        for order, (name, priority) in enumerate([("low", 1), ("high", 9), ("middle", 5)])
    ]
    budget = sum(tokens.estimate(f"Fact {name}. " * 5) for name in ("high", "middle"))
    body = {"character": "Mira", "message": "the sea", "lorebook": {"entries": entries, "token_budget": budget}}
    answer = (await house.http.post("/roleplay", json={**body, "itemize": True})).json()

    assert [(lore["name"], lore["reason"]) for lore in answer["itemized"]["lore"]] == [
        ("low", "over the token budget"),
        ("high", "key 'sea'"),
        ("middle", "key 'sea'"),
    ]
    assert (await asked(house))[0]["messages"][1]["content"].startswith("Fact high.")


async def test_a_line_for_the_user_is_cut_and_the_name_removed(house: House) -> None:
    """Both are flagged; the flags are in the ledger too."""
    await models_say(house, "**Mira:** Hold on.\n\n*Ann*: I do.\nMira: Good.")
    reply = (await house.http.post("/roleplay", json={"character": "Mira", "user_name": "Ann", "message": "Hi"})).json()

    assert reply["content"] == "Hold on."
    assert {"name_prefix", "speaks_for_user"} <= {issue["code"] for issue in reply["quality_issues"]}
    assert {row[0] for row in await house.ledger("select code from openrouter.quality_issues")} >= {
        "name_prefix",
        "speaks_for_user",
    }


async def test_a_stream_never_shows_what_is_cut(house: House) -> None:
    """The markers arrive in pieces; what the caller sees together is the edited text."""
    await models_say(house, "Mira: Hold on. Anna waits.\nAnn is late.\n\n*Ann*: I do.")
    events = await streamed(house, "roleplay", {"character": "Mira", "user_name": "Ann", "message": "Hi"})

    assert is_well_formed(events)
    assert text_of(events) == "Hold on. Anna waits.\nAnn is late."
    assert {"name_prefix", "speaks_for_user"} <= {issue["code"] for issue in events[-1][1]["quality_issues"]}


async def test_a_stop_of_the_provider_leaves_no_trace(house: House) -> None:
    """Where the provider itself stopped at the user's name, no empty lines are left behind."""
    await models_say(house, "Hold on.\n\nAnn: I do.")
    reply = (await house.http.post("/roleplay", json={"character": "Mira", "user_name": "Ann", "message": "Hi"})).json()

    assert reply["content"] == "Hold on."


async def test_a_continuation_is_only_what_is_new(house: House) -> None:
    """A model that says the old text again is not shown saying it."""
    await models_say(house, "We hold the line.")
    body = {"character": "Mira", "messages": [user("Well?"), assistant("We hold")], "action": "continue"}
    reply = (await house.http.post("/roleplay", json=body)).json()

    assert reply["content"] == " the line."


async def test_speaking_for_the_user_is_right_when_asked_to(house: House) -> None:
    """Impersonated, the user's name is the prefix and the character's line is the end."""
    await models_say(house, "Ann: I do.\n_Mira_: Good.")
    body = {"character": "Mira", "user_name": "Ann", "messages": STORY, "action": "impersonate"}
    reply = (await house.http.post("/roleplay", json=body)).json()

    assert reply["content"] == "I do."
    codes = {issue["code"] for issue in reply["quality_issues"]}
    assert codes >= {"name_prefix", "speaks_for_character"}
    assert "speaks_for_user" not in codes


async def test_the_callers_own_stops_come_first(house: House) -> None:
    """Four are sent; the names that find no room are cut on our side."""
    body = {"character": "Mira", "user_name": "Ann", "message": "Hi"}
    await house.http.post("/roleplay", json={**body, "stop": ["END"]})
    await house.http.post("/roleplay", json={**body, "stop": ["1", "2", "3"]})

    assert [request["stop"] for request in await asked(house)] == [
        ["END", "\nAnn:", "\nUser:"],
        ["1", "2", "3", "\nAnn:"],
    ]


async def test_macros_in_what_the_user_says_stay_as_they_are(house: House) -> None:
    """Only the texts of the author are filled in, once: a name is never read as a macro."""
    body = {"character": {"name": "Mira", "description": "{{user}}!"}, "user_name": "{{char}}", "message": "{{user}}?"}
    messages = await sent(house, body)

    assert messages[0]["content"].endswith("\nDescription: {{char}}!\nThe user's name: {{char}}")
    assert messages[1] == user("{{user}}?")
