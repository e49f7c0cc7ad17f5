"""Proof that the simulated OpenRouter behaves on the wire as the real one is documented to."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette

from local.simulator import FAULTS, Fault, answers, catalog, create_app, create_worker, running
from local.simulator.faults import BadFault, from_header
from local.simulator.faults.refusals import AVAILABILITY, ERROR_TYPES
from local.simulator.faults.streams import MANY_TONGUES
from local.simulator.wire import DONE, PADDING, PROCESSING

pytestmark = pytest.mark.asyncio(loop_scope="module")

HAIKU, SONNET, LLAMA = "anthropic/claude-haiku-4.5", "anthropic/claude-sonnet-5", "meta-llama/llama-3.1-8b-instruct"
GPT, OSS = "openai/gpt-4.1", "openai/gpt-oss-20b"
KEY = {"authorization": "Bearer sk-or-v1-test"}
QUESTION = [{"role": "user", "content": "Tell me about the lighthouse"}]
PARIS_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@dataclass
class Clock:
    """A clock that a test turns by hand."""

    now: datetime = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Far:
    """The far end as a test sees it."""

    client: httpx.AsyncClient
    url: str
    clock: Clock = field(default_factory=Clock)

    async def ask(self, model: str = GPT, *, fault: str | None = None, **body: Any) -> httpx.Response:
        headers = KEY | ({"x-sim-fault": fault} if fault else {})
        asked = {"model": model, "messages": QUESTION} | body
        return await self.client.post(f"{self.url}/api/v1/chat/completions", json=asked, headers=headers)

    async def read(self, path: str, **params: str) -> httpx.Response:
        return await self.client.get(f"{self.url}/api/v1{path}", params=params, headers=KEY)

    async def steer(self, path: str, **values: Any) -> Any:
        response = await self.client.post(f"{self.url}/_sim/{path}", json=values)
        assert response.status_code == 200, response.text
        return response.json()

    async def seen(self, path: str) -> Any:
        return (await self.client.get(f"{self.url}/_sim/{path}")).json()

    async def bill(self) -> Any:
        await self.seen("idle")
        return await self.seen("bill")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(verify=False, timeout=5) as opened:  # noqa: S501 - plain HTTP, and contexts are slow
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(client: httpx.AsyncClient) -> AsyncIterator[Far]:
    clock = Clock()
    async with running(create_app(clock=clock)) as url:
        yield Far(client, url, clock)


@pytest_asyncio.fixture(loop_scope="module")
async def far(served: Far) -> Far:
    await served.steer("reset")
    return served


@pytest_asyncio.fixture(loop_scope="module")
async def worker(client: httpx.AsyncClient) -> AsyncIterator[Far]:
    async with running(create_worker()) as url:
        yield Far(client, url)


def events(text: str) -> list[Any]:
    """The data of a stream; the last one is the word [DONE]."""
    payloads = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def words(chunks: Iterable[Any]) -> str:
    return "".join(
        choice["delta"].get("content") or "" for chunk in chunks if chunk != "[DONE]" for choice in chunk["choices"]
    )


async def ending(far: Far, fault: Fault, *, stream: bool) -> tuple[int | None, str]:
    """The status a fault shows, and whether the exchange completes, closes or hangs."""
    status = None
    order = f"{fault.name},every_ms=5" if "every_ms" in fault.options else fault.name
    body = {"model": GPT, "messages": QUESTION, "stream": stream, "max_tokens": 40}
    request = far.client.stream(
        "POST", f"{far.url}/api/v1/chat/completions", json=body, headers=KEY | {"x-sim-fault": order}
    )
    expected = fault.stream_ends if stream else fault.plain_ends
    try:
        async with asyncio.timeout(0.1 if expected == "hang" else 5), request as response:
            status = response.status_code
            async for _ in response.aiter_raw():
                pass
    except httpx.TransportError:
        return status, "close"
    except TimeoutError:
        return status, "hang"
    return status, "complete"


# Faults


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
async def test_every_fault_does_what_it_says(far: Far, fault: Fault, stream: bool) -> None:
    """Each fault of the registry can be ordered in both modes, and ends as it declares."""
    observed = await ending(far, fault, stream=stream)

    await far.seen("idle")
    [recorded] = [request for request in await far.seen("requests") if request["fault"]]
    expected = fault.stream_ends if stream else fault.plain_ends
    assert observed == (fault.status, expected)
    assert recorded["fault"] == fault.name
    assert recorded["disconnected"] is (expected == "hang")


async def test_the_registry_is_large_and_explains_itself(far: Far) -> None:
    """Developers can read every fault's name, meaning and section over HTTP."""
    listed = await far.seen("registry")

    assert len(listed) == len(FAULTS) >= 60
    assert all(row["description"] and row["section"] for row in listed)


async def test_every_documented_error_type_and_availability_has_a_fault() -> None:
    """No row of the documented lists is missing, with and without metadata."""
    types = [name for names in ERROR_TYPES.values() for name in names]

    assert len(types) == len(set(types)) == 27
    assert len(AVAILABILITY) == 11
    assert all(f"type_{name}" in FAULTS and f"type_{name}_bare" in FAULTS for name in types)
    assert all(f"availability_{code}" in FAULTS for code in AVAILABILITY)


