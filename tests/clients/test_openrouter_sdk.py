"""The openrouter package against our door: only the server's address and the key differ."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openrouter import OpenRouter, components, errors
from openrouter.utils.eventstreaming import EventStreamAsync

from tests.house import House, signed_in

HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me about the sea."}]
SLUG = "openai/gpt-4o-mini"
DICE: Any = {
    "type": "function",
    "function": {
        "name": "roll_dice",
        "description": "Rolls a die.",
        "parameters": {"type": "object", "properties": {"sides": {"type": "integer"}}, "required": ["sides"]},
    },
}
KEY = signed_in()["authorization"].removeprefix("Bearer ")


@pytest.fixture(params=["", "/functions/v1"], ids=["short address", "Supabase's address"])
async def client(house: House, request: pytest.FixtureRequest) -> AsyncIterator[OpenRouter]:
    """Signed in as Ann. Our server has its own retries."""
    url = f"{house.http.base_url}{request.param}/openai/v1"
    async with OpenRouter(server_url=url, api_key=KEY, retry_config=None) as client:
        yield client


async def whole(client: OpenRouter, **asked: Any) -> components.ChatResult:
    answer = await client.chat.send_async(**{"model": SLUG, "messages": HELLO, **asked})
    assert isinstance(answer, components.ChatResult)
    return answer


async def streamed(client: OpenRouter, **asked: Any) -> EventStreamAsync[components.ChatStreamChunk]:
    answer = await client.chat.send_async(**{"model": SLUG, "messages": HELLO, "stream": True, **asked})
    assert isinstance(answer, EventStreamAsync)
    return answer


async def test_a_completion(house: House, client: OpenRouter) -> None:
    """The package's own strict classes accept our answer; usage and cost are OpenRouter's."""
    answer = await whole(client, temperature=0, max_completion_tokens=50, provider={"data_collection": "deny"})

    assert (answer.model, answer.choices[0].finish_reason) == (SLUG, "length")
    assert isinstance(answer.choices[0].message.content, str)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 50
    assert answer.usage.cost == float((await house.simulator.bill())["total_cost"])
    [request] = await house.simulator.requests()
    assert request["body"]["messages"] == HELLO
    assert (request["body"]["temperature"], request["body"]["max_tokens"]) == (0, 50)
    assert request["body"]["provider"] == {"data_collection": "deny"}


async def test_a_stream(client: OpenRouter) -> None:
    """Every chunk fits the package's classes; the text is the same as without a stream; usage is at the end."""
    async with await streamed(client) as events:
        chunks = [chunk async for chunk in events]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)

    assert text == (await whole(client)).choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.cost


async def test_tools_there_and_back(house: House, client: OpenRouter) -> None:
    """The package's own message object goes back as it came."""
    asked = await whole(client, tools=[DICE], tool_choice="required")
    message = asked.choices[0].message
    [call] = message.tool_calls or []
    result = {"role": "tool", "tool_call_id": call.id, "content": "4"}
    told = await whole(client, tools=[DICE], messages=[*HELLO, message, result])

    assert asked.choices[0].finish_reason == "tool_calls"
    assert (call.function.name, json.loads(call.function.arguments)) == ("roll_dice", {"sides": 1})
    assert told.choices[0].finish_reason == "stop"
    second = (await house.simulator.requests())[1]["body"]
    assert second["messages"][2]["tool_calls"][0]["id"] == call.id
    assert second["messages"][3] == result


async def test_tools_on_a_stream(house: House, client: OpenRouter) -> None:
    """Both calls arrive, each in a delta of its own."""
    await house.simulator.fault(SLUG, "stream_tools")
    async with await streamed(client, tools=[DICE]) as events:
        deltas = [choice.delta async for chunk in events for choice in chunk.choices]
    calls = [call for delta in deltas for call in delta.tool_calls or []]

    assert [(call.index, call.function and call.function.name) for call in calls] == [(0, "look_up"), (1, "roll_dice")]


async def test_the_callers_own_order_of_models(house: House, client: OpenRouter) -> None:
    """`models` without `model`: these in order."""
    await house.simulator.fault("openai/gpt-4.1", "no_endpoints")
    answer = await whole(client, model=None, models=["openai/gpt-4.1", "openai/gpt-4o"])

    assert answer.model == "openai/gpt-4o"


async def test_a_use_case_instead_of_a_model(client: OpenRouter) -> None:
    """The alias works wherever a slug does; without any name it is casual chat."""
    assert (await whole(client, model="use-case:roleplay")).model == "anthropic/claude-sonnet-4.6"
    assert (await whole(client, model=None)).model == SLUG


async def test_a_wanted_shape(client: OpenRouter) -> None:
    """response_format goes through."""
    schema = {"type": "object", "properties": {"sea": {"type": "string"}}, "required": ["sea"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "sea", "schema": schema, "strict": True}}
    answer = await whole(client, response_format=wanted)

    assert isinstance(answer.choices[0].message.content, str)
    assert set(json.loads(answer.choices[0].message.content)) == {"sea"}


async def test_a_completion_without_asyncio(house: House) -> None:
    """The plain half of the package too, whole and streamed."""

    def ask() -> tuple[Any, str]:
        with OpenRouter(server_url=f"{house.http.base_url}/openai/v1", api_key=KEY, retry_config=None) as client:
            answer = client.chat.send(model=SLUG, messages=HELLO)
            with client.chat.send(model=SLUG, messages=HELLO, stream=True) as events:
                text = "".join(chunk.choices[0].delta.content or "" for chunk in events)
            return answer.choices[0].message.content, text

    answer, text = await asyncio.to_thread(ask)

    assert answer
    assert answer == text


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [("no_endpoints", 404, "MODEL_NOT_FOUND"), ("payment_credits", 402, "PAYMENT_REQUIRED")],
)
async def test_failures_raise_with_our_error_inside(
    house: House, client: OpenRouter, fault: str, status: int, code: str
) -> None:
    """Our codes are words where the package expects numbers, so it raises its general error: status and body tell."""
    await house.simulator.fault("*", fault)
    with pytest.raises(errors.OpenRouterError) as failure:
        await whole(client)

    assert failure.value.status_code == status
    assert json.loads(failure.value.body)["error"]["code"] == code


async def test_half_a_stream_raises(house: House, client: OpenRouter) -> None:
    """Text, then an exception, because our code is a word where the package wants a number: never a quiet end."""
    await house.simulator.fault(SLUG, "stream_drop")
    heard = ""
    with pytest.raises(errors.ResponseValidationError, match=r"error\.code"):
        async with await streamed(client) as events:
            async for chunk in events:
                heard += chunk.choices[0].delta.content or ""

    assert heard


async def test_a_wrong_key_raises(house: House) -> None:
    """401, with our sentence."""
    async with OpenRouter(
        server_url=f"{house.http.base_url}/openai/v1", api_key="sk-or-v1-x", retry_config=None
    ) as client:
        with pytest.raises(errors.OpenRouterError) as refusal:
            await whole(client)

    assert refusal.value.status_code == 401
