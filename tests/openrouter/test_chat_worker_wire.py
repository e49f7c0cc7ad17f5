"""The chat worker's two wire forms over real sockets: its own `POST /chat`, and any OpenAI-compatible server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from local.simulator import create_worker, running
from shared import tokens
from shared.chat_worker import ChatWorker
from shared.openrouter import Attempt, CallFailed, ChatRequest, Endpoint, Finished, OpenRouter, Sampling, TextDelta
from tests.openrouter.conftest import Sleeper
from tests.openrouter.upstream import DONE, Reply, Upstream, answered, chunk, event, refused, streamed, whole

MESSAGES = [{"role": "user", "content": "Hello"}]
QUESTION = ChatRequest(model="chat-worker", messages=MESSAGES)
GOOD = whole({"success": True, "response": "Hello there.", "generation_time": 0.5})


@pytest.fixture
def worker(http: httpx.AsyncClient, sleeper: Sleeper) -> ChatWorker:
    return ChatWorker(http, sleep=sleeper)


@pytest.fixture
def endpoint(upstream: Upstream) -> Endpoint:
    """The scripted far end as a worker of the app's own form."""
    return Endpoint(upstream.url.removesuffix("/api/v1"), "worker-token", kind="openai_compatible")


@pytest.fixture
async def simulated() -> AsyncIterator[str]:
    async with running(create_worker(seed=1)) as url:
        yield url


async def test_the_request_is_the_workers_own(
    worker: ChatWorker, upstream: Upstream, endpoint: Endpoint, attempts: list[Attempt], deadline: float
) -> None:
    """Messages and three parameters, an explicit 0 among them; what it does not know is listed as dropped."""
    upstream.will(GOOD)
    asked = replace(
        QUESTION,
        sampling=Sampling(max_tokens=40, temperature=0, top_p=None, stop=("END",), seed=7),
        tools=[{"type": "function", "function": {"name": "look"}}],
    )

    completion = await worker.complete(endpoint, asked, deadline=deadline, attempts=attempts)

    [request] = upstream.asked
    assert (request.method, request.path) == ("POST", "/chat")
    assert request.json == {"messages": MESSAGES, "max_tokens": 40, "temperature": 0}
    assert request.headers["authorization"] == "Bearer worker-token"
    assert not {"http-referer", "x-title"} & set(request.headers)
    assert set(completion.dropped) == {"stop", "seed", "tools"}
    assert completion.parameters == {"max_tokens": 40, "temperature": 0}


async def test_without_a_token_none_is_sent(
    worker: ChatWorker, upstream: Upstream, endpoint: Endpoint, attempts: list[Attempt], deadline: float
) -> None:
    """A worker on a private network needs none."""
    upstream.will(GOOD)
    await worker.complete(replace(endpoint, api_key=""), QUESTION, deadline=deadline, attempts=attempts)

    assert "authorization" not in upstream.asked[0].headers


@pytest.mark.parametrize(
    "said",
    [
        {"success": True, "response": "Hello there."},
        {"response": "Hello there.", "error": None},
        {"success": True, "response": "", "text": "Hello there."},
        {"content": "Hello there."},
        {"content": [{"type": "text", "text": "Hello there."}]},
        {"success": True, **answered()},
        {"success": True, "response": "Hello there.", "error": "a warning of yesterday"},
    ],
    ids=["response", "no success", "text", "content", "parts", "choices", "a warning beside success"],
)
async def test_the_text_is_found_under_its_known_names(
    said: dict[str, Any],
    worker: ChatWorker,
    upstream: Upstream,
    endpoint: Endpoint,
    attempts: list[Attempt],
    deadline: float,
) -> None:
    """Workers differ in what they call the answer."""
    upstream.will(whole(said))
    completion = await worker.complete(endpoint, QUESTION, deadline=deadline, attempts=attempts)

    assert (completion.content, completion.finish_reason, completion.outcome) == ("Hello there.", "stop", "complete")
    assert [(one.status, one.code, one.action) for one in attempts] == [(200, None, "answered")]


async def test_tokens_are_estimated_and_say_so(
    worker: ChatWorker, upstream: Upstream, endpoint: Endpoint, attempts: list[Attempt], deadline: float
) -> None:
    """The worker does not count; who reads the ledger must know that we did."""
    upstream.will(GOOD)
    completion = await worker.complete(endpoint, QUESTION, deadline=deadline, attempts=attempts)

    used = completion.usage
    assert used is not None
    assert used.estimated
    assert used.prompt_tokens == tokens.estimate_messages(MESSAGES)
    assert used.completion_tokens == tokens.estimate("Hello there.")
    assert used.cost is None
    assert attempts[0].usage == used


