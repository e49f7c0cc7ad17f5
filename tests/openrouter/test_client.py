"""The client over real sockets: headers, retries, timers, cancelling, and connections that never leak."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest
from httpx_aiohttp import AiohttpTransport

from shared.openrouter import (
    Attempt,
    ChatRequest,
    Endpoint,
    Finished,
    OpenRouter,
    ReasoningDelta,
    RetryPolicy,
    Sampling,
    Started,
    StreamEvent,
    StreamTimers,
    TextDelta,
    Usage,
    errors,
)
from shared.openrouter.errors import CallFailed
from tests.openrouter.conftest import QUESTION, Sleeper
from tests.openrouter.upstream import (
    COMMENT,
    Reply,
    Step,
    Upstream,
    answered,
    chunk,
    event,
    refused,
    running,
    streamed,
    told,
    whole,
)

USAGE = Usage(10, 5, 15, 4, 1, 2, Decimal("0.00012"))
Make = Callable[..., OpenRouter]
# Long enough for a busy machine to do its work, short enough to wait for.
SOON_S = 0.15


class Ask:
    """One request, asked either way, with everything that came of it."""

    def __init__(self, client: OpenRouter, endpoint: Endpoint, deadline: float) -> None:
        self.client, self.endpoint, self.deadline = client, endpoint, deadline
        self.attempts: list[Attempt] = []
        self.events: list[StreamEvent] = []

    async def whole(self, request: ChatRequest = QUESTION) -> str:
        completion = await self.client.complete(
            self.endpoint, request, deadline=self.deadline, attempts=self.attempts
        )  # fmt: skip
        return completion.content

    def open(self, request: ChatRequest = QUESTION) -> Any:
        return self.client.stream(self.endpoint, request, deadline=self.deadline, attempts=self.attempts)

    async def streamed(self, request: ChatRequest = QUESTION) -> str:
        async with aclosing(self.open(request)) as events:
            async for each in events:
                self.events.append(each)
        return "".join(each.text for each in self.events if isinstance(each, TextDelta))

    @property
    def finished(self) -> Finished:
        last = self.events[-1]
        assert isinstance(last, Finished)
        return last

    @property
    def actions(self) -> list[str]:
        return [attempt.action for attempt in self.attempts]


@pytest.fixture
def ask(client: OpenRouter, endpoint: Endpoint, deadline: float) -> Ask:
    return Ask(client, endpoint, deadline)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until it is so; a test that waits in vain fails by the timeout."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the far end is a socket, it has no event of ours
            await asyncio.sleep(0)


async def test_the_headers_and_the_body_are_the_seeds(ask: Ask, upstream: Upstream) -> None:
    """Its four headers on every call, and its body."""
    upstream.will(whole(answered()), streamed(told("Hi")))

    await ask.whole()
    await ask.streamed()

    for asked in upstream.asked:
        assert (asked.method, asked.path) == ("POST", "/api/v1/chat/completions")
        assert asked.headers["authorization"] == "Bearer sk-or-v1-secretsecret"
        assert asked.headers["content-type"] == "application/json"
        assert asked.headers["http-referer"] == "https://ourvidz.com"
        assert asked.headers["x-title"] == "OurVidz Platform"
    assert [asked.json["stream"] for asked in upstream.asked] == [False, True]
    assert list(upstream.asked[0].json) == ["model", "messages", "max_tokens", "temperature", "top_p", "stream"]


async def test_an_app_title_in_any_language_is_sent(make: Make, endpoint: Endpoint, upstream: Upstream) -> None:
    """As UTF-8, and never as a second header line."""
    upstream.will(whole(answered()))
    client = make(app_title="Gästebuch 🐉\r\nX-Evil: 1")

    await client.complete(endpoint, QUESTION, deadline=time.monotonic() + 5, attempts=[])

    assert upstream.asked[0].headers["x-title"] == "Gästebuch 🐉X-Evil: 1"
    assert "x-evil" not in upstream.asked[0].headers


async def test_a_compatible_server_gets_no_openrouter_headers(client: OpenRouter, upstream: Upstream) -> None:
    """Nor a key it does not want; its answers have no cost, which is then not known."""
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    upstream.will(whole(answered() | {"usage": usage, "provider": None}))
    endpoint = Endpoint(upstream.url + "/", "", "openai_compatible")

    completion = await client.complete(endpoint, QUESTION, deadline=time.monotonic() + 5, attempts=[])

    assert upstream.asked[0].path == "/api/v1/chat/completions"
    assert {"authorization", "http-referer", "x-title"}.isdisjoint(upstream.asked[0].headers)
    assert completion.usage == Usage(3, 4, 7)


async def test_an_answer_carries_what_was_sent_and_what_was_not(ask: Ask, upstream: Upstream) -> None:
    """The reply to our caller names the parameters in force."""
    upstream.will(whole(answered()))
    request = replace(QUESTION, supported_parameters=frozenset({"max_tokens", "top_p"}))

    completion = await ask.client.complete(ask.endpoint, request, deadline=ask.deadline, attempts=ask.attempts)

    assert completion.parameters == {"max_tokens": 500, "top_p": 0.9}
    assert completion.dropped == ("temperature",)
    assert completion.first_token_ms is None
    (attempt,) = ask.attempts
    assert attempt == Attempt(
        "maker/model", 200, None, attempt.duration_ms, "answered",
        generation_id="gen-1", upstream_provider="OpenAI", usage=USAGE, billing_stops=False,
    )  # fmt: skip


async def test_a_stream_tells_when_its_first_token_came(ask: Ask, upstream: Upstream) -> None:
    """The first visible one; and its attempt stands before the last event is given out."""
    upstream.will(streamed(COMMENT, event(chunk(delta={"reasoning": "Hm"})), told("Hel", "lo")))

    async for each in ask.open():
        ask.events.append(each)
        if isinstance(each, Finished):
            assert ask.actions == ["answered"]

    assert [type(each) for each in ask.events] == [Started, ReasoningDelta, TextDelta, TextDelta, Finished]
    completion = ask.finished.completion
    assert (completion.content, completion.outcome, completion.usage) == ("Hello", "complete", USAGE)
    assert completion.first_token_ms is not None
    assert ask.attempts[0].first_token_ms == completion.first_token_ms
    assert (ask.attempts[0].code, ask.attempts[0].characters, ask.attempts[0].billed_unknown) == (None, 7, False)


MODES = pytest.mark.parametrize("mode", ["whole", "streamed"])


async def run(ask: Ask, mode: str, request: ChatRequest = QUESTION) -> str:
    return await (ask.whole(request) if mode == "whole" else ask.streamed(request))


def good(mode: str) -> Reply:
    return whole(answered("Hello")) if mode == "whole" else streamed(told("Hello"))


@MODES
async def test_what_a_retry_can_cure_is_cured(ask: Ask, upstream: Upstream, sleeper: Sleeper, mode: str) -> None:
    """Three retries after the first try, with the waits that were asked for or a backoff."""
    slow = whole({"error": {"code": 429, "message": "Slow"}}, 429, retry_after="2")
    upstream.will(slow, refused(503), Reply(headless=True, drops=True), good(mode))

    assert await run(ask, mode) == "Hello"

    assert ask.actions == ["retried", "retried", "retried", "answered"]
    assert [attempt.status for attempt in ask.attempts] == [429, 503, None, 200]
    assert [attempt.code for attempt in ask.attempts] == ["RATE_LIMITED", "UNAVAILABLE", "UPSTREAM_ERROR", None]
    assert [attempt.billed_unknown for attempt in ask.attempts] == [False, False, True, False]
    assert ask.attempts[0].retry_after_s == 2.0
    assert sleeper.slept == pytest.approx([2.1, 0.5, 1.0])


@MODES
async def test_what_a_retry_cannot_cure_is_raised_at_once(
    ask: Ask, upstream: Upstream, sleeper: Sleeper, mode: str
) -> None:
    """With what may still help; the attempts tell the story."""
    upstream.will(refused(404, "No endpoints found for maker/model."))

    with pytest.raises(errors.UnknownModel) as caught:
        await run(ask, mode)

    assert (caught.value.disposition, ask.actions, sleeper.slept) == ("next_model", ["gave up"], [])
    assert ask.attempts[0].cause_text == "No endpoints found for maker/model."


@MODES
async def test_the_tries_are_bounded(ask: Ask, upstream: Upstream, mode: str) -> None:
    """Four calls, then the next candidate."""
    upstream.will(*[refused(500)] * 9)

    with pytest.raises(errors.ServerFault):
        await run(ask, mode)

    assert ask.actions == ["retried"] * 3 + ["gave up"]


@MODES
async def test_no_wait_is_begun_that_the_deadline_would_cut(
    ask: Ask, upstream: Upstream, sleeper: Sleeper, mode: str
) -> None:
    """Five seconds asked for and four left: another model may still make it."""
    upstream.will(whole({"error": {"code": 429}}, 429, retry_after="5"))
    ask.deadline = time.monotonic() + 4

    with pytest.raises(errors.Throttled) as caught:
        await run(ask, mode)

    assert (caught.value.disposition, sleeper.slept, len(upstream.asked)) == ("next_model", [], 1)


@MODES
async def test_a_passed_deadline_makes_no_call(ask: Ask, upstream: Upstream, mode: str) -> None:
    """And leaves no attempt, because there was none."""
    ask.deadline = time.monotonic() - 1

    with pytest.raises(errors.OutOfTime) as caught:
        await run(ask, mode)

    assert (caught.value.disposition, upstream.asked, ask.attempts) == ("end", [], [])


@MODES
async def test_a_refused_parameter_is_left_out_and_reported(ask: Ask, upstream: Upstream, mode: str) -> None:
    """The second try goes without it."""
    raw = '{"error":{"message":"`temperature` is deprecated for this model."}}'
    upstream.will(refused(400, "Provider returned error", metadata={"raw": raw}), good(mode))

    await run(ask, mode)

    assert ["temperature" in asked.json for asked in upstream.asked] == [True, False]
    if mode == "streamed":
        assert ask.finished.completion.dropped == ("temperature",)


@MODES
async def test_an_affordable_limit_is_taken(ask: Ask, upstream: Upstream, mode: str) -> None:
    """A low balance still buys a shorter answer."""
    upstream.will(refused(402, "You requested up to 500 tokens, but can only afford 120."), good(mode))

    assert await run(ask, mode) == "Hello"
    assert [asked.json["max_tokens"] for asked in upstream.asked] == [500, 120]


@MODES
async def test_a_moderated_request_ends(ask: Ask, upstream: Upstream, mode: str) -> None:
    """No other model is asked for what one refused to look at."""
    upstream.will(refused(403, "Flagged", metadata={"reasons": ["x"], "flagged_input": "words"}))

    with pytest.raises(errors.Moderated) as caught:
        await run(ask, mode)

    assert (caught.value.disposition, caught.value.fallback) == ("end", False)


@MODES
@pytest.mark.parametrize("key", ["", " ", "sk-\nnew", "sk-ключ"], ids=["none", "blank", "two lines", "not ascii"])
async def test_a_key_that_cannot_be_sent_is_our_fault(
    client: OpenRouter, upstream: Upstream, deadline: float, mode: str, key: str
) -> None:
    """No call is made, an operator is called, and another provider may answer."""
    ask = Ask(client, Endpoint(upstream.url, key), deadline)

    with pytest.raises(errors.KeyRejected) as caught:
        await run(ask, mode)

    assert (caught.value.disposition, caught.value.page, ask.attempts) == ("next_provider", True, [])
    assert "sk-" not in caught.value.cause_text


@MODES
async def test_a_redirect_is_never_followed(ask: Ask, upstream: Upstream, mode: str) -> None:
    """The key goes to one address only."""
    upstream.will(Reply(307, {"location": upstream.url + "/elsewhere"}))

    with pytest.raises(errors.Misdirected):
        await run(ask, mode)

    assert len(upstream.asked) == 1


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1:1", errors.Unreachable),
        ("http://far.example:999999", errors.Misdirected),
        ("ftp://far.example", errors.Misdirected),
        ("no address", errors.Misdirected),
    ],
)
async def test_an_address_that_cannot_be_asked_costs_nothing(
    client: OpenRouter, deadline: float, url: str, kind: type[CallFailed]
) -> None:
    """Nothing was sent, so nothing can have been billed; another provider may be reachable."""
    ask = Ask(client, Endpoint(url, "sk-x"), deadline)

    with pytest.raises(CallFailed) as caught:
        await ask.whole()

    assert (type(caught.value), caught.value.disposition) == (kind, "next_provider")
    assert not any(attempt.billed_unknown for attempt in ask.attempts)


@MODES
async def test_an_attempt_has_a_ceiling(make: Make, endpoint: Endpoint, upstream: Upstream, mode: str) -> None:
    """A silent model is left for the next one; what it may have cost is not known."""
    upstream.will(Reply(headless=True, ends=False))
    client = make(policy=RetryPolicy(attempt_s=SOON_S), timers=StreamTimers(first_token_s=SOON_S))
    ask = Ask(client, endpoint, time.monotonic() + 60)

    with pytest.raises(errors.TooSlow) as caught:
        await run(ask, mode)

    assert (caught.value.disposition, ask.actions) == ("next_model", ["gave up"])
    assert (ask.attempts[0].code, ask.attempts[0].billed_unknown) == ("TIMEOUT", True)
    await upstream.asked[0].hung_up.wait()


@MODES
async def test_the_deadline_cuts_an_attempt(ask: Ask, upstream: Upstream, mode: str) -> None:
    """When it is reached nobody else can help either."""
    upstream.will(Reply(headless=True, ends=False))
    ask.deadline = time.monotonic() + SOON_S

    with pytest.raises(errors.OutOfTime) as caught:
        await run(ask, mode)

    assert caught.value.disposition == "end"


async def test_padding_does_not_wind_up_the_ceiling(make: Make, endpoint: Endpoint, upstream: Upstream) -> None:
    """White space keeps a connection alive, not an attempt."""
    upstream.will(Reply(200, {}, (b"\n         \n",) * 5, ends=False))
    ask = Ask(make(policy=RetryPolicy(attempt_s=SOON_S)), endpoint, time.monotonic() + 60)

    with pytest.raises(errors.TooSlow):
        await ask.whole()


class Clock:
    """Goes on by a fixed step with every look at it, and each look lets the far end say one thing more."""

    def __init__(self, step: float) -> None:
        self.time, self.step = 0.0, step
        self._waiting: list[asyncio.Event] = []

    def __call__(self) -> float:
        self.time += self.step
        if self._waiting:
            self._waiting.pop(0).set()
        return self.time

    def paced(self, *said: bytes) -> list[Step]:
        """Steps of a reply, each of which waits for a look at this clock."""
        steps: list[Step] = []
        for piece in said:
            self._waiting.append(asyncio.Event())
            steps += [self._waiting[-1], piece]
        return steps


@pytest.mark.parametrize(
    ("shown", "gap_s", "first_token_s"),
    [((), 1000.0, 60.0), ((event(chunk("Hi")),), 60.0, 1000.0)],
    ids=["first token", "gap"],
)
async def test_comments_and_empty_deltas_wind_up_no_timer(
    make: Make, endpoint: Endpoint, upstream: Upstream, shown: tuple[bytes, ...], gap_s: float, first_token_s: float
) -> None:
    """They say "queued or alive", not that anything comes; the clock here runs a second with every look."""
    clock = Clock(1.0)
    upstream.will(streamed(*shown, *clock.paced(*[COMMENT + event(chunk(""))] * 200), ends=False))
    client = make(monotonic=clock, timers=StreamTimers(first_token_s, gap_s))
    ask = Ask(client, endpoint, 10_000.0)

    if shown:
        assert await ask.streamed() == "Hi"
        assert isinstance(ask.finished.failure, errors.TooSlow)
    else:
        with pytest.raises(errors.TooSlow):
            await ask.streamed()


async def test_real_tokens_wind_up_the_gap(make: Make, endpoint: Endpoint, upstream: Upstream) -> None:
    """A slow model that goes on talking is left to finish."""
    clock = Clock(1.0)
    said = [piece for number in range(40) for piece in (event(chunk(f"{number} ")), COMMENT)]
    upstream.will(streamed(*clock.paced(*said), told("end")))
    client = make(monotonic=clock, timers=StreamTimers(60.0, 30.0))
    ask = Ask(client, endpoint, 10_000.0)

    assert (await ask.streamed()).endswith("39 end")
    assert ask.finished.outcome == "complete"
    assert clock.time > 60


async def test_a_silence_after_text_is_a_truncated_answer(make: Make, endpoint: Endpoint, upstream: Upstream) -> None:
    """Something was shown, so nothing is raised: the end says what happened."""
    upstream.will(streamed(event(chunk("Hello")), ends=False))
    ask = Ask(make(timers=StreamTimers(gap_s=SOON_S)), endpoint, time.monotonic() + 60)

    assert await ask.streamed() == "Hello"

    assert (ask.finished.outcome, ask.finished.completion.finish_reason) == ("truncated", None)
    assert isinstance(ask.finished.failure, errors.TooSlow)
    assert (ask.attempts[0].action, ask.attempts[0].code) == ("answered", "TIMEOUT")
    assert (ask.attempts[0].billed_unknown, ask.attempts[0].characters) == (True, 5)
    await upstream.asked[0].hung_up.wait()


async def test_a_missing_end_after_the_finish_is_not_waited_for(
    make: Make, endpoint: Endpoint, upstream: Upstream
) -> None:
    """The answer is whole; only the usage is missing."""
    upstream.will(streamed(event(chunk("Hello")), event(chunk(finish="stop")), ends=False))
    ask = Ask(make(timers=StreamTimers(tail_s=SOON_S)), endpoint, time.monotonic() + 60)

    assert await ask.streamed() == "Hello"
    assert (ask.finished.outcome, ask.finished.failure) == ("complete", None)
    assert (ask.attempts[0].usage, ask.attempts[0].billed_unknown) == (None, True)


BROKEN = [
    pytest.param([event({"error": {"code": 502, "message": "Down"}})], False, errors.ServerFault, id="error event"),
    pytest.param([], False, errors.ConnectionLost, id="silent end"),
    pytest.param([], True, errors.ConnectionLost, id="dropped"),
    pytest.param([b"data: {broken\n\n"], False, errors.UnreadableAnswer, id="malformed"),
]


@pytest.mark.parametrize(("steps", "drops", "kind"), BROKEN)
async def test_a_stream_that_fails_before_its_first_word_is_asked_again(
    ask: Ask, upstream: Upstream, steps: list[bytes], drops: bool, kind: type[CallFailed]
) -> None:
    """Nobody saw it, so nobody has to know; a second Started says that earlier reasoning is void."""
    thought = event(chunk(delta={"reasoning": "Hm", "content": ""}))
    upstream.will(streamed(COMMENT, thought, *steps, drops=drops), streamed(told("Hello")))

    assert await ask.streamed() == "Hello"

    assert ask.actions == ["retried", "answered"]
    assert [type(each) for each in ask.events] == [Started, ReasoningDelta, Started, TextDelta, Finished]
    assert ask.attempts[0].code == kind.code


@pytest.mark.parametrize(("steps", "drops", "kind"), BROKEN)
async def test_a_stream_that_fails_after_a_word_ends_truncated(
    ask: Ask, upstream: Upstream, steps: list[bytes], drops: bool, kind: type[CallFailed]
) -> None:
    """What was shown stays, the failure is named, and nobody asks twice."""
    upstream.will(streamed(event(chunk("Hello")), *steps, drops=drops))

    assert await ask.streamed() == "Hello"

    assert (ask.finished.outcome, type(ask.finished.failure)) == ("truncated", kind)
    assert ask.finished.failure is not None
    assert ask.finished.failure.disposition == "end"
    assert ask.finished.completion.content == "Hello"
    assert ask.attempts[0].code == kind.code
    assert len(upstream.asked) == 1


async def test_an_error_without_a_token_is_not_billed(ask: Ask, upstream: Upstream) -> None:
    """OpenRouter insures against that; with text shown it is not known."""
    failed = event({"error": {"code": 400, "message": "Down"}})
    upstream.will(streamed(failed), streamed(event(chunk("Hi")), failed))

    with pytest.raises(errors.BadRequest):
        await ask.streamed()
    await ask.streamed()

    assert [attempt.billed_unknown for attempt in ask.attempts] == [False, True]


@MODES
async def test_an_empty_answer_is_asked_again_once(ask: Ask, upstream: Upstream, mode: str) -> None:
    """A cold start often answers the second time; what the first one cost is kept."""
    empty = whole(answered("")) if mode == "whole" else streamed(told())
    upstream.will(empty, empty)

    with pytest.raises(errors.EmptyAnswer):
        await run(ask, mode)

    assert ask.actions == ["retried", "gave up"]
    assert [attempt.usage for attempt in ask.attempts] == [USAGE, USAGE]


@MODES
async def test_either_kind_of_body_is_understood_for_either_question(ask: Ask, upstream: Upstream, mode: str) -> None:
    """Some servers stream always, some never; the content type does not decide."""
    other = streamed(told("Hello")) if mode == "whole" else whole(answered("Hello"))
    upstream.will(other, replace(other, headers={"content-type": "text/plain"}))

    assert await run(ask, mode) == "Hello"
    assert (await run(ask, mode)).endswith("Hello")
    assert ask.attempts[0].usage == USAGE


@MODES
async def test_a_compressed_answer_is_read_and_a_corrupt_one_is_not(ask: Ask, upstream: Upstream, mode: str) -> None:
    """The transport leaves the decoding to us."""
    packed = {"content-encoding": "gzip", "content-type": "application/json"}
    body = good(mode).steps[0]
    assert isinstance(body, bytes)
    upstream.will(Reply(200, packed, (b"no gzip",)), Reply(200, packed, (gzip.compress(body),)))

    assert await run(ask, mode) == "Hello"
    assert [attempt.code for attempt in ask.attempts] == ["UPSTREAM_ERROR", None]


@pytest.mark.parametrize("size", [33 * 1024 * 1024])
async def test_an_answer_without_end_is_refused(ask: Ask, upstream: Upstream, size: int) -> None:
    """A body is bounded, so a mad server cannot fill our memory."""
    endless = Reply(200, {"content-encoding": "gzip"}, (gzip.compress(b" " * size, 1),))
    upstream.will(endless, endless)

    with pytest.raises(errors.UnreadableAnswer):
        await ask.whole()


async def leave(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@MODES
@pytest.mark.parametrize("headless", [True, False], ids=["before the headers", "in the body"])
async def test_a_cancelled_call_closes_its_connection(ask: Ask, upstream: Upstream, mode: str, headless: bool) -> None:
    """At once, at any moment, and the call is still written down."""
    upstream.will(Reply(headless=headless, steps=() if headless else (COMMENT,), ends=False))
    task = asyncio.create_task(run(ask, mode))
    await upstream.arrived.wait()
    for _ in range(20):
        await asyncio.sleep(0)

    await leave(task)

    async with asyncio.timeout(2):
        await upstream.asked[0].hung_up.wait()
    assert (ask.attempts[0].code, ask.attempts[0].action) == ("CANCELLED", "cancelled")
    assert ask.attempts[0].billed_unknown


@pytest.mark.parametrize(
    ("provider", "stops"), [("OpenAI", True), ("Google AI Studio", False), ("Somebody New", None), (None, None)]
)
async def test_closing_a_stream_leaves_the_basis_of_an_estimate(
    ask: Ask, upstream: Upstream, provider: str | None, stops: bool | None
) -> None:
    """No usage follows a cancel: what was streamed, for which generation, and whether that upstream stops charging."""
    upstream.will(streamed(event(chunk("Hello") | {"provider": provider}), ends=False))
    events = ask.open()
    shown = [await anext(events), await anext(events)]

    await events.aclose()

    assert shown[1] == TextDelta("Hello")
    async with asyncio.timeout(2):
        await upstream.asked[0].hung_up.wait()
    (attempt,) = ask.attempts
    assert (attempt.code, attempt.action, attempt.status) == ("CANCELLED", "cancelled", 200)
    assert (attempt.characters, attempt.generation_id, attempt.upstream_provider) == (5, "gen-1", provider)
    assert (attempt.billing_stops, attempt.billed_unknown) == (stops, True)


async def test_closing_a_finished_stream_changes_nothing(ask: Ask, upstream: Upstream) -> None:
    """A listener may stop at the last event."""
    upstream.will(streamed(told("Hi")))
    events = ask.open()
    async for each in events:
        if isinstance(each, Finished):
            break
    await events.aclose()

    assert ask.actions == ["answered"]


async def test_a_cancel_during_a_wait_records_what_was_done(make: Make, endpoint: Endpoint, upstream: Upstream) -> None:
    """The try before the wait stands in the attempts, and none after it."""
    waiting = asyncio.Event()

    async def for_ever(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    upstream.will(refused(503))
    ask = Ask(make(sleep=for_ever), endpoint, time.monotonic() + 60)
    task = asyncio.create_task(ask.whole())
    await waiting.wait()

    await leave(task)

    assert ask.actions == ["retried"]


async def test_no_connection_leaks(make: Make, endpoint: Endpoint, upstream: Upstream) -> None:
    """The pool has two; after a dozen calls left in every way it still serves."""
    ask = Ask(make(timers=StreamTimers(gap_s=SOON_S)), endpoint, time.monotonic() + 60)
    for _ in range(3):
        upstream.arrived.clear()
        upstream.will(streamed(event(chunk("Hi")), ends=False))
        events = ask.open()
        await anext(events)
        await events.aclose()

        upstream.arrived.clear()
        upstream.will(Reply(headless=True, ends=False))
        task = asyncio.create_task(ask.whole())
        await upstream.arrived.wait()
        await leave(task)

        upstream.will(streamed(event(chunk("Hi")), drops=True), refused(400), streamed(event({"error": {"code": 400}})))
        await ask.streamed()
        for _ in range(2):
            with pytest.raises(errors.BadRequest):
                await ask.streamed()

    upstream.will(whole(answered("Still here.")), streamed(told("Here too.")))
    async with asyncio.timeout(5):
        assert await ask.whole() == "Still here."
        assert (await ask.streamed()).endswith("Here too.")


async def test_a_finished_connection_is_used_again(ask: Ask, upstream: Upstream) -> None:
    """A new one for every call would cost a handshake each."""
    upstream.will(streamed(told("a")), whole(answered()), refused(400), streamed(told("b")))
    await ask.streamed()
    await ask.whole()
    with pytest.raises(errors.BadRequest):
        await ask.whole()
    await ask.streamed()

    assert {asked.connection for asked in upstream.asked} == {1}


async def test_the_end_of_a_body_is_read_after_done(ask: Ask, upstream: Upstream) -> None:
    """It may come a moment later; leaving before it would throw the connection away."""
    moment_later = asyncio.Event()
    upstream.will(streamed(told("a"), moment_later), streamed(told("b")))
    async for each in ask.open():
        if isinstance(each, TextDelta):
            asyncio.get_running_loop().call_later(0.01, moment_later.set)
    await ask.streamed()

    assert {asked.connection for asked in upstream.asked} == {1}


async def test_a_slow_listener_is_not_a_silent_model(make: Make, endpoint: Endpoint, upstream: Upstream) -> None:
    """The gap is measured while we wait for the model, not while it waits for us."""
    clock = Clock(0.0)
    second = asyncio.Event()
    upstream.will(streamed(event(chunk("a")), second, told("b")))
    ask = Ask(make(monotonic=clock, timers=StreamTimers(gap_s=30.0)), endpoint, 10_000.0)

    async for each in ask.open():
        ask.events.append(each)
        if isinstance(each, TextDelta):
            clock.time += 100
            second.set()

    assert ask.finished.outcome == "complete"


async def test_calls_at_once_do_not_mix(http: httpx.AsyncClient, upstream: Upstream, deadline: float) -> None:
    """One client serves every request of the process."""
    client = OpenRouter(http)
    upstream.will(*[streamed(told("a", "b"))] * 20)
    asks = [Ask(client, Endpoint(upstream.url, "sk-x"), deadline) for _ in range(20)]

    assert await asyncio.gather(*(ask.streamed() for ask in asks)) == ["ab"] * 20
    assert all(ask.actions == ["answered"] for ask in asks)


async def test_the_plain_transport_serves_as_well(upstream: Upstream, deadline: float, sleeper: Sleeper) -> None:
    """Nothing depends on which transport the owner chose; what was never sent is known with both."""
    async with httpx.AsyncClient() as http:
        client = OpenRouter(http, sleep=sleeper)
        upstream.will(Reply(headless=True, drops=True), streamed(told("Hi")))
        ask = Ask(client, Endpoint(upstream.url, "sk-x"), deadline)
        assert await ask.streamed() == "Hi"
        assert [attempt.billed_unknown for attempt in ask.attempts] == [True, False]

        with pytest.raises(errors.Unreachable):
            await Ask(client, Endpoint("http://127.0.0.1:1", "sk-x"), deadline).whole()


async def test_a_full_pool_is_not_billed(upstream: Upstream, sleeper: Sleeper, deadline: float) -> None:
    """No connection was free in time, so nothing was sent."""
    async with httpx.AsyncClient(
        transport=AiohttpTransport(verify=False, limits=httpx.Limits(max_connections=1))
    ) as http:
        client = OpenRouter(http, sleep=sleeper, policy=RetryPolicy(retries=0, connect_s=SOON_S))
        upstream.will(streamed(event(chunk("Hi")), ends=False))
        endpoint = Endpoint(upstream.url, "sk-x")
        holder = client.stream(endpoint, QUESTION, deadline=deadline, attempts=[])
        await anext(holder)
        ask = Ask(client, endpoint, deadline)

        with pytest.raises(errors.Unreachable):
            await ask.whole()

        assert not ask.attempts[0].billed_unknown
        await holder.aclose()


async def test_models_key_and_generation_are_read(client: OpenRouter, endpoint: Endpoint, upstream: Upstream) -> None:
    """The three things OpenRouter tells about itself."""
    missing = refused(404, "Generation gen-1 not found")
    upstream.will(
        whole({"data": [{"id": "maker/model"}]}),
        whole({"data": {"label": "key", "usage": 1.5}}),
        missing,
        whole({"data": {"id": "gen-1", "total_cost": 0.5}}),
    )

    assert [model.id for model in await client.models(endpoint)] == ["maker/model"]
    assert (await client.key(endpoint)).usage == Decimal("1.5")
    assert await client.generation(endpoint, "gen-1") is None
    booked = await client.generation(endpoint, "gen-1")

    assert booked is not None
    assert booked.total_cost == Decimal("0.5")
    assert [asked.path for asked in upstream.asked] == [
        "/api/v1/models", "/api/v1/key", "/api/v1/generation?id=gen-1", "/api/v1/generation?id=gen-1"
    ]  # fmt: skip
    assert all(asked.headers["authorization"] == "Bearer sk-or-v1-secretsecret" for asked in upstream.asked)


@pytest.mark.parametrize(
    ("reply", "kind", "disposition"),
    [
        (refused(503), errors.Overloaded, "retry"),
        (refused(401), errors.KeyRejected, "next_provider"),
        (whole(b"<html>"), errors.UnreadableAnswer, "retry"),
        (Reply(headless=True, drops=True), errors.ConnectionLost, "retry"),
    ],
)
async def test_a_failed_look_up_says_what_may_help(
    client: OpenRouter, endpoint: Endpoint, upstream: Upstream, reply: Reply, kind: type[CallFailed], disposition: str
) -> None:
    """It is made once; a schedule may come back to it."""
    # A lost GET is safe to repeat, and the transport does so by itself once on a used connection.
    upstream.will(reply, reply)

    with pytest.raises(CallFailed) as caught:
        await client.models(endpoint)

    assert (type(caught.value), caught.value.disposition) == (kind, disposition)


async def test_a_provider_that_answers_with_our_key_does_not_put_it_into_the_log(ask: Ask, upstream: Upstream) -> None:
    """Some echo the request."""
    upstream.will(refused(400, f"bad key {ask.endpoint.key} or mykey"))

    with pytest.raises(errors.BadRequest) as caught:
        await ask.whole()

    assert "secretsecret" not in caught.value.cause_text


async def test_sampling_reaches_the_wire(ask: Ask, upstream: Upstream) -> None:
    """An explicit zero too."""
    upstream.will(whole(answered()))

    await ask.whole(replace(QUESTION, sampling=Sampling(7, 0.0, None, stop=("END",), seed=0)))

    body = upstream.asked[0].json
    assert (body["max_tokens"], body["temperature"], body["stop"], body["seed"]) == (7, 0.0, ["END"], 0)
    assert "top_p" not in body


@pytest.fixture
async def second() -> AsyncIterator[Upstream]:
    async with running() as upstream:
        yield upstream


async def test_one_client_serves_many_endpoints(
    client: OpenRouter, upstream: Upstream, second: Upstream, deadline: float
) -> None:
    """Each with its own key and kind."""
    upstream.will(whole(answered("one")))
    second.will(whole(answered("two")))

    first_ask = Ask(client, Endpoint(upstream.url, "sk-a"), deadline)
    second_ask = Ask(client, Endpoint(second.url, "sk-b", "openai_compatible"), deadline)

    assert [await first_ask.whole(), await second_ask.whole()] == ["one", "two"]
    assert second.asked[0].headers["authorization"] == "Bearer sk-b"