async def test_a_model_named_after_a_fault_always_fails(far: Far) -> None:
    """`sim/<fault>` needs no header and no control call."""
    statuses = [(await far.ask("sim/service_unavailable")).status_code for _ in range(3)]

    assert statuses == [503, 503, 503]


async def test_a_counted_fault_fails_n_times_per_session_and_then_answers(far: Far) -> None:
    """`sim/<fault>/<n>` counts for each key, model and session apart."""
    first = [(await far.ask("sim/internal_error/2", session_id="a")).status_code for _ in range(3)]
    other = [(await far.ask("sim/internal_error/2", session_id="b")).status_code for _ in range(3)]

    assert first == other == [500, 500, 200]


async def test_faults_wait_in_line_for_their_model(far: Far) -> None:
    """A queued fault hits its model the given number of times, and nobody else."""
    await far.steer("faults", model=GPT, fault="html_502", times=1)

    statuses = [(await far.ask(model)).status_code for model in (HAIKU, GPT, GPT)]

    assert statuses == [200, 502, 200]


async def test_a_queued_fault_for_every_model_lasts_until_reset(far: Far) -> None:
    """`*` and `times: null` mean every chat request from now on."""
    await far.steer("faults", model="*", fault="rate_limit_http_seconds", times=None, options={"seconds": 7})

    responses = [await far.ask(GPT), await far.ask(HAIKU)]
    catalogue = await far.read("/models")
    await far.steer("reset")
    after = await far.ask(GPT)

    assert [response.headers["retry-after"] for response in responses] == ["7", "7"]
    assert catalogue.status_code == after.status_code == 200


async def test_other_paths_can_fail_too(far: Far) -> None:
    """A fault may wait for a path such as /models."""
    await far.steer("faults", model="/models", fault="service_unavailable")

    statuses = [(await far.read("/models")).status_code for _ in range(2)]

    assert statuses == [503, 200]


@pytest.mark.parametrize("order", ["no_such_fault", "html_502,nonsense=1", "stream_stall,hang_ms=soon", "html_502,x"])
async def test_a_mistaken_order_is_refused_loudly(far: Far, order: str) -> None:
    """A typo in a test must not pass as an ordinary answer."""
    response = await far.ask(fault=order)

    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("Simulator: ")
    with pytest.raises(BadFault):
        from_header(order)


async def test_hints_of_a_rate_limit_sit_where_their_fault_says(far: Far) -> None:
    """Retry hints are documented in six places."""
    date = await far.ask("sim/rate_limit_http_date")
    bodies = {
        name: (await far.ask(f"sim/rate_limit_{name}")).json()["error"]
        for name in ("availability", "metadata_seconds", "metadata_headers", "free_per_minute", "no_hint")
    }

    assert date.headers["retry-after"] == "Fri, 20 Nov 2026 12:00:02 GMT"
    assert bodies["availability"]["availability"]["retry_after"] == 1
    assert bodies["metadata_seconds"]["metadata"]["retry_after_seconds"] == 1
    assert bodies["metadata_headers"]["metadata"]["headers"] == {"Retry-After": "1"}
    assert bodies["free_per_minute"]["metadata"]["headers"]["X-RateLimit-Reset"] == "1795176030000"
    assert "retry_after" not in json.dumps(bodies["no_hint"])


@pytest.mark.parametrize(
    "fault", ["reset_mid_body", "stream_reset", "close_mid_body", "stream_drop", "close_before_headers"]
)
async def test_a_cut_connection_is_cut_on_the_socket(far: Far, fault: str) -> None:
    """A reset reaches the socket as RST, a close as FIN before the body's terminator."""
    address = urlsplit(far.url)
    body = json.dumps({"model": GPT, "messages": QUESTION, "stream": fault.startswith("stream")}).encode()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: sim\r\nAuthorization: Bearer k\r\nX-Sim-Fault: {fault}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    received, is_reset = b"", False
    try:
        while piece := await reader.read(65536):
            received += piece
    except ConnectionResetError:
        is_reset = True
    writer.transport.abort()

    assert is_reset is ("reset" in fault)
    assert not received.endswith(b"0\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 200") is (fault != "close_before_headers")


async def test_a_short_hang_is_only_a_delay(far: Far) -> None:
    """With `hang_ms` the answer comes after all."""
    answer = await far.ask(fault="slow_padding,hang_ms=30,every_ms=10")

    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert answer.content.startswith(PADDING * 3)


async def test_the_server_stops_at_once_in_spite_of_a_hang(client: httpx.AsyncClient) -> None:
    """A hanging answer ends when the server shuts down."""
    async with running(create_app()) as url:
        far = Far(client, url)
        hanging = asyncio.create_task(far.ask(fault="stream_comments_forever,every_ms=5", stream=True))
        while not await far.seen("requests"):
            pass
        began = time.monotonic()

    with pytest.raises(httpx.TransportError):
        await hanging
    assert time.monotonic() - began < 1


async def test_an_application_that_refuses_to_start_is_reported() -> None:
    """`running` turns a failed start into an error instead of leaving the process."""

    class Broken(Starlette):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "no"})

    with pytest.raises(RuntimeError, match="did not start"):
        async with running(Broken()):
            pass


# Answers