async def test_a_worker_that_counts_is_believed(
    worker: ChatWorker, upstream: Upstream, endpoint: Endpoint, attempts: list[Attempt], deadline: float
) -> None:
    """Its own tokenizer knows better than our estimate."""
    upstream.will(whole({"response": "Hello there.", "usage": {"prompt_tokens": 9, "completion_tokens": 3}}))
    completion = await worker.complete(endpoint, QUESTION, deadline=deadline, attempts=attempts)

    used = completion.usage
    assert used is not None
    assert (used.prompt_tokens, used.completion_tokens, used.estimated) == (9, 3, False)


@pytest.mark.parametrize(
    ("reply", "code", "retryable", "disposition"),
    [
        (whole({"success": False, "error": "Model not loaded"}), "UNAVAILABLE", True, "next_model"),
        (whole({"success": False, "error": "CUDA out of memory"}), "UPSTREAM_ERROR", True, "next_model"),
        (whole({"success": False}), "UPSTREAM_ERROR", True, "next_model"),
        (whole({"error": {"message": "boom"}}), "UPSTREAM_ERROR", True, "next_model"),
        (
            whole({"success": False, "error": "This model's maximum context length is 4096 tokens"}),
            "CONTEXT_TOO_LONG",
            False,
            "next_model",
        ),
        (whole({"success": True, "response": "  \n"}), "EMPTY_RESPONSE", True, "next_model"),
        (whole({"success": True}), "EMPTY_RESPONSE", True, "next_model"),
        (whole(b"<html>Welcome to nginx</html>"), "UPSTREAM_ERROR", True, "next_model"),
        (whole(["Hello"]), "UPSTREAM_ERROR", True, "next_model"),
        (whole(b""), "UPSTREAM_ERROR", True, "next_model"),
        (whole(b"{" * 9_000_000), "UPSTREAM_ERROR", True, "next_model"),
        (whole({"detail": "CUDA error"}, 500), "UPSTREAM_ERROR", True, "next_model"),
        (whole({"detail": "The model is still loading"}, 500), "UNAVAILABLE", True, "next_model"),
        (whole({"detail": "busy"}, 503), "UNAVAILABLE", True, "next_model"),
        (whole(b"<html>502</html>", 502), "UPSTREAM_ERROR", True, "next_model"),
        (whole({"detail": "slow down"}, 429), "RATE_LIMITED", True, "next_model"),
        (whole({"error": "Unauthorized"}, 401), "UPSTREAM_ERROR", False, "next_provider"),
        (whole({"detail": "Not Found"}, 404), "UPSTREAM_ERROR", False, "next_provider"),
        (whole({"detail": [{"loc": ["body"], "msg": "bad", "input": "Hello"}]}, 422), "UPSTREAM_ERROR", False, None),
        (Reply(302, {"location": "http://elsewhere.test/"}), "UPSTREAM_ERROR", False, "next_provider"),
        (Reply(steps=(b"{",), drops=True), "UPSTREAM_ERROR", True, "next_model"),
    ],
    ids=[
        *("no model", "out of memory", "no reason", "an error object", "too long", "blank", "no text", "a web page"),
        *("a list", "nothing", "endless", "500", "loading", "503", "502", "429", "401", "404", "422", "redirect"),
        "broken off",
    ],
)
async def test_a_failure_is_named_and_not_repeated(
    reply: Reply,
    code: str,
    retryable: bool,
    disposition: str | None,
    worker: ChatWorker,
    upstream: Upstream,
    endpoint: Endpoint,
    attempts: list[Attempt],
    deadline: float,
) -> None:
    """One call, one attempt that was not billed, and a reason that tells what may help."""
    upstream.will(reply, GOOD)
    with pytest.raises(CallFailed) as caught:
        await worker.complete(endpoint, QUESTION, deadline=deadline, attempts=attempts)

    failure = caught.value
    assert (failure.code, failure.retryable, failure.fallback) == (code, retryable, True)
    assert disposition in (None, failure.disposition)
    assert len(upstream.asked) == 1
    assert [(one.code, one.action, one.billed_unknown) for one in attempts] == [(code, "gave up", False)]


