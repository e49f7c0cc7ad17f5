"""The openai package against our door: what works with OpenAI works here, and what fails raises the same exceptions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from shared.edge import Event
from shared.openai_dialect import Dialect
from tests.house import ANN, House, signed_in

HELLO: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me about the sea."}]
USE_IT: Any = [{"role": "user", "content": "Use the tool: how is the weather in Paris?"}]
SLUG = "openai/gpt-4o-mini"
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
        "strict": True,
    },
}
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
)


def key(**claims: Any) -> str:
    """A user's token, as the value of api_key."""
    return signed_in(**claims)["authorization"].removeprefix("Bearer ")


def address(house: House, prefix: str = "") -> str:
    return f"{house.http.base_url}{prefix}/openai/v1"


@pytest.fixture
async def client(house: House) -> AsyncIterator[AsyncOpenAI]:
    """Signed in as Ann. Our server has its own retries."""
    async with AsyncOpenAI(base_url=address(house), api_key=key(), max_retries=0) as client:
        yield client


@pytest.mark.parametrize("prefix", ["", "/functions/v1"], ids=["short address", "Supabase's address"])
async def test_a_completion(house: House, prefix: str) -> None:
    """OpenAI's object, with cost and our own account of the request beside it; the ledger agrees."""
    async with AsyncOpenAI(base_url=address(house, prefix), api_key=key(), max_retries=0) as client:
        answer = await client.chat.completions.create(model=SLUG, messages=HELLO)

    [choice] = answer.choices
    told: Any = answer.model_extra
    assert (answer.object, answer.model, choice.index) == ("chat.completion", SLUG, 0)
    assert (choice.message.role, choice.finish_reason, choice.message.tool_calls) == ("assistant", "stop", None)
    assert choice.message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0
    assert (told["provider"], told["x_request"]["outcome"], told["x_request"]["cost_source"]) == (
        *("OpenRouter", "complete", "provider"),
    )
    assert answer.id == f"chatcmpl-{told['x_request']['request_id']}"
    [(request_id, user, use_case, cost)] = await house.ledger(
        "select request_id, user_id::text, use_case, cost_usd from openrouter.completions"
    )
    assert (request_id, user, use_case) == (told["x_request"]["request_id"], ANN, "casual_chat")
    assert Decimal(str((answer.usage.model_extra or {})["cost"])) == cost


async def test_the_model_hears_exactly_what_the_client_said(house: House, client: AsyncOpenAI) -> None:
    """No sentence of ours, no change of the messages."""
    await client.chat.completions.create(model="use-case:roleplay", messages=HELLO)

    [request] = await house.simulator.requests()
    assert request["body"]["messages"] == HELLO


async def test_a_completion_without_asyncio(house: House) -> None:
    """The plain client too, whole and streamed."""

    def ask() -> tuple[str | None, str]:
        with OpenAI(base_url=address(house), api_key=key(), max_retries=0) as client:
            whole = client.chat.completions.create(model=SLUG, messages=HELLO).choices[0].message.content
            chunks = client.chat.completions.create(model=SLUG, messages=HELLO, stream=True)
            return whole, "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

    whole, streamed = await asyncio.to_thread(ask)

    assert whole
    assert whole == streamed