async def test_an_answer_has_the_documented_body(far: Far) -> None:
    """The body carries id, provider, dated permaslug, both finish reasons and the cost."""
    response = await far.ask(HAIKU)

    answer = response.json()
    assert re.fullmatch(r"gen-\d{10}-[A-Za-z0-9]{20}", answer["id"])
    assert response.headers["x-generation-id"] == answer["id"]
    assert response.headers["content-type"] == "application/json"
    assert response.headers["transfer-encoding"] == "chunked"
    assert answer["model"] == "anthropic/claude-4.5-haiku-20251001"
    assert (answer["provider"], answer["object"]) == ("Anthropic", "chat.completion")
    [choice] = answer["choices"]
    assert (choice["finish_reason"], choice["native_finish_reason"]) == ("stop", "end_turn")
    assert choice["message"]["role"] == "assistant"
    assert "lighthouse" in choice["message"]["content"].lower()


async def test_a_body_begins_with_blocks_of_white_space(far: Far) -> None:
    """Keep-alive padding comes in blocks of eleven bytes, more of them while the model works."""
    quick = await far.ask()
    await far.steer("defaults", latency_ms=60, comment_interval_ms=10)
    slow = await far.ask()

    blocks = [response.content[: response.content.index(b"{")] for response in (quick, slow)]
    assert blocks[0] == PADDING
    assert len(PADDING) == 11
    assert blocks[1] == PADDING * (len(blocks[1]) // 11)
    assert len(blocks[1]) >= 33


async def test_cost_is_the_catalogue_price_and_stands_on_the_bill(far: Far) -> None:
    """The cost of an answer is tokens times price, as a JSON number; the bill adds them exactly."""
    answer = json.loads((await far.ask(SONNET)).content, parse_float=Decimal)
    free = (await far.ask(f"{OSS}:free")).json()

    usage = answer["usage"]
    cost = Decimal("0.000002") * usage["prompt_tokens"] + Decimal("0.00001") * usage["completion_tokens"]
    assert usage["cost"] == cost == Decimal(usage["cost_details"]["upstream_inference_cost"])
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert free["usage"]["cost"] == 0
    bill = await far.bill()
    assert (bill["requests"], Decimal(bill["total_cost"])) == (2, cost)
    assert bill["by_model"]["anthropic/claude-5-sonnet-20260714"]["requests"] == 1


async def test_a_long_prompt_costs_the_overriding_price(far: Far) -> None:
    """Above its threshold a model's `overrides` hold."""
    long = [{"role": "user", "content": "word " * 100_001}]
    usage = json.loads((await far.ask("anthropic/claude-haiku-5.5", messages=long)).content, parse_float=Decimal)[
        "usage"
    ]

    expected = Decimal("0.0000005") * usage["prompt_tokens"] + Decimal("0.0000025") * usage["completion_tokens"]
    assert usage["cost"] == expected


async def test_answers_repeat_for_the_same_question_and_differ_for_another(client: httpx.AsyncClient) -> None:
    """Text depends on seed, model and messages, and on nothing else."""

    async def said(seed: int, model: str, question: str) -> str:
        async with running(create_app(seed=seed)) as url:
            answer = await Far(client, url).ask(model, messages=[{"role": "user", "content": question}])
        return str(answer.json()["choices"][0]["message"]["content"])

    first = await said(1, GPT, "Tell me about dragons")

    assert await said(1, GPT, "Tell me about dragons") == first
    others = [await said(2, GPT, "Tell me about dragons"), await said(1, HAIKU, "Tell me about dragons")]
    others.append(await said(1, GPT, "Tell me about harbours"))
    assert len({first, *others}) == 4


async def test_a_role_is_played_when_the_system_prompt_asks_for_it(far: Far) -> None:
    """Role-play answers hold gestures and speech."""
    played = await far.ask(messages=[{"role": "system", "content": "Stay in character as Mara"}, *QUESTION])

    assert re.search(r"\*.+\*", played.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_a_token_limit_cuts_the_answer(far: Far, name: str) -> None:
    """Either name of the limit is honoured, and the finish reason says so."""
    limited: dict[str, Any] = {name: 5}
    answer = (await far.ask(GPT, **limited)).json()

    assert answer["usage"]["completion_tokens"] == 5
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["native_finish_reason"] == "max_output_tokens"


async def test_a_stop_string_ends_the_answer(far: Far) -> None:
    """Generation stops before the stop string."""
    whole = (await far.ask(LLAMA)).json()["choices"][0]["message"]["content"]
    stop = whole.split()[4]

    cut = (await far.ask(LLAMA, stop=[stop])).json()["choices"][0]

    assert cut["message"]["content"] == whole.partition(stop)[0]
    assert cut["finish_reason"] == "stop"


async def test_unsupported_parameters_are_dropped_without_a_word(far: Far) -> None:
    """A model that has no temperature ignores it; with require_parameters no endpoint is left."""
    ignored = await far.ask(SONNET, temperature=0.5, top_p=0.9)
    required = await far.ask(SONNET, temperature=0.5, provider={"require_parameters": True})
    fitting = await far.ask(SONNET, max_tokens=50, provider={"require_parameters": True})

    assert (ignored.status_code, required.status_code, fitting.status_code) == (200, 404, 200)
    assert required.json()["error"]["message"] == "No endpoints found that can handle the requested parameters."


async def test_only_one_choice_ever_comes(far: Far) -> None:
    """There is no `n`."""
    assert len((await far.ask(n=3)).json()["choices"]) == 1


async def test_json_formats_give_json(far: Far) -> None:
    """`json_object` gives an object, `json_schema` one that has the required keys."""
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "level": {"type": "integer", "minimum": 3}, "extra": {}},
        "required": ["name", "level"],
    }
    free = await far.ask(response_format={"type": "json_object"})
    bound = await far.ask(response_format={"type": "json_schema", "json_schema": {"name": "hero", "schema": schema}})

    texts = [response.json()["choices"][0]["message"]["content"] for response in (free, bound)]
    assert isinstance(json.loads(texts[0]), dict)
    assert json.loads(texts[1]) == {"name": "simulated", "level": 3}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_a_required_tool_is_called(far: Far, stream: bool) -> None:
    """Tool calls have null content; in a stream only the first fragment has id and name."""
    response = await far.ask(tools=[PARIS_TOOL], tool_choice="required", stream=stream)

    if stream:
        chunks = [chunk for chunk in events(response.text) if chunk != "[DONE]"]
        fragments = [
            call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())
        ]
        arguments = "".join(fragment["function"]["arguments"] for fragment in fragments)
        assert [("id" in fragment, "name" in fragment["function"]) for fragment in fragments][:2] == [
            (True, True),
            (False, False),
        ]
        finish = chunks[-1]["choices"][0]["finish_reason"]
    else:
        choice = response.json()["choices"][0]
        assert choice["message"]["content"] is None
        arguments = choice["message"]["tool_calls"][0]["function"]["arguments"]
        finish = choice["finish_reason"]
    assert json.loads(arguments) == {"city": "simulated"}
    assert finish == "tool_calls"


