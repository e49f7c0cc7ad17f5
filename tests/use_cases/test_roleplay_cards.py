"""Character cards: every file they come in, and what is said when one is broken."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import character
from shared.character import Character, Note
from shared.errors import InvalidRequest
from shared.templates import Macros
from tests.use_cases import cards

V2, V3 = cards.card("mira_v2"), cards.card("tove_v3")
TEXT2, TEXT3 = cards.packed(V2), cards.packed(V3)


def wrong(given: Any) -> tuple[str, str]:
    """The field and what is wrong with it."""
    with pytest.raises(InvalidRequest) as refused:
        character.read(given)
    [detail] = refused.value.details
    return detail.field, detail.message


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (V2, "Captain Mira"),
        (json.dumps(V2), "Captain Mira"),
        (cards.encoded(json.dumps(V2).encode()), "Captain Mira"),
        ("data:application/json;base64," + cards.encoded(b"\xef\xbb\xbf" + json.dumps(V3).encode()), "Tove Lund"),
        (cards.encoded(cards.png(cards.text_chunk(b"chara", TEXT2))), "Captain Mira"),
        (cards.encoded(cards.png(cards.text_chunk(b"ccv3", TEXT3), cards.text_chunk(b"chara", TEXT2))), "Tove Lund"),
        (cards.encoded(cards.png(cards.text_chunk(b"chara", TEXT2), cards.text_chunk(b"ccv3", TEXT3))), "Tove Lund"),
        (cards.encoded(cards.png(cards.compressed_chunk(b"ccv3", TEXT3))), "Tove Lund"),
        (cards.encoded(cards.png(cards.international_chunk(b"ccv3", TEXT3, is_compressed=False))), "Tove Lund"),
        (cards.encoded(cards.png(cards.international_chunk(b"ccv3", TEXT3, is_compressed=True))), "Tove Lund"),
        ("data:image/png;base64," + cards.encoded(cards.png(cards.text_chunk(b"ccv3", TEXT3))), "Tove Lund"),
        (cards.encoded(cards.charx({"card.json": json.dumps(V3).encode(), "assets/a.png": b"x"})), "Tove Lund"),
        # A picture with a CHARX behind it, as some tools write it.
        (
            "data:image/jpeg;base64,"
            + cards.encoded(b"\xff\xd8\xff" + cards.charx({"card.json": json.dumps(V3).encode()})),
            "Tove Lund",
        ),
        ({"char_name": "Old", "char_persona": "v0"}, "Old"),
        ({"name": "Flat", "first_mes": "Hi"}, "Flat"),
        ({"spec": "chara_card_v9", "spec_version": "9", "data": {"name": "New", "thing": {}}}, "New"),
    ],
    ids=[
        *("object", "json", "json in base64", "json as data url", "png", "png v3 first", "png v2 first", "zTXt"),
        *("iTXt", "compressed iTXt", "png as data url", "charx", "charx behind a picture", "older names", "flat"),
        "of the future",
    ],
)
def test_a_card_in_any_file(given: Any, name: str) -> None:
    """V3 is preferred where there are two; fields and versions that nobody knows do not matter."""
    assert character.read(given).name == name


def test_what_is_read_from_a_card() -> None:
    """The fields that count; the creator's notes do not."""
    mira = character.read(V2)

    assert (mira.called, mira.personality, len(mira.greetings)) == ("Captain Mira", "dry, patient", 2)
    assert character.example_blocks(mira.examples) == (
        "{{user}}: Is it far?\n{{char}}: Everything is far.",
        "{{user}}: Sleep well.\n{{char}}: I never do.",
    )
    assert mira.book is not None
    assert len(mira.book.entries) == 5
    assert character.read(V3).note == Note("{{char}} hears the wind.", 1)
    assert "Never" not in repr(mira)


@pytest.mark.parametrize(
    ("sentence", "called"),
    [
        ("Mira", "Mira"),
        ("{{user}}'s sister", "{{user}}'s sister"),
        ("eyJay", "eyJay"),
        ("A pirate who " + "very " * 20 + "much likes rum", None),
        ("Mira\nA pirate", None),
    ],
)
def test_a_sentence_is_a_character(sentence: str, called: str | None) -> None:
    """A short one is the name, too; a long one names nobody."""
    assert character.read(sentence) == Character(name=sentence, called=called)