async def test_a_stream_with_usage(client: AsyncOpenAI) -> None:
    """Role first, then text, then the reason, then one chunk for the usage alone, as OpenAI does."""
    stream = await client.chat.completions.create(
        model=SLUG, messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    first, *middle, last, used = chunks

    assert (first.choices[0].delta.role, first.choices[0].delta.content) == ("assistant", "")
    assert all(chunk.choices[0].delta.content for chunk in middle)
    assert (last.choices[0].finish_reason, last.usage) == ("stop", None)
    assert used.choices == []
    assert used.usage is not None
    assert used.usage.total_tokens > 0
    assert {(chunk.id, chunk.object, chunk.model, chunk.created) for chunk in chunks} == {
        (first.id, "chat.completion.chunk", SLUG, first.created)
    }


async def test_a_stream_without_the_usage_option(client: AsyncOpenAI) -> None:
    """Every chunk has a choice, so that clients that look at the first one never fail; the usage is with the reason."""
    stream = await client.chat.completions.create(model=SLUG, messages=HELLO, stream=True)
    chunks = [chunk async for chunk in stream]

    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert [chunk.usage is not None for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert (chunks[-1].model_extra or {})["x_request"]["outcome"] == "complete"


async def test_tools_there_and_back(house: House, client: AsyncOpenAI) -> None:
    """The model calls a tool; the call and its result go back as the client wrote them; the model answers."""
    asked = await client.chat.completions.create(
        model=SLUG, messages=USE_IT, tools=[WEATHER], tool_choice="auto", parallel_tool_calls=False
    )
    message = asked.choices[0].message
    [call] = message.tool_calls or []
    assert call.type == "function"
    said = [*USE_IT, message, {"role": "tool", "tool_call_id": call.id, "content": '{"sky": "clear"}'}]
    told = await client.chat.completions.create(model=SLUG, messages=said, tools=[WEATHER])

    assert (asked.choices[0].finish_reason, message.content) == ("tool_calls", None)
    assert (call.function.name, set(json.loads(call.function.arguments))) == ("get_weather", {"place"})
    assert (told.choices[0].finish_reason, bool(told.choices[0].message.content)) == ("stop", True)
    first, second = [request["body"] for request in await house.simulator.requests()]
    assert (first["tools"], first["tool_choice"], first["parallel_tool_calls"]) == ([WEATHER], "auto", False)
    assert second["messages"][1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": "get_weather", "arguments": call.function.arguments},
            }
        ],
    }
    assert second["messages"][2] == said[2]


async def test_the_tool_can_be_named(house: House, client: AsyncOpenAI) -> None:
    """tool_choice as an object goes through."""
    choice: Any = {"type": "function", "function": {"name": "get_weather"}}
    answer = await client.chat.completions.create(model=SLUG, messages=HELLO, tools=[WEATHER], tool_choice=choice)

    [request] = await house.simulator.requests()
    assert request["body"]["tool_choice"] == choice
    assert answer.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("fault", ["stream_tools", "stream_tools_interleaved"])
async def test_parallel_tool_calls_on_a_stream(house: House, client: AsyncOpenAI, fault: str) -> None:
    """The package's own accumulator puts both calls together."""
    await house.simulator.fault(SLUG, fault)
    async with client.chat.completions.stream(model=SLUG, messages=USE_IT, tools=[WEATHER]) as stream:
        answer = await stream.get_final_completion()

    calls = answer.choices[0].message.tool_calls or []
    assert [(call.id, call.function.name) for call in calls] == [
        ("call_sim_0", "look_up"),
        ("call_sim_1", "roll_dice"),
    ]
    assert [json.loads(call.function.arguments) for call in calls] == [
        {"place": "the old lighthouse", "depth": 2},
        {"sides": 20},
    ]
    assert answer.choices[0].finish_reason == "tool_calls"


class Weather(BaseModel):
    place: str
    degrees: int


async def test_an_answer_in_a_wanted_shape(house: House, client: AsyncOpenAI) -> None:
    """response_format json_schema goes through, and the package parses the answer into the class."""
    answer = await client.chat.completions.parse(model=SLUG, messages=HELLO, response_format=Weather)

    assert isinstance(answer.choices[0].message.parsed, Weather)
    [request] = await house.simulator.requests()
    assert request["body"]["response_format"]["json_schema"]["schema"]["title"] == "Weather"
    assert request["body"]["response_format"]["json_schema"]["strict"] is True


async def test_json_mode(house: House, client: AsyncOpenAI) -> None:
    """response_format json_object goes through."""
    await client.chat.completions.create(model=SLUG, messages=HELLO, response_format={"type": "json_object"})

    [request] = await house.simulator.requests()
    assert request["body"]["response_format"] == {"type": "json_object"}


async def test_parameters_reach_the_model_under_its_names(house: House, client: AsyncOpenAI) -> None:
    """The new name of the limit, one stop as text, an explicit zero; what the model does not take is told."""
    answer = await client.chat.completions.create(
        model=SLUG,
        messages=HELLO,
        max_completion_tokens=99,
        max_tokens=7,
        temperature=0,
        top_p=0.5,
        stop="END",
        seed=7,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        logit_bias={"50256": -100},
        n=1,
        user="somebody",
        metadata={"page": "home"},
        logprobs=True,
        store=False,
        extra_body={"colour_of_next_year": "green"},
    )

    [request] = await house.simulator.requests()
    assert {name: value for name, value in request["body"].items() if name not in ("messages", "metadata")} == {
        "model": SLUG,
        "max_tokens": 99,
        "temperature": 0,
        "top_p": 0.5,
        "stream": False,
        "stop": ["END"],
        "seed": 7,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.5,
    }
    told = (answer.model_extra or {})["x_request"]
    assert told["dropped"] == ["logit_bias"]
    assert told["ignored"] == ["colour_of_next_year", "logprobs", "store", "user"]