async def test_a_message_can_ask_for_the_tool_and_a_result_ends_the_loop(far: Far) -> None:
    """The words "use the tool" call it; after the tool's result the model speaks."""
    please = [{"role": "user", "content": "Please use the tool"}]
    result = [*please, {"role": "assistant", "content": None}, {"role": "tool", "content": "12"}]
    called = (await far.ask(messages=please, tools=[PARIS_TOOL])).json()["choices"][0]
    spoken = (await far.ask(messages=result, tools=[PARIS_TOOL])).json()["choices"][0]

    assert [called["finish_reason"], spoken["finish_reason"]] == ["tool_calls", "stop"]


async def test_reasoning_is_shown_billed_and_can_be_hidden(far: Far) -> None:
    """Reasoning counts as output also when it is excluded from the answer."""
    shown = (await far.ask(SONNET, reasoning={"effort": "high"})).json()
    hidden = (await far.ask(SONNET, reasoning={"effort": "high", "exclude": True})).json()
    never = (await far.ask(SONNET)).json()

    counts = [body["usage"]["completion_tokens_details"]["reasoning_tokens"] for body in (shown, hidden, never)]
    assert counts == [80, 80, 0]
    assert shown["choices"][0]["message"]["reasoning_details"][0]["type"] == "reasoning.text"
    assert hidden["choices"][0]["message"]["reasoning"] is None
    assert hidden["usage"]["cost"] == shown["usage"]["cost"] > never["usage"]["cost"]


async def test_an_answer_can_be_dictated(far: Far) -> None:
    """A test may say what the model will say."""
    await far.steer("answers", model=GPT, text="Second voice.")

    said = [(await far.ask(GPT)).json()["choices"][0]["message"]["content"] for _ in range(2)]

    assert said[0] == "Second voice." != said[1]


async def test_a_routing_trace_comes_when_asked_for(far: Far) -> None:
    """`X-OpenRouter-Metadata: enabled` adds `openrouter_metadata`."""
    response = await far.client.post(
        f"{far.url}/api/v1/chat/completions",
        json={"model": GPT, "messages": QUESTION},
        headers=KEY | {"x-openrouter-metadata": "enabled"},
    )

    assert response.json()["openrouter_metadata"]["requested"] == GPT


async def test_a_router_says_which_model_answered(far: Far) -> None:
    """`openrouter/auto` and aliases answer under the model they chose."""
    auto = (await far.ask("openrouter/auto")).json()
    alias = (await far.ask("~anthropic/claude-sonnet-latest")).json()

    assert auto["model"] == "openai/gpt-6-luna-20260903"
    assert alias["model"] == "anthropic/claude-5.5-sonnet-20261006"


# Refusals


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({}, "No auth credentials found"),
        ({"authorization": "Bearer bad-key"}, "User not found."),
        ({"authorization": "Basic abc"}, "Missing Authentication header"),
    ],
    ids=["no key", "wrong key", "no bearer"],
)
async def test_a_missing_or_wrong_key_is_refused(far: Far, headers: dict[str, str], message: str) -> None:
    """Chat and key need a key; the error carries a generation id, the catalogue needs no key."""
    asked = {"model": GPT, "messages": QUESTION}
    chat = await far.client.post(f"{far.url}/api/v1/chat/completions", json=asked, headers=headers)
    key = await far.client.get(f"{far.url}/api/v1/key", headers=headers)
    models = await far.client.get(f"{far.url}/api/v1/models", headers=headers)

    assert (chat.status_code, key.status_code, models.status_code) == (401, 401, 200)
    assert chat.json() == {"error": {"message": message, "code": 401}}
    assert chat.headers["x-generation-id"].startswith("gen-")


