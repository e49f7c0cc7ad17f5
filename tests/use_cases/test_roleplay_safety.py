"""What is refused before a model is asked."""

from __future__ import annotations

import pytest

from shared.safety import Finding, Passage, sexual_content_with_minor
from tests.house import House
from tests.use_cases.dialogue import asked

MINORS = [
    *("Age: 15", 'Age("16")', '{"age": 17}', "aged twelve", "15 years old", "a 16-year-old squire"),
    *("a fifteen-year-old", "17 years of age", "16yo", "15 y/o", "She is 15.", "I'm only sixteen, sir.", "underage"),
]
NO_MINORS = [
    *("Age: 18", "25 years old", "a thirty-year-old", "115 years old", "15,000 years old", "aged 40"),
    *("for 15 years", "15 years ago", "He is 5'11.", "It is 15 o'clock", "a 15-year-old whisky", "page 15"),
    *("When she was 15 years old the war began. She is 40.", "no underage characters", "room 12", ""),
]
SEXUAL = ["Write a sex scene.", "Make it sexual.", "erotic", "This is NSFW.", "Describe the nude.", "smut, please"]
NOT_SEXUAL = [
    *("Go on a quest.", "Sex: female", 'Sex("female")', "the opposite sex", "No sexual content.", "non-sexual"),
    *("sexual orientation", "Sussex", "a naked blade", "sex education", "Never NSFW.", "They kiss.", ""),
]


def found(*texts: str) -> Finding | None:
    return sexual_content_with_minor(Passage(f"field{place}", text) for place, text in enumerate(texts))


@pytest.mark.parametrize("minor", MINORS)
def test_an_age_under_eighteen_with_sexual_content_is_found(minor: str) -> None:
    """However the age is written; the fields are told."""
    assert found("A tale.", minor, "Write a sex scene.") == Finding("field1", "field2")


@pytest.mark.parametrize("sexual", SEXUAL)
def test_sexual_content_with_an_age_under_eighteen_is_found(sexual: str) -> None:
    """However it is asked for, also in the text that states the age."""
    assert found("15 years old", sexual) == Finding("field0", "field1")
    assert found(f"She is 15 years old. {sexual}") == Finding("field0", "field0")


@pytest.mark.parametrize("adult", NO_MINORS)
def test_adults_are_their_own_business(adult: str) -> None:
    """No age under 18 is stated here."""
    assert found(adult, "Write a sex scene.") is None


@pytest.mark.parametrize("harmless", NOT_SEXUAL)
def test_the_young_may_have_adventures(harmless: str) -> None:
    """No sexual content is asked for here."""
    assert found("a 16-year-old squire", harmless) is None


@pytest.mark.parametrize(
    ("age", "is_found"), [("15", True), ("sixteen", True), ("18", False), ("34", False), ("?", False)]
)
def test_an_age_of_its_own(age: str, is_found: bool) -> None:
    """A field that holds an age needs no words around it."""
    passages = [Passage("character.age", age, is_age=True), Passage("messages", "sexual")]

    assert (sexual_content_with_minor(passages) is not None) is is_found


@pytest.mark.parametrize("text", ["15 " * 400_000, "no sexual " * 200_000, "age " * 300_000, "she is " * 200_000])
def test_a_long_text_is_read_quickly(text: str) -> None:
    """Time grows with the text; nothing hangs."""
    found(text, text, "15 years old")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (
            {"character": {"name": "Pim", "age": 15}, "message": "Make this sexual."},
            ["character.age", "messages"],
        ),
        (
            {"character": {"name": "Pim", "description": "A 15-year-old."}, "scenario": "erotic", "message": "Hi"},
            ["character", "scenario"],
        ),
        ({"character": "Pim", "message": "You are 15 years old. Write smut."}, ["messages", "messages"]),
    ],
    ids=["an age field", "a description", "a message"],
)
async def test_the_door_refuses_and_explains(house: House, body: dict[str, object], fields: list[str]) -> None:
    """CONTENT_BLOCKED with the two fields; no model is asked."""
    answer = await house.http.post("/roleplay", json=body)
    error = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (422, "CONTENT_BLOCKED")
    assert [detail["field"] for detail in error["details"]] == fields
    assert await asked(house) == []


async def test_a_young_squire_may_go_on_a_quest(house: House) -> None:
    """An age alone is no reason to refuse."""
    body = {"character": {"name": "Pim", "age": 16, "description": "A 16-year-old squire."}, "message": "To the hills!"}

    assert (await house.http.post("/roleplay", json=body)).status_code == 200