async def test_null_is_not_given(house: House, client: AsyncOpenAI) -> None:
    """Clients that write null for every field they do not use get the defaults."""
    nothing: Any = None
    await client.chat.completions.create(
        model=SLUG,
        messages=HELLO,
        max_tokens=nothing,
        temperature=nothing,
        stop=nothing,
        stream=nothing,
        metadata=nothing,
        tools=nothing,
        response_format={"type": "text"},
        extra_body={"models": None, "stream_options": None},
    )

    [request] = await house.simulator.requests()
    assert set(request["body"]) == {"model", "messages", "max_tokens", "temperature", "top_p", "stream"}


async def test_images_pass_untouched(house: House, client: AsyncOpenAI) -> None:
    """An address is never fetched here, data is never looked into, and names we do not know go along."""
    parts: Any = [
        {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
        {"type": "image_url", "image_url": {"url": "https://nowhere.invalid/cat.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    said: Any = [{"role": "developer", "content": "Look closely."}, {"role": "user", "name": "ann", "content": parts}]
    await client.chat.completions.create(model=SLUG, messages=said)

    [request] = await house.simulator.requests()
    assert request["body"]["messages"] == said


async def test_a_large_image_fits(house: House, client: AsyncOpenAI) -> None:
    """Three megabytes in one message: more than other doors take."""
    large = PIXEL + "A" * 3_000_000
    said: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": large}}]}]
    answer = await client.chat.completions.create(model=SLUG, messages=said)

    assert answer.choices[0].message.content


async def test_a_slug_means_that_model_and_no_other(house: House, client: AsyncOpenAI) -> None:
    """Who names a model gets its failure, not another model's answer."""
    await house.simulator.fault(SLUG, "no_endpoints")
    with pytest.raises(openai.NotFoundError) as refusal:
        await client.chat.completions.create(model=SLUG, messages=HELLO)

    assert refusal.value.code == "MODEL_NOT_FOUND"
    assert [request["body"]["model"] for request in await house.simulator.requests()] == [SLUG]


async def test_a_use_case_means_whichever_model_serves_it(house: House, client: AsyncOpenAI) -> None:
    """`use-case:<name>` has the candidates of the use case and falls back among them."""
    await house.simulator.fault(SLUG, "no_endpoints")
    answer = await client.chat.completions.create(model="use-case:casual_chat", messages=HELLO)

    assert answer.model == "openai/gpt-4.1-mini"
    assert (answer.model_extra or {})["x_request"]["used_fallback"] is True
    assert [attempt["model"] for attempt in (answer.model_extra or {})["x_request"]["attempts"]] == [SLUG, answer.model]


async def test_a_list_of_models_is_the_callers_own_order(house: House, client: AsyncOpenAI) -> None:
    """OpenRouter's `models`: after the model, these, and no others."""
    for slug in ("openai/gpt-4o", "openai/gpt-4.1"):
        await house.simulator.fault(slug, "no_endpoints")
    answer = await client.chat.completions.create(
        model="openai/gpt-4o", messages=HELLO, extra_body={"models": ["openai/gpt-4.1", "mistralai/mistral-nemo"]}
    )

    assert answer.model == "mistralai/mistral-nemo"


async def test_routing_preferences_and_session_reach_openrouter(house: House, client: AsyncOpenAI) -> None:
    """`provider` may be a wish for privacy: it is never lost on the way."""
    await client.chat.completions.create(
        model=SLUG, messages=HELLO, extra_body={"provider": {"data_collection": "deny"}, "session_id": "s-1"}
    )

    [request] = await house.simulator.requests()
    assert (request["body"]["provider"], request["body"]["session_id"]) == ({"data_collection": "deny"}, "s-1")


async def test_a_refusal_is_a_refusal(house: House, client: AsyncOpenAI) -> None:
    """The model's words of refusal stand where OpenAI puts them."""
    await house.simulator.fault(SLUG, "ok_refusal")
    answer = await client.chat.completions.create(model=SLUG, messages=HELLO)

    [choice] = answer.choices
    assert (choice.message.content, choice.message.refusal) == (None, "I cannot help with that.")
    assert choice.finish_reason == "content_filter"


def test_a_refusal_on_a_stream_has_a_chunk_of_its_own() -> None:
    """No delta told these words, so they come before the reason."""
    dialect = Dialect(request_id="r", created=1, usage_is_wanted=False, ignored=())
    reply: dict[str, Any] = {
        "model": SLUG,
        "provider": "OpenRouter",
        "outcome": "complete",
        "finish_reason": "content_filter",
        "refusal": "No.",
        "usage": {"total_tokens": None},
        "params": {"dropped": []},
    }
    dialect.chunks(Event("start", {"model": SLUG, "provider": "OpenRouter"}))
    refused, ended, done = dialect.chunks(Event("done", reply)).decode().strip().split("\n\n")

    assert json.loads(refused.removeprefix("data: "))["choices"][0]["delta"] == {"refusal": "No."}
    assert json.loads(ended.removeprefix("data: "))["choices"][0]["finish_reason"] == "content_filter"
    assert json.loads(ended.removeprefix("data: "))["usage"] is None
    assert done == "data: [DONE]"


@pytest.mark.parametrize("fault", ["stream_close_after_content", "stream_drop", "stream_error_doc"])
async def test_half_a_stream_never_looks_whole(house: House, client: AsyncOpenAI, fault: str) -> None:
    """After some text the upstream breaks: the client raises, and the bytes hold no [DONE]."""
    await house.simulator.fault(SLUG, fault)
    stream = await client.chat.completions.create(model=SLUG, messages=HELLO, stream=True)
    heard = ""
    with pytest.raises(openai.APIError, match="broke off") as cut:
        async for chunk in stream:
            heard += chunk.choices[0].delta.content or ""
    raw = await house.http.post("/openai/v1/chat/completions", json={"model": SLUG, "messages": HELLO, "stream": True})

    assert heard
    assert cut.value.code == "UPSTREAM_ERROR"
    assert "[DONE]" not in raw.text
    assert raw.text.count('"error":{') == 1
    assert raw.text.count('"finish_reason":"') == raw.text.count('"finish_reason":"error"') == 1
    assert {row[0] for row in await house.ledger("select outcome from openrouter.completions")} == {"truncated"}


async def test_a_stream_that_fails_before_its_first_word_is_an_error_of_its_status(
    house: House, client: AsyncOpenAI
) -> None:
    """Nothing was sent yet, so the status can still tell."""
    await house.simulator.fault(SLUG, "no_endpoints")
    with pytest.raises(openai.NotFoundError):
        await client.chat.completions.create(model=SLUG, messages=HELLO, stream=True)


@pytest.mark.parametrize(
    ("fault", "kind", "status", "code", "message"),
    [
        ("rate_limit_free_per_day", openai.RateLimitError, 429, "RATE_LIMITED", "Rate limit exceeded"),
        ("payment_credits", openai.APIStatusError, 402, "PAYMENT_REQUIRED", "Payment required"),
        ("no_endpoints", openai.NotFoundError, 404, "MODEL_NOT_FOUND", "no longer serves"),
        ("auth_unknown_user", openai.InternalServerError, 502, "UPSTREAM_ERROR", "Unknown OpenRouter API error"),
        ("context_overflow", openai.UnprocessableEntityError, 422, "CONTEXT_TOO_LONG", "longer than"),
    ],
)
async def test_failures_of_the_model_raise_the_exception_of_their_status(
    house: House,
    client: AsyncOpenAI,
    fault: str,
    kind: type[openai.APIStatusError],
    status: int,
    code: str,
    message: str,
) -> None:
    """Class, status, code and our sentence."""
    await house.simulator.fault("*", fault)
    with pytest.raises(kind, match=message) as failure:
        await client.chat.completions.create(model=SLUG, messages=HELLO)

    assert (failure.value.status_code, failure.value.code) == (status, code)
    assert failure.value.response.headers["x-request-id"] == failure.value.request_id


@pytest.mark.parametrize(
    ("token", "kind", "code"),
    [
        ("rubbish", openai.AuthenticationError, "UNAUTHENTICATED"),
        (key(sub="bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"), None, None),
    ],
    ids=["not a token", "another user"],
)
async def test_the_key_is_the_users_token(
    house: House, token: str, kind: type[openai.APIStatusError] | None, code: str | None
) -> None:
    """Whoever is signed in may ask; others raise AuthenticationError."""
    async with AsyncOpenAI(base_url=address(house), api_key=token, max_retries=0) as client:
        if kind is None:
            assert (await client.chat.completions.create(model=SLUG, messages=HELLO)).choices
            return
        with pytest.raises(kind) as refusal:
            await client.chat.completions.create(model=SLUG, messages=HELLO)
        with pytest.raises(kind):
            await client.models.list()

    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("change", "kind", "field"),
    [
        ({"model": "no/such"}, openai.NotFoundError, "model"),
        ({"model": "use-case:nothing"}, openai.BadRequestError, "use_case"),
        ({"model": ""}, openai.BadRequestError, "model"),
        ({"models": [SLUG, "no/such"]}, openai.NotFoundError, "models.1"),
        ({"n": 2}, openai.BadRequestError, "n"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, openai.BadRequestError, "messages.0.role"),
        ({"messages": [{"role": "user", "content": ""}]}, openai.BadRequestError, "messages.0.content"),
        ({"messages": [{"role": "user"}]}, openai.BadRequestError, "messages.0.content"),
        ({"messages": [{"role": "assistant"}]}, openai.BadRequestError, "messages.0.content"),
        ({"messages": [{"role": "user", "content": 5}]}, openai.BadRequestError, "messages.0.content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, openai.BadRequestError, "messages.0.tool_call_id"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc"}}]}]},
            openai.BadRequestError,
            "messages.0.content.0.image_url.url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
            openai.BadRequestError,
            "messages.0.content.0",
        ),
        (
            {"messages": [{"role": "user", "content": "x", "cache_control": {"k": "\u0000"}}]},
            openai.BadRequestError,
            "messages.0.cache_control",
        ),
        ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, "tools.0.type"),
        ({"tools": [{"type": "function", "function": {}}]}, openai.BadRequestError, "tools.0.function.name"),
        ({"tool_choice": "maybe"}, openai.BadRequestError, "tool_choice"),
        ({"response_format": {"type": "json_schema"}}, openai.BadRequestError, "response_format.json_schema"),
        ({"response_format": {"type": "xml"}}, openai.BadRequestError, "response_format.type"),
        ({"functions": [{"name": "f"}]}, openai.BadRequestError, "functions"),
        ({"modalities": ["text", "audio"]}, openai.BadRequestError, "modalities.1"),
        ({"stop": ["a", "b", "c", "d", "e"]}, openai.BadRequestError, "stop"),
        ({"max_completion_tokens": 0}, openai.BadRequestError, "max_completion_tokens"),
        ({"temperature": "warm"}, openai.BadRequestError, "temperature"),
        ({"logit_bias": {"1": "much"}}, openai.BadRequestError, "logit_bias.1"),
        ({"metadata": {"k": 5}}, openai.BadRequestError, "metadata.k"),
    ],
)
async def test_bad_requests_name_the_field(
    house: House, client: AsyncOpenAI, change: dict[str, Any], kind: type[openai.APIStatusError], field: str
) -> None:
    """As everywhere here: the field by its path, never its value, and nothing sent upstream."""
    with pytest.raises(kind) as refusal:
        await client.chat.completions.create(model=SLUG, messages=HELLO, extra_body=change)

    body: Any = refusal.value.body
    assert field in [detail["field"] for detail in body["details"]]
    assert await house.simulator.requests() == []


async def test_the_list_of_models(client: AsyncOpenAI) -> None:
    """Active slugs, and one name for each use case; every name in the list can be asked."""
    listed = {model.id: model async for model in client.models.list()}

    assert listed[SLUG].owned_by == "openai"
    assert (listed[SLUG].model_extra or {})["default_for"] == ["casual_chat"]
    assert "anthropic/claude-3.5-sonnet" not in listed
    assert {name for name in listed if name.startswith("use-case:")} == {
        *("use-case:casual_chat", "use-case:creative_writing", "use-case:prompt_enhancement"),
        *("use-case:roleplay", "use-case:storytelling"),
    }
    for name in ("use-case:storytelling", "mistralai/mistral-nemo"):
        assert (await client.chat.completions.create(model=name, messages=HELLO)).choices