@pytest.mark.parametrize(
    ("model", "status", "message"),
    [
        ("anthropic/claude-3.5-sonnet", 404, "No endpoints found for anthropic/claude-3.5-sonnet."),
        ("mistralai/mistral-7b-instruct", 404, "No endpoints found for mistralai/mistral-7b-instruct."),
        ("no-such/model", 400, "no-such/model is not a valid model ID"),
        ("sim/no-such-fault", 400, "sim/no-such-fault is not a valid model ID"),
        ("openai/gpt-4.1-mini:batch", 400, "openai/gpt-4.1-mini:batch is only available through the batch API"),
    ],
    ids=["gone", "gone too", "unknown", "no fault", "batch"],
)
async def test_models_that_cannot_answer_are_refused(far: Far, model: str, status: int, message: str) -> None:
    """A removed model is 404, an unknown id 400."""
    response = await far.ask(model)

    assert (response.status_code, response.json()["error"]["message"]) == (status, message)
    assert response.headers["x-generation-id"]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{not json", "Input must have at least 1 token."),
        (b"{}", 'Input required: specify "prompt" or "messages"'),
        (b'{"messages":[]}', 'Input required: specify "prompt" or "messages"'),
        (b'{"messages":[{"role":"user","content":"x"}],"temperature":3}', "temperature: must be between 0 and 2"),
        (
            b'{"messages":[{"role":"user","content":"x"}],"models":["a","b","c","d"]}',
            "'models' array must have 3 items or fewer",
        ),
        (
            b'{"messages":[{"role":"user","content":"x"}],"reasoning":{"effort":"low"},"reasoning_effort":"high"}',
            '"reasoning_effort" and "reasoning.effort" disagree',
        ),
    ],
    ids=["no JSON", "nothing", "no messages", "temperature", "four models", "two efforts"],
)
async def test_a_bad_request_is_refused_in_the_documented_words(far: Far, raw: bytes, message: str) -> None:
    """Malformed requests give 400 and cost nothing."""
    response = await far.client.post(f"{far.url}/api/v1/chat/completions", content=raw, headers=KEY)

    assert response.status_code == 400
    assert response.json()["error"] == {"message": message, "code": 400}
    assert (await far.bill())["requests"] == 0


async def test_mandatory_reasoning_cannot_be_switched_off(far: Far) -> None:
    """Effort none is refused by a model that always reasons."""
    response = await far.ask(OSS, reasoning={"effort": "none"})

    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("Reasoning is mandatory")


async def test_a_prompt_above_the_context_is_refused_unless_it_is_compressed(far: Far) -> None:
    """Small models lose the middle of the prompt by default; large ones refuse."""
    long = [{"role": "user", "content": "word " * 9000}]
    compressed = await far.ask("openai/gpt-4", messages=long, max_tokens=100)
    plugins = [{"id": "context-compression", "enabled": False}]
    refused = await far.ask("openai/gpt-4", messages=long, max_tokens=100, plugins=plugins)

    assert compressed.json()["usage"]["prompt_tokens"] == 8191 - 100
    assert refused.status_code == 400
    assert "maximum context length is 8191 tokens" in refused.json()["error"]["message"]


async def test_little_credit_affords_few_tokens(far: Far) -> None:
    """Without a limit the model's maximum is reserved; the refusal tells what can be afforded."""
    await far.steer("defaults", total_credits="0.001")
    refused = await far.ask(GPT)
    afforded = await far.ask(GPT, max_tokens=50)

    assert refused.status_code == 402
    assert re.search(r"requested up to 32768 tokens, but can only afford 1\d\d\.", refused.json()["error"]["message"])
    assert afforded.status_code == 200


async def test_the_next_model_of_the_list_takes_over(far: Far) -> None:
    """`models` is tried in order on any error; the one that served is named and billed."""
    answer = (await far.ask("no-such/model", models=["sim/rate_limit_no_hint", LLAMA])).json()

    assert answer["model"] == LLAMA
    [entry] = (await far.bill())["entries"]
    assert (entry["model"], entry["requested"]) == (LLAMA, LLAMA)


async def test_when_every_model_fails_the_last_error_is_told(far: Far) -> None:
    """The answer to a list without a living model is an error."""
    assert (await far.ask("sim/internal_error", models=["anthropic/claude-3.5-haiku"])).status_code == 404


@pytest.mark.parametrize(
    ("model", "provider", "expected"),
    [
        (LLAMA, {"only": ["groq"]}, "Groq"),
        (LLAMA, {"order": ["novita"]}, "Novita"),
        (LLAMA, {"ignore": ["deepinfra"]}, "Groq"),
        (HAIKU, {"only": ["amazon-bedrock/eu"]}, "Amazon Bedrock"),
        (LLAMA, {"only": ["nobody"]}, 404),
        (LLAMA, {"order": ["nobody"], "allow_fallbacks": False}, 404),
        (LLAMA, {"max_price": {"prompt": 0.01}}, 404),
        (LLAMA, {"max_price": {"prompt": "0.02", "completion": "0.04"}}, "DeepInfra"),
        (f"{OSS}:free", {"data_collection": "deny"}, 404),
    ],
    ids=["only", "order", "ignore", "variant", "only nobody", "order nobody", "cheap", "price", "free policy"],
)
async def test_provider_wishes_choose_who_serves(
    far: Far, model: str, provider: dict[str, Any], expected: str | int
) -> None:
    """The `provider` object filters endpoints; an empty rest is 404."""
    response = await far.ask(model, provider=provider)

    assert (response.json().get("provider") if response.status_code == 200 else response.status_code) == expected