async def test_the_workers_words_are_for_the_log_alone(
    worker: ChatWorker, upstream: Upstream, endpoint: Endpoint, attempts: list[Attempt], deadline: float
) -> None:
    """The caller's message is ours; the token is struck out of what is kept."""
    upstream.will(whole({"success": False, "error": "CUDA out of memory for worker-token"}))
    with pytest.raises(CallFailed) as caught:
        await worker.complete(endpoint, QUESTION, deadline=deadline, attempts=attempts)

    assert "CUDA" not in caught.value.message
    assert "CUDA out of memory" in attempts[0].cause_text
    assert "worker-token" not in attempts[0].cause_text


async def test_a_refused_connection_is_knocked_at_once_more(
    worker: ChatWorker, sleeper: Sleeper, attempts: list[Attempt], deadline: float
) -> None:
    """Nothing was sent, so asking again is safe; twice is enough."""
    dead = Endpoint("http://127.0.0.1:9", "", kind="openai_compatible")
    with pytest.raises(CallFailed) as caught:
        await worker.complete(dead, QUESTION, deadline=deadline, attempts=attempts)

    assert (caught.value.code, caught.value.disposition) == ("UNAVAILABLE", "next_provider")
    assert [(one.status, one.code, one.action) for one in attempts] == [
        (None, "UNAVAILABLE", "retried"),
        (None, "UNAVAILABLE", "gave up"),
    ]
    assert len(sleeper.slept) == 1


async def test_a_token_that_no_header_can_carry_is_never_sent(
    worker: ChatWorker, upstream: Upstream, endpoint: Endpoint, attempts: list[Attempt], deadline: float
) -> None:
    """It is our setting that is wrong; no call was made, so none is written down."""
    with pytest.raises(CallFailed):
        await worker.complete(replace(endpoint, api_key="to\nken"), QUESTION, deadline=deadline, attempts=attempts)

    assert (upstream.asked, attempts) == ([], [])


@pytest.mark.parametrize(
    ("attempt_s", "deadline_s", "disposition"),
    [pytest.param(0.05, 20, "next_model", id="its own ceiling"), pytest.param(20, 0.05, "end", id="the deadline")],
)
async def test_a_silent_worker_is_left(
    attempt_s: float,
    deadline_s: float,
    disposition: str,
    http: httpx.AsyncClient,
    upstream: Upstream,
    endpoint: Endpoint,
    attempts: list[Attempt],
) -> None:
    """A silence ends at the ceiling of one call or at the request's deadline, and the connection with it."""
    upstream.will(Reply(steps=(asyncio.Event(),), headless=True))
    worker = ChatWorker(http, attempt_s=attempt_s)
    with pytest.raises(CallFailed) as caught:
        await worker.complete(endpoint, QUESTION, deadline=time.monotonic() + deadline_s, attempts=attempts)

    assert (caught.value.code, caught.value.disposition) == ("TIMEOUT", disposition)
    await asyncio.wait_for(upstream.asked[0].hung_up.wait(), 5)


@pytest.mark.parametrize("begun", [False, True], ids=["before the answer", "within the answer"])
async def test_who_leaves_closes_the_connection(
    begun: bool,
    worker: ChatWorker,
    upstream: Upstream,
    endpoint: Endpoint,
    attempts: list[Attempt],
    deadline: float,
) -> None:
    """At once; the attempt says so, and that the worker may have written on."""
    upstream.will(Reply(steps=(b"{" if begun else b"", asyncio.Event()), headless=not begun))
    asking = asyncio.create_task(worker.complete(endpoint, QUESTION, deadline=deadline, attempts=attempts))
    await upstream.arrived.wait()

    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    await asyncio.wait_for(upstream.asked[0].hung_up.wait(), 5)
    assert [(one.code, one.action, one.billed_unknown) for one in attempts] == [("CANCELLED", "cancelled", True)]


async def test_a_stream_of_a_worker_that_cannot_stream_comes_at_once(
    worker: ChatWorker, upstream: Upstream, endpoint: Endpoint, attempts: list[Attempt], deadline: float
) -> None:
    """One delta and the end; the first token took as long as the whole, and that is what is said."""
    upstream.will(GOOD)
    events = [event async for event in worker.stream(endpoint, QUESTION, deadline=deadline, attempts=attempts)]

    said, finished = events
    assert said == TextDelta("Hello there.")
    assert isinstance(finished, Finished)
    assert finished.completion.first_token_ms == attempts[0].first_token_ms == attempts[0].duration_ms
    assert "stream" not in upstream.asked[0].json