def bomb(size: int) -> bytes:
    return zlib.compress(bytes(size), 9)


def lying_charx() -> bytes:
    """A zip whose directory says that a large member is small."""
    whole = bytearray(cards.charx({"card.json": b" " * 30_000_000}))
    for place in (whole.find(b"PK\x03\x04") + 22, whole.rfind(b"PK\x01\x02") + 24):
        whole[place : place + 4] = (10).to_bytes(4, "little")
    return bytes(whole)


DAMAGED = bytearray(cards.png(cards.text_chunk(b"ccv3", TEXT3)))
DAMAGED[60] ^= 1
DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (cards.png(), "holds no character"),
        (cards.png()[:40], "holds no character"),
        (bytes(DAMAGED), "checksum"),
        (cards.png(cards.text_chunk(b"ccv3", b"\xff!")), "base64"),
        (cards.png(cards.text_chunk(b"ccv3", base64.b64encode(b"[1]"))), "should be an object"),
        (cards.png(cards.text_chunk(b"ccv3", base64.b64encode(b'{"a":'))), "not valid JSON"),
        (cards.png(cards.text_chunk(b"ccv3", base64.b64encode(b'{"a":' + DEEP))), "not valid JSON"),
        (cards.png(cards.text_chunk(b"ccv3", base64.b64encode(b'{"name":"\\ud800"}'))), "not valid JSON"),
        (cards.png(cards.chunk(b"zTXt", b"ccv3\0\0" + bomb(200_000_000))), "too large"),
        (cards.png(cards.chunk(b"zTXt", b"ccv3\0\0nonsense")), "compressed text"),
        (cards.png(cards.chunk(b"zTXt", b"ccv3")), "base64"),
        (cards.png(*[cards.chunk(b"juNk", b"")] * 10_001), "chunks"),
        (cards.charx({"card.json": b"{" + b" " * 30_000_000}), "too large"),
        (lying_charx(), "CHARX"),
        (cards.charx({"other.json": b"{}"}), "no card.json"),
        (cards.charx({str(place): b"" for place in range(2_001)}), "more than"),
        (cards.charx({"card.json": b"{}"})[:-10] + b"\xff" * 40, "CHARX is damaged"),
        (cards.charx({"card.json": b"{}"})[:-30], "neither"),
        (b"RIFF....WEBP", "neither"),
        (bytes(9_000_001), "too large"),
    ],
    ids=[
        *("no chunk", "cut short", "wrong checksum", "no base64", "a list", "broken json", "deep json", "surrogate"),
        *("zlib bomb", "no zlib", "empty zTXt", "many chunks", "zip bomb", "lying zip", "no card", "many files"),
        *("broken zip", "half a zip", "webp", "too large"),
    ],
)
def test_a_broken_file_is_told_so(file: bytes, said: str) -> None:
    """One clear sentence, at the field; nothing is unpacked beyond its bound."""
    field, message = wrong("data:;base64," + cards.encoded(file))

    assert field == "character"
    assert said in message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": ""}, "character.data.name"),
        ({"name": None}, "character.data.name"),
        ({"name": "x" * 201}, "character.data.name"),
        ({"description": ["x"]}, "character.data.description"),
        ({"first_mes": 5}, "character.data.first_mes"),
        ({"mes_example": {}}, "character.data.mes_example"),
        ({"system_prompt": True}, "character.data.system_prompt"),
        ({"personality": "\0"}, "character.data.personality"),
        ({"scenario": "x" * 200_001}, "character.data.scenario"),
        ({"alternate_greetings": [1]}, "character.data.alternate_greetings.0"),
        ({"alternate_greetings": {"a": 1}}, "character.data.alternate_greetings"),
        ({"alternate_greetings": ["x"] * 201}, "character.data.alternate_greetings"),
        ({"character_book": []}, None),
        ({"character_book": "x"}, "character.data.character_book"),
        ({"character_book": {"entries": "x"}}, "character.data.character_book.entries"),
        (
            {"character_book": {"entries": [{"insertion_order": "x"}]}},
            "character.data.character_book.entries.0.insertion_order",
        ),
        ({"character_book": {"entries": [{}] * 2_001}}, "character.data.character_book.entries"),
        ({"extensions": "x"}, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_malformed_field_is_named(change: dict[str, Any], field: str | None) -> None:
    """Also within a picture; what applications may fill as they like is never wrong."""
    card = {**V2, "data": {**V2["data"], **change}}
    if field is None:
        assert character.read(card).name == "Captain Mira"
    else:
        assert wrong(card)[0] == field
        assert wrong(cards.encoded(cards.png(cards.text_chunk(b"chara", cards.packed(card)))))[0] == field


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["name", "data", "spec", "entries", "keys", "content", "character_book", "extensions", "position"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def refused_or_read(given: Any) -> None:
    try:
        assert character.read(given).name
    except InvalidRequest as refused:
        assert refused.details


@given(st.dictionaries(st.sampled_from(["name", "data", "spec", "character_book", "first_mes", "age"]), JSON))
def test_any_object_is_read_or_refused(card: dict[str, Any]) -> None:
    """No other exception leaves the parser."""
    refused_or_read(card)
    refused_or_read(json.dumps(card))


@given(st.binary(max_size=300), st.sampled_from(["", "png", "chunk", "zTXt", "iTXt", "zip", "json"]))
def test_any_bytes_are_read_or_refused(data: bytes, kind: str) -> None:
    """Nothing that stands in a file brings down more than its request."""
    made: dict[str, Callable[[], bytes]] = {
        "": lambda: data,
        "png": lambda: b"\x89PNG\r\n\x1a\n" + data,
        "chunk": lambda: cards.png(cards.text_chunk(b"chara", data)),
        "zTXt": lambda: cards.png(cards.chunk(b"zTXt", b"chara\0" + data)),
        "iTXt": lambda: cards.png(cards.chunk(b"iTXt", b"chara\0" + data)),
        "zip": lambda: b"PK\x03\x04" + data + cards.charx({"card.json": data}),
        "json": lambda: b'{"name":' + data,
    }
    refused_or_read("data:;base64," + cards.encoded(made[kind]()))


@given(st.data())
def test_a_charx_with_any_damage_is_read_or_refused(data: st.DataObject) -> None:
    """Flags, sizes, offsets and checksums of the zip may say anything."""
    whole = bytearray(cards.charx({"card.json": json.dumps(V3).encode(), "x": b"y"}))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=6)):
        whole[place] = data.draw(st.integers(0, 255))
    refused_or_read("data:;base64," + cards.encoded(bytes(whole)))


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    """A sentence, or a file."""
    refused_or_read(text)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{{char}} {{ USER }} <bot> <User> <START>", "Mira Ann Mira Ann <START>"),
        ("{{original}}|{{// note}}|{{comment: x}}|{{hidden_key:k}}", "base|||"),
        ("{{time}} {{bot}} {char} {{}} {{char", "{{time}} {{bot}} {char} {{}} {{char"),
        ("{{roll:1}} {{roll:d1}} {{roll:0}} {{roll:x}}", "1 1 {{roll:0}} {{roll:x}}"),
        ("{{random:a}} {{pick::a,b}} {{random:a\\,b}}", "a a,b a,b"),
    ],
)
def test_macros(text: str, filled: str) -> None:
    """Known ones are filled in, comments removed, unknown ones left as written."""
    assert Macros(char="Mira", user="Ann").fill(text, "base") == filled


def test_macros_are_filled_in_once() -> None:
    """A name that looks like a macro stays text."""
    assert Macros(char="{{user}}", user="{{char}}").fill("{{char}}{{user}}") == "{{user}}{{char}}"


def test_chance_is_the_same_within_a_chat_and_differs_between_chats() -> None:
    """The choice hangs on the session, so a prompt never changes under a cache."""
    text = "{{random:a,b,c,d}} {{roll:d20}}"
    rolled = {seed: Macros(char="Mira", user="Ann", seed=str(seed)).fill(text) for seed in range(50)}

    assert Macros(char="Mira", user="Ann", seed="7").fill(text) == rolled[7]
    assert len(set(rolled.values())) > 20