# Streams


async def test_a_stream_has_the_documented_order(far: Far) -> None:
    """Deltas, finish, usage beside a repeated finish, [DONE]; LF only and no event lines."""
    response = await far.ask(HAIKU, stream=True)

    *deltas, finish, usage, done = events(response.text)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.content.endswith(DONE)
    assert b"\r" not in response.content
    assert b"event:" not in response.content
    assert PROCESSING not in response.content
    assert done == "[DONE]"
    assert {chunk["id"] for chunk in (*deltas, finish, usage)} == {response.headers["x-generation-id"]}
    assert all(chunk["provider"] == "Anthropic" for chunk in deltas)
    assert all({"role", "content"} <= set(chunk["choices"][0]["delta"]) for chunk in deltas)
    assert all("usage" not in chunk for chunk in (*deltas, finish))
    assert [chunk["choices"][0]["finish_reason"] for chunk in (finish, usage)] == ["stop", "stop"]
    assert usage["choices"][0]["native_finish_reason"] == "end_turn"
    assert usage["usage"]["cost"] > 0


async def test_stream_and_plain_answer_say_and_cost_the_same(far: Far) -> None:
    """Streaming changes the shape only."""
    plain = (await far.ask(GPT)).json()
    chunks = events((await far.ask(GPT, stream=True)).text)

    assert words(chunks) == plain["choices"][0]["message"]["content"]
    assert chunks[-2]["usage"] == plain["usage"]


async def test_comments_fill_the_time_before_the_first_token(far: Far) -> None:
    """While a stream waits it sends comments, and after the first token none."""
    await far.steer("defaults", latency_ms=60, comment_interval_ms=10)
    content = (await far.ask(stream=True)).content

    before, _, after = content.partition(b"data: ")
    assert before.count(PROCESSING) >= 2
    assert before == PROCESSING * before.count(PROCESSING)
    assert PROCESSING not in after


async def test_reasoning_is_streamed_before_the_words(far: Far) -> None:
    """A reasoning model thinks aloud first, the same text twice in each delta."""
    chunks = events((await far.ask(SONNET, stream=True, reasoning={"effort": "low"})).text)

    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-3]]
    kinds = ["reasoning" if "reasoning" in delta else "content" for delta in deltas]
    assert kinds == sorted(kinds, reverse=True)
    assert set(kinds) == {"reasoning", "content"}
    assert deltas[0]["reasoning_details"][0]["text"] == deltas[0]["reasoning"]


async def test_the_upstream_body_is_echoed_first(far: Far) -> None:
    """`debug.echo_upstream_body` sends a first chunk without choices."""
    chunks = events((await far.ask(stream=True, debug={"echo_upstream_body": True})).text)

    assert chunks[0]["choices"] == []
    assert chunks[0]["debug"]["echo_upstream_body"]["model"] == GPT


async def test_a_refused_stream_is_a_json_error_with_its_status(far: Far) -> None:
    """Before the stream starts errors are ordinary responses."""
    response = await far.ask("anthropic/claude-3.5-haiku", stream=True)

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"


async def test_letters_survive_being_cut_in_the_middle(far: Far) -> None:
    """The byte-wise stream is whole again when it is put together."""
    assert words(events((await far.ask(fault="stream_split_utf8", stream=True)).text)) == MANY_TONGUES


async def hang_up(far: Far, **body: Any) -> None:
    """Leave after the third delta of a slow stream."""
    await far.steer("defaults", tokens_per_second=200)
    asked = {"messages": QUESTION, "stream": True} | body
    url = f"{far.url}/api/v1/chat/completions"
    async with far.client.stream("POST", url, json=asked, headers=KEY) as response:
        lines = response.aiter_lines()
        heard = 0
        async for line in lines:
            heard += line.startswith("data:")
            if heard == 3:
                break
    await far.seen("idle")


@pytest.mark.parametrize(
    ("provider", "saves"),
    [("deepinfra", True), ("groq", False)],
    ids=["stops billing", "keeps billing"],
)
async def test_hanging_up_saves_money_only_with_some_providers(far: Far, provider: str, saves: bool) -> None:
    """A cancelled stream is marked, and billed for what was sent or for everything."""
    whole = (await far.ask(LLAMA, provider={"only": [provider]})).json()["usage"]
    await hang_up(far, model=LLAMA, provider={"only": [provider]})

    entry = (await far.bill())["entries"][-1]
    assert entry["cancelled"] is True
    assert entry["prompt_tokens"] == whole["prompt_tokens"]
    assert (entry["completion_tokens"] < whole["completion_tokens"]) is saves
    assert (float(entry["cost"]) < whole["cost"]) is saves
    assert float(entry["cost"]) > 0
    assert (await far.seen("requests"))[-1]["disconnected"] is True