Asker = Callable[[httpx.AsyncClient], ChatWorker | OpenRouter]


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("asker", [ChatWorker, OpenRouter], ids=["as the chat worker", "as a provider of its own"])
async def test_an_openai_compatible_server_answers(
    asker: Asker,
    streams: bool,
    simulated: str,
    http: httpx.AsyncClient,
    attempts: list[Attempt],
    deadline: float,
) -> None:
    """vLLM, Ollama and llama.cpp speak it: real tokens, real streaming, usage without a cost."""
    endpoint = Endpoint(f"{simulated}/v1", "", kind="openai_compatible")
    voice = asker(http)
    if streams:
        events = [event async for event in voice.stream(endpoint, QUESTION, deadline=deadline, attempts=attempts)]
        finished = events[-1]
        assert isinstance(finished, Finished)
        completion = finished.completion
        words = [event.text for event in events if isinstance(event, TextDelta)]
        assert len(words) > 3
        assert "".join(words) == completion.content
    else:
        completion = await voice.complete(endpoint, QUESTION, deadline=deadline, attempts=attempts)

    assert completion.content
    assert completion.usage is not None
    assert (completion.usage.estimated, completion.usage.cost) == (False, None)
    [seen] = (await http.get(f"{simulated}/_sim/requests")).json()
    assert seen["path"] == "/v1/chat/completions"
    assert seen["body"]["stream"] is streams
    assert seen["body"]["model"] == "chat-worker"
    assert not {"authorization", "http-referer", "x-title"} & {name.lower() for name in seen["headers"]}


async def test_an_openai_compatible_worker_is_not_pressed_either(
    worker: ChatWorker, upstream: Upstream, attempts: list[Attempt], deadline: float
) -> None:
    """OpenRouter is asked up to four times; a worker that is overloaded twice is left to recover."""
    upstream.will(refused(503), refused(503), whole(answered()))
    endpoint = Endpoint(upstream.url, "", kind="openai_compatible")
    with pytest.raises(CallFailed):
        await worker.complete(endpoint, QUESTION, deadline=deadline, attempts=attempts)

    assert [one.action for one in attempts] == ["retried", "gave up"]


async def test_a_compatible_stream_without_usage_is_whole(
    worker: ChatWorker, upstream: Upstream, attempts: list[Attempt], deadline: float
) -> None:
    """Older servers never count; the answer is complete all the same."""
    upstream.will(streamed(event(chunk("Hello there.")) + event(chunk(finish="stop")) + DONE))
    endpoint = Endpoint(upstream.url, "", kind="openai_compatible")
    events = [event async for event in worker.stream(endpoint, QUESTION, deadline=deadline, attempts=attempts)]

    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.completion.content, finished.outcome) == ("Hello there.", "complete")


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (whole({"status": "healthy", "model_loaded": True}), "ok"),
        (whole({"status": "healthy"}), "ok"),
        (whole(b""), "ok"),
        (whole({"status": "healthy", "model_loaded": False}), "no_model"),
        (whole({"status": "healthy"}, 503), "down"),
        (whole({"detail": "Not Found"}, 404), "down"),
        (Reply(drops=True, headless=True), "down"),
        (Reply(steps=(asyncio.Event(),), headless=True), "down"),
        (Reply(steps=(b"{", asyncio.Event())), "down"),
    ],
    ids=["loaded", "no word of it", "empty", "no model", "503", "404", "hangs up", "silent", "never ends"],
)
async def test_the_workers_health(
    reply: Reply, state: str, http: httpx.AsyncClient, upstream: Upstream, endpoint: Endpoint
) -> None:
    """Healthy without a model is not able to chat; a silence is bounded."""
    upstream.will(reply)
    worker = ChatWorker(http, health_s=0.2)

    assert await worker.health(endpoint) == state
    assert (upstream.asked[0].method, upstream.asked[0].path) == ("GET", "/health")


@pytest.mark.parametrize(
    ("reply", "state"),
    [
        (whole({"object": "list", "data": [{"id": "llama"}]}), "ok"),
        (whole({"object": "list", "data": []}), "no_model"),
        (whole({}, 500), "down"),
    ],
    ids=["models", "none", "500"],
)
async def test_the_health_of_an_openai_compatible_worker(
    reply: Reply, state: str, worker: ChatWorker, upstream: Upstream
) -> None:
    """Not all of them have /health; all of them list their models."""
    upstream.will(reply)

    assert await worker.health(Endpoint(upstream.url, "", kind="openai_compatible")) == state
    assert upstream.asked[0].path == "/api/v1/models"


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://[", "ftp://nowhere"])
async def test_a_worker_that_cannot_be_reached_is_down(address: str, worker: ChatWorker) -> None:
    """Whatever the reason; the health door never fails because of it."""
    assert await worker.health(Endpoint(address, "", kind="openai_compatible")) == "down"
