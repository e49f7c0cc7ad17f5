"""Tools, pictures and wanted formats at `chat`: they pass through, and the answer carries what the model called."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.house import House

SLUG = "openai/gpt-4o-mini"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}
ASKED: dict[str, Any] = {"messages": [{"role": "user", "content": "Use the tool."}], "tools": [TOOL], "model": SLUG}


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream."""
    blocks = [block.split("\n") for block in text.split("\n\n") if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


async def test_a_tool_is_called_and_answered(house: House) -> None:
    """The reply has the call; with its result the model answers. camelCase is understood here too."""
    called = (await house.http.post("/chat", json={**ASKED, "toolChoice": "auto"})).json()
    [call] = called["tool_calls"]
    said = [
        *ASKED["messages"],
        {"role": "assistant", "content": None, "toolCalls": [call]},
        {"role": "tool", "toolCallId": call["id"], "content": "A lighthouse."},
    ]
    told = (await house.http.post("/chat", json={**ASKED, "messages": said})).json()

    assert (called["finish_reason"], called["content"], call["function"]["name"]) == ("tool_calls", "", "look_up")
    assert (told["finish_reason"], "tool_calls" in told) == ("stop", False)
    first, second = [request["body"] for request in await house.simulator.requests()]
    assert (first["tools"], first["tool_choice"]) == ([TOOL], "auto")
    assert second["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "A lighthouse."},
    ]


async def test_a_stream_that_only_calls_tools(house: House) -> None:
    """No text: start, then done with the calls."""
    await house.simulator.fault(SLUG, "stream_tools_interleaved")
    answer = await house.http.post("/chat", json={**ASKED, "stream": True})
    (first, _), (last, done) = events(answer.text)

    assert (first, last) == ("start", "done")
    assert [call["function"]["name"] for call in done["tool_calls"]] == ["look_up", "roll_dice"]
    assert done["finish_reason"] == "tool_calls"


async def test_a_refusal_is_shown(house: House) -> None:
    """Its words are the content, and stand beside it by their own name."""
    await house.simulator.fault(SLUG, "ok_refusal")
    reply = (await house.http.post("/chat", json=ASKED)).json()

    assert reply["content"] == reply["refusal"] == "I cannot help with that."
    assert reply["finish_reason"] == "content_filter"


async def test_a_format_goes_through_and_what_a_model_cannot_do_is_told(house: House) -> None:
    """One model writes the JSON; another has no such parameter, so it is dropped and listed."""
    wanted = {"type": "json_object"}
    asked = {"messages": [{"role": "user", "content": "Hi"}], "responseFormat": wanted}
    able = (await house.http.post("/chat", json={**asked, "model": SLUG})).json()
    unable = (await house.http.post("/chat", json={**asked, "model": "anthropic/claude-haiku-4.5"})).json()

    bodies = [request["body"] for request in await house.simulator.requests()]
    assert [body.get("response_format") for body in bodies] == [wanted, None]
    assert ("response_format" in able["params"]["dropped"], "response_format" in unable["params"]["dropped"]) == (
        *(False, True),
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]}, "messages.0.tool_calls.0.id"),
        ({"tools": [{"type": "function", "function": {"name": "two words"}}]}, "tools.0.function.name"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function.name"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_bad_tools_name_the_field(house: House, change: dict[str, Any], field: str) -> None:
    """At this door unknown fields of the request are refused as well."""
    answer = await house.http.post("/chat", json={**ASKED, **change})

    assert answer.status_code == 400
    assert field in [detail["field"] for detail in answer.json()["error"]["details"]]
    assert await house.simulator.requests() == []


async def test_only_the_assistant_calls_tools(house: House) -> None:
    """A user who claims to have called one is refused."""
    call = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    said = [{"role": "user", "content": "x", "tool_calls": [call]}]
    answer = await house.http.post("/chat", json={"messages": said})

    assert (answer.status_code, answer.json()["error"]["details"][0]["field"]) == (400, "messages.0.tool_calls")