async def test_leaving_before_the_first_word_is_insured(far: Far) -> None:
    """Nothing said, nothing billed, where hanging up stops the bill."""
    await far.steer("defaults", latency_ms=5000, comment_interval_ms=5)
    url = f"{far.url}/api/v1/chat/completions"
    asked = {"model": GPT, "messages": QUESTION, "stream": True}
    async with far.client.stream("POST", url, json=asked, headers=KEY) as response:
        async for _ in response.aiter_raw():
            break

    [entry] = (await far.bill())["entries"]
    assert (entry["cancelled"], entry["completion_tokens"]) == (True, 0)
    assert Decimal(entry["cost"]) == 0


async def test_a_plain_call_is_billed_to_the_end_when_the_caller_leaves(far: Far) -> None:
    """Cancelling works for streams only."""
    await far.steer("defaults", latency_ms=5000)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await far.ask(GPT)

    [entry] = (await far.bill())["entries"]
    assert entry["cancelled"] is True
    assert Decimal(entry["cost"]) > 0
    assert entry["completion_tokens"] > 10


# The other endpoints


async def test_the_catalogue_has_the_documented_envelope(far: Far) -> None:
    """`data`, `total_count` and `links`, and prices as decimal strings per token."""
    response = await far.read("/models")

    body = response.json()
    by_id = {model["id"]: model for model in body["data"]}
    assert response.headers["cache-control"] == "public, max-age=300, stale-while-revalidate=3600"
    assert body["total_count"] == len(by_id) == len(catalog.load().models)
    assert body["links"] == {"next": None}
    assert by_id[HAIKU]["pricing"]["prompt"] == "0.000001"
    assert by_id[HAIKU]["canonical_slug"] == "anthropic/claude-4.5-haiku-20251001"
    assert by_id["openrouter/auto"]["pricing"] == {"prompt": "-1", "completion": "-1"}
    assert not any(slug.startswith("sim/") for slug in by_id)
    assert {"temperature", "top_p"} <= set(by_id["anthropic/claude-sonnet-4.6"]["supported_parameters"])
    for slug in ("anthropic/claude-sonnet-5.5", SONNET, "openai/gpt-6.1-sol", "openai/gpt-6-luna"):
        assert not {"temperature", "top_p"} & set(by_id[slug]["supported_parameters"])
    assert any(slug.endswith(":free") for slug in by_id)
    assert any(slug.endswith(":batch") for slug in by_id)
    assert any("overrides" in model["pricing"] for model in by_id.values())


async def test_the_catalogue_is_paged_on_request(far: Far) -> None:
    """With offset or limit, `links.next` leads to the rest."""
    first = (await far.read("/models", limit="20")).json()
    rest = (await far.client.get(f"{far.url}{first['links']['next']}")).json()

    assert len(first["data"]) == 20
    assert first["total_count"] == 20 + len(rest["data"])
    assert rest["links"]["next"] is None


async def test_the_catalogue_can_be_filtered(far: Far) -> None:
    """`supported_parameters` and `q` narrow the list."""
    found = (await far.read("/models", supported_parameters="min_p", q="llama")).json()["data"]

    assert [model["id"] for model in found] == [LLAMA]


async def test_every_model_has_endpoints(far: Far) -> None:
    """Each listed model names its providers, the first at the listed price."""
    for model in catalog.load().models:
        found = (await far.read(f"/models/{model.id}/endpoints")).json()["data"]
        assert found["endpoints"][0]["pricing"]["prompt"] == model.wire["pricing"]["prompt"]
        assert [endpoint["provider_name"] for endpoint in found["endpoints"]] == list(model.providers)
    assert (await far.read("/models/no/such/endpoints")).status_code == 404


async def test_key_and_credits_tell_what_was_spent(far: Far) -> None:
    """The key's usage and the account's total follow the bill."""
    spent = (await far.ask(GPT)).json()["usage"]["cost"]

    key, credits = (await far.read("/key")).json()["data"], (await far.read("/credits")).json()["data"]
    assert key["usage"] == spent
    assert (key["limit"], key["limit_remaining"], key["is_management_key"]) == (None, None, False)
    assert credits == {"total_credits": 1000, "total_usage": spent}


async def test_a_generation_appears_late(far: Far) -> None:
    """`/generation` says 404 until its lag is over, then tells cost and native tokens."""
    answer = (await far.ask(HAIKU, session_id="s-1", user="u-1")).json()
    early = await far.read("/generation", id=answer["id"])
    far.clock.now += timedelta(seconds=3)
    late = await far.read("/generation", id=answer["id"])

    assert early.status_code == 404
    assert early.json() == {"error": {"message": f"Generation {answer['id']} not found", "code": 404}}
    data = late.json()["data"]
    assert data["total_cost"] == data["usage"] == answer["usage"]["cost"]
    assert data["model"] == answer["model"]
    assert data["native_tokens_prompt"] == answer["usage"]["prompt_tokens"]
    assert data["native_tokens_completion"] == answer["usage"]["completion_tokens"]
    assert (data["cancelled"], data["streamed"], data["session_id"]) == (False, False, "s-1")


async def test_a_cancelled_generation_can_be_shown_at_once(far: Far) -> None:
    """The control path ends the lag; a cancelled stream says so and has no finish reason."""
    await hang_up(far, model=GPT)
    [entry] = (await far.bill())["entries"]
    await far.steer("generations", id=entry["generation_id"])

    data = (await far.read("/generation", id=entry["generation_id"])).json()["data"]

    assert (data["cancelled"], data["streamed"], data["finish_reason"]) == (True, True, None)
    assert data["total_cost"] == float(entry["cost"])


