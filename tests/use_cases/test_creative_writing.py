"""The conversational doors: `creative-writing` and `casual-chat`, whole and streamed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.house import House
from tests.use_cases.dialogue import asked, is_well_formed, models_say, streamed, text_of

PARTNER = "You are a creative writing partner. Write original, vivid prose and follow the form that is asked for."
TURNS = [
    {"role": "user", "content": "A poem about rain."},
    {"role": "assistant", "content": "Rain, again."},
    {"role": "user", "content": "Longer."},
]


def system(text: str) -> dict[str, str]:
    return {"role": "system", "content": text}


@pytest.mark.parametrize(
    ("door", "body", "messages", "params"),
    [
        pytest.param(
            "creative-writing",
            {"message": "A poem about rain."},
            [system(PARTNER), TURNS[0]],
            ("openai/gpt-4.1", 1000, 0.8, 0.9),
            id="creative: the preset",
        ),
        pytest.param(
            "creative-writing",
            {"messages": TURNS, "form": "poem", "tone": "wistful", "style": "Emily Dickinson"},
            [system(f"{PARTNER}\nForm: poem\nTone: wistful\nStyle: Emily Dickinson"), *TURNS],
            ("openai/gpt-4.1", 1000, 0.8, 0.9),
            id="creative: form, tone, style",
        ),
        pytest.param(
            "creative-writing",
            {"message": "x", "maxTokens": 7, "temperature": 0, "topP": 0},
            [system(PARTNER), {"role": "user", "content": "x"}],
            ("openai/gpt-4.1", 7, 0, 0),
            id="creative: the request wins, an explicit 0 is sent",
        ),
        pytest.param(
            "casual-chat",
            {"messages": TURNS},
            TURNS,
            ("openai/gpt-4o-mini", 500, 0.7, 0.9),
            id="casual: the turns and nothing else",
        ),
        pytest.param(
            "casual-chat",
            {"message": "Hi", "model": "mistralai/mistral-nemo", "temperature": 0},
            [{"role": "user", "content": "Hi"}],
            ("mistralai/mistral-nemo", 500, 0, 0.9),
            id="casual: another model, an explicit 0",
        ),
    ],
)
async def test_what_the_model_is_sent(
    house: House, door: str, body: dict[str, Any], messages: list[dict[str, str]], params: tuple[Any, ...]
) -> None:
    """The exact messages and parameters; whole and streamed they differ in `stream` alone."""
    reply = await house.http.post(f"/{door}", json=body)
    events = await streamed(house, door, body)

    assert reply.status_code == 200
    assert is_well_formed(events)
    whole, streaming = await asked(house)
    slug, max_tokens, temperature, top_p = params
    assert whole == {
        "model": slug,
        "messages": messages,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "stream": False,
    }
    assert streaming == {**whole, "stream": True}


@pytest.mark.parametrize("door", ["creative-writing", "casual-chat"])
async def test_the_text_arrives_whole_and_streamed(house: House, door: str) -> None:
    """The deltas are the content; `done` is the reply without it."""
    await models_say(house, "Rain on the tin roof.", "Rain on the tin roof.")
    reply = (await house.http.post(f"/{door}", json={"message": "Rain."})).json()
    events = await streamed(house, door, {"message": "Rain."})

    assert reply["content"] == text_of(events) == "Rain on the tin roof."
    assert set(events[-1][1]) == set(reply) - {"content"}
    assert reply["use_case"] == door.replace("-", "_")


async def test_the_model_row_stands_between_request_and_preset(house: House) -> None:
    """request > model row > preset > default."""
    await house.ledger(
        """update api_models set input_defaults = '{"temperature": 0.3, "max_tokens": 800}'
            where model_version = 'openai/gpt-4.1' returning 1"""
    )
    await house.http.post("/creative-writing", json={"message": "x"})
    await house.http.post("/creative-writing", json={"message": "x", "temperature": 1.1})

    rows, request = await asked(house)
    assert (rows["temperature"], rows["max_tokens"], rows["top_p"]) == (0.3, 800, 0.9)
    assert (request["temperature"], request["max_tokens"]) == (1.1, 800)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"message": "x", "form": ""}, "form", id="empty form"),
        pytest.param({"message": "x", "tone": "a\nb"}, "tone", id="tone of two lines"),
        pytest.param({"message": "x", "style": "s" * 201}, "style", id="endless style"),
        pytest.param({"message": "x", "persona": "a pirate"}, "persona", id="unknown field"),
    ],
)
async def test_bad_input_is_named(house: House, body: dict[str, Any], field: str) -> None:
    """The field as the caller wrote it; nothing is sent."""
    answer = await house.http.post("/creative-writing", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    assert await asked(house) == []