async def test_requests_are_kept_without_the_key(far: Far) -> None:
    """What went on the wire can be read back in order; the key only as a fingerprint."""
    await far.ask(GPT, metadata={"job": "7"}, trace={"trace_id": "t"})
    await far.read("/key")

    await far.seen("idle")
    text = json.dumps(await far.seen("requests"))
    first, second = json.loads(text)
    assert "sk-or-v1-test" not in text
    assert re.fullmatch(r"Bearer sha256:[0-9a-f]{16}", first["headers"]["authorization"])
    assert first["body"]["metadata"] == {"job": "7"}
    assert [first["order"], second["order"]] == [0, 1]
    assert (first["status"], first["disconnected"], second["path"]) == (200, False, "/api/v1/key")
    [entry] = (await far.bill())["entries"]
    assert (entry["metadata"], entry["trace"]) == ({"job": "7"}, {"trace_id": "t"})


async def test_reset_forgets_everything(far: Far) -> None:
    """After a reset the bill is empty and faults are gone."""
    await far.ask()
    await far.steer("faults", model="*", fault="html_502", times=None)
    await far.steer("reset")

    assert (await far.bill())["total_cost"] == "0"
    assert await far.seen("requests") == []
    assert (await far.ask()).status_code == 200


async def test_an_unknown_path_is_a_json_404(far: Far) -> None:
    """Even wrong paths answer with an error object."""
    assert (await far.read("/nowhere")).json()["error"]["code"] == 404


@pytest.mark.parametrize(
    ("fault", "charged"),
    [("ok_error", False), ("stream_error_doc", False), ("stream_close_after_content", True), ("no_endpoints", False)],
)
async def test_a_failure_is_billed_only_where_the_rules_say_so(far: Far, fault: str, charged: bool) -> None:
    """Refusals and insured errors are free; words that were sent before a silent end are not."""
    await far.ask(fault=fault, stream=True)

    assert (Decimal((await far.bill())["total_cost"]) > 0) is charged


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\n  x", "Hello, world! 123456", MANY_TONGUES, "tab\tand trailing \n", "\u2028\u200d\x00"],
    ids=["empty", "blank", "leading", "plain", "tongues", "trailing", "odd"],
)
async def test_tokens_join_to_the_text_again(text: str) -> None:
    """No letter is lost or added when text is cut into tokens."""
    assert "".join(answers.tokens(text)) == text


# The chat worker


async def test_the_worker_answers_in_its_own_shape(worker: Far) -> None:
    """POST /chat gives success, response and generation_time."""
    asked = {"messages": QUESTION, "max_tokens": 12, "temperature": 0.7, "top_p": 0.9}
    body = (await worker.client.post(f"{worker.url}/chat", json=asked)).json()

    assert set(body) == {"success", "response", "generation_time"}
    assert body["success"] is True
    assert len(answers.tokens(body["response"])) == 12


async def test_the_worker_is_healthy_without_a_model_but_cannot_chat(worker: Far) -> None:
    """Only `model_loaded` tells whether the worker can answer."""
    await worker.steer("worker", model_loaded=False)

    health = (await worker.client.get(f"{worker.url}/health")).json()
    chat = (await worker.client.post(f"{worker.url}/chat", json={"messages": QUESTION})).json()

    assert health == {"status": "healthy", "model_loaded": False}
    assert chat == {"success": False, "error": "Model not loaded"}


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_the_worker_speaks_openai_without_a_cost(worker: Far, stream: bool) -> None:
    """Its OpenAI-compatible door has usage but no cost."""
    asked = {"messages": QUESTION, "stream": stream, "stream_options": {"include_usage": True}}
    response = await worker.client.post(f"{worker.url}/v1/chat/completions", json=asked)

    if stream:
        *chunks, last, done = events(response.text)
        assert (last["choices"], done) == ([], "[DONE]")
        assert len(words(chunks)) > 20
    else:
        last = response.json()
        assert last["choices"][0]["finish_reason"] == "stop"
    assert set(last["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}


async def test_the_worker_can_fail_too(worker: Far) -> None:
    """Faults reach the worker by header or by path."""
    await worker.steer("faults", model="/chat", fault="close_before_headers")
    asked = {"messages": QUESTION}
    with pytest.raises(httpx.RemoteProtocolError):
        await worker.client.post(f"{worker.url}/chat", json=asked)
    by_header = await worker.client.post(f"{worker.url}/chat", json=asked, headers={"x-sim-fault": "internal_error"})

    assert by_header.status_code == 500
    assert (await worker.client.post(f"{worker.url}/chat", json=asked)).json()["success"] is True


async def test_a_worker_with_a_token_wants_it(client: httpx.AsyncClient) -> None:
    """Strangers get 401."""
    async with running(create_worker(token="t-1")) as url:
        stranger = await client.post(f"{url}/chat", json={"messages": QUESTION})
        friend = await client.post(f"{url}/chat", json={"messages": QUESTION}, headers={"authorization": "Bearer t-1"})

    assert (stranger.status_code, friend.status_code) == (401, 200)
