"""Asking OpenRouter, or any server of the same wire: connections, timers and retries around the pure parts."""

from __future__ import annotations

import asyncio
import random as random_module
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar

import httpx

from shared.openrouter import answer, catalog, classification, network, retry, wire
from shared.openrouter.call import Call
from shared.openrouter.classification import Envelope
from shared.openrouter.errors import (
    CallFailed,
    KeyRejected,
    Misdirected,
    OutOfTime,
    TooSlow,
    UnknownModel,
    UnreadableAnswer,
)
from shared.openrouter.retry import RetryPolicy
from shared.openrouter.stream import (
    MOST_BODY_BYTES,
    Assembler,
    Delta,
    Finished,
    StreamEvent,
    StreamReader,
    looks_streamed,
)
from shared.openrouter.wire import Action, Attempt, ChatRequest, Completion, Endpoint, Question

T = TypeVar("T")

_MOST_ERROR_BYTES = 1024 * 1024
# How long the end of the chunked body may keep us after [DONE]: reading it lets the connection be used again.
_DRAIN_S = 0.1
# Images make bodies of megabytes: written at once they would hold up everybody else.
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class StreamTimers:
    """Seconds of patience with a stream; keep-alive comments do not count as signs of life.

    `first_token_s` from the request to the first token, reasoning included (the seed's 60 s); `gap_s` between tokens;
    `tail_s` after the finish reason, when only the usage is missing. The caller's deadline cuts all of them.
    """

    first_token_s: float = 60.0
    gap_s: float = 30.0
    tail_s: float = 5.0


DEFAULT_POLICY = RetryPolicy()
DEFAULT_TIMERS = StreamTimers()


class OpenRouter:
    """One client for every endpoint, over an httpx client that its owner opens and closes.

    `deadline` is always a moment of `monotonic`. Each HTTP call appends one Attempt to `attempts`, whatever became of
    it. Failures are CallFailed, with `disposition` saying what may still help.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        app_url: str = "https://ourvidz.com",
        app_title: str = "OurVidz Platform",
        policy: RetryPolicy = DEFAULT_POLICY,
        timers: StreamTimers = DEFAULT_TIMERS,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random_module.random,
    ) -> None:
        self._http = http
        self._app_url, self._app_title = app_url, app_title
        self._policy, self._timers = policy, timers
        self._monotonic, self._now, self._sleep, self._random = monotonic, now, sleep, random

    async def complete(
        self, endpoint: Endpoint, request: ChatRequest, *, deadline: float, attempts: list[Attempt]
    ) -> Completion:
        """The whole answer of one model, after as many tries as the policy and the deadline allow."""
        course = retry.Course({})
        while True:
            question = wire.build(request, kind=endpoint.kind, adjustments=course.adjustments)
            call = Call(request.model, self._monotonic, billing_stops=False)
            try:
                completion = await self._ask(endpoint, question, call, deadline)
            except CallFailed as failure:
                course = await self._recover(failure, call, course, question, deadline, attempts)
                continue
            except asyncio.CancelledError:
                call.record(attempts, "cancelled", code="CANCELLED")
                raise
            call.record(attempts, "answered")
            return replace(completion, dropped=question.dropped, parameters=question.parameters)

    async def stream(
        self, endpoint: Endpoint, request: ChatRequest, *, deadline: float, attempts: list[Attempt]
    ) -> AsyncGenerator[StreamEvent, None]:
        """The answer of one model as it comes; the last event is Finished, unless a failure is raised.

        Until the first TextDelta or ToolDelta a failure is retried like in `complete`, and raised in the end: nothing
        was shown, so another model may take over unseen. After it nothing is raised: Finished says truncated and
        carries the failure. Closing the generator closes the connection at once.
        """
        course = retry.Course({})
        while True:
            question = wire.build(request, kind=endpoint.kind, stream=True, adjustments=course.adjustments)
            call = Call(request.model, self._monotonic)
            try:
                async with aclosing(self._listen(endpoint, question, call, deadline)) as events:
                    async for event in events:
                        if not isinstance(event, Finished):
                            yield event
                            continue
                        call.record(attempts, "answered")
                        yield _signed(event, question, call)
                return
            except CallFailed as failure:
                reader = call.reader
                if reader is None or not reader.seen.visible:
                    course = await self._recover(failure, call, course, question, deadline, attempts)
                    continue
                failure.disposition = "end"
                call.record(attempts, "answered", code=failure.code, failure=failure)
                yield _signed(Finished(reader.partial(), failure), question, call)
                return
            except (asyncio.CancelledError, GeneratorExit):
                call.record(attempts, "cancelled", code="CANCELLED")
                raise

    async def models(self, endpoint: Endpoint) -> list[catalog.CatalogModel]:
        """The catalogue. One try; a failure with disposition retry may be tried again later."""
        return await self._get(endpoint, "models", {}, catalog.parse_models)

    async def key(self, endpoint: Endpoint) -> catalog.KeyStatus:
        """What is left on the endpoint's key. One try, like `models`."""
        return await self._get(endpoint, "key", {}, catalog.parse_key)

    async def generation(self, endpoint: Endpoint, id: str) -> catalog.Generation | None:
        """The booking of one generation, or None while there is none: it may take more than eight minutes to appear."""
        try:
            return await self._get(endpoint, "generation", {"id": id}, catalog.parse_generation)
        except UnknownModel as missing:
            if missing.status == 404 or missing.told:
                return None
            raise

    async def _recover(
        self,
        failure: CallFailed,
        call: Call,
        course: retry.Course,
        question: Question,
        deadline: float,
        attempts: list[Attempt],
    ) -> retry.Course:
        """Wait as the policy says and return the course of the next try, or raise the failure."""
        decision = retry.decide(
            failure,
            course,
            question,
            policy=self._policy,
            remaining_s=deadline - self._monotonic(),
            random=self._random,
        )
        failure.disposition = decision.disposition
        action: Action = "retried" if decision.disposition == "retry" else "gave up"
        call.record(attempts, action, code=failure.code, failure=failure)
        if decision.disposition != "retry":
            raise failure
        if decision.wait_s > 0:
            await self._sleep(decision.wait_s)
        return course.after(failure, decision.adjustments)

    async def _ask(self, endpoint: Endpoint, question: Question, call: Call, deadline: float) -> Completion:
        due = min(call.started + self._policy.attempt_s, deadline)
        response = await self._post(endpoint, question, call, due, deadline)
        try:
            body = await self._body(response, call, due, deadline)
        finally:
            await _close(response)
        envelope = self._envelope(response, endpoint)
        if looks_streamed(body):
            call.reader = reader = StreamReader(envelope)
            for _ in (*reader.feed(body), *reader.end()):
                pass
            return reader.completion()
        completion = answer.parse_answer(body, envelope)
        call.learn(completion.id, completion.provider, completion.usage)
        return completion

    async def _listen(
        self, endpoint: Endpoint, question: Question, call: Call, deadline: float
    ) -> AsyncGenerator[Delta | Finished, None]:
        response = await self._post(
            endpoint, question, call, min(call.started + self._timers.first_token_s, deadline), deadline
        )
        try:
            reader = call.reader = StreamReader(self._envelope(response, endpoint))
            seen, progress, finished, last_token = reader.seen, 0, False, call.started
            chunks = response.aiter_bytes()
            while not seen.done:
                due = min(last_token + self._patience(seen), deadline)
                try:
                    if due <= self._monotonic():
                        # Asked before every read: a flood of keep-alives is always there before a timer fires.
                        raise _late(due, deadline, call.status)
                    data = await self._within(due, deadline, call, anext(chunks, None))
                except CallFailed:
                    if seen.finished:
                        # The answer is whole, only its usage is missing.
                        break
                    raise
                if data is None:
                    break
                for event in reader.feed(data):
                    call.first_token(event)
                    yield event
                if seen.progress != progress or seen.finished != finished:
                    progress, finished = seen.progress, seen.finished
                    # Read after the events were taken: a slow listener is not a silent model.
                    last_token = self._monotonic()
            for event in reader.end():
                call.first_token(event)
                yield event
            if seen.done:
                await _drain(chunks)
        finally:
            await _close(response)
        yield Finished(reader.completion())

    def _patience(self, seen: Assembler) -> float:
        if seen.finished:
            return self._timers.tail_s
        return self._timers.gap_s if seen.progress else self._timers.first_token_s

    async def _post(
        self, endpoint: Endpoint, question: Question, call: Call, due: float, deadline: float
    ) -> httpx.Response:
        """The response with status 200, its body unread. Anything else is raised."""
        content = question.encoded()
        headers = self._headers(endpoint) | {
            "Content-Type": b"application/json",
            "Content-Length": b"%d" % len(content),
        }
        response = await self._send(endpoint, "POST", "chat/completions", call, due, deadline, headers, content)
        call.status = response.status_code
        call.generation_id = classification.generation_id(response.headers)
        if response.status_code == 200:
            return response
        try:
            body = await self._body(response, call, due, deadline, most=_MOST_ERROR_BYTES)
        except CallFailed:
            # The status alone still says what it was.
            body = b""
        finally:
            await _close(response)
        raise classification.from_response(self._envelope(response, endpoint), body)

    async def _get(
        self,
        endpoint: Endpoint,
        path: str,
        params: Mapping[str, str],
        parse: Callable[[bytes, Envelope], T],
    ) -> T:
        call = Call(path, self._monotonic)
        due = call.started + self._policy.attempt_s
        headers = self._headers(endpoint, key_required=False)
        try:
            response = await self._send(endpoint, "GET", path, call, due, due + 1, headers, params=params)
            envelope = self._envelope(response, endpoint)
            try:
                body = await self._body(response, call, due, due + 1)
            finally:
                await _close(response)
            if response.status_code != 200:
                raise classification.from_response(envelope, body)
            return parse(body, envelope)
        except CallFailed as failure:
            row = retry.row_for(failure)
            failure.disposition = "retry" if row.retries and row.remedy == "wait" else row.then
            raise

    async def _send(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        call: Call,
        due: float,
        deadline: float,
        headers: Mapping[str, bytes],
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        connect_s = self._policy.connect_s
        # No read timeout: it would be per read, and every keep-alive would wind it up again. The timers are ours.
        timeout = httpx.Timeout(None, connect=connect_s, pool=connect_s)
        try:
            request = self._http.build_request(
                method,
                f"{endpoint.base_url.rstrip('/')}/{path}",
                headers=[(name.encode(), value) for name, value in headers.items()],
                content=content if content is None or len(content) <= _PIECE_BYTES else _in_pieces(content),
                params=params or None,
                timeout=timeout,
            )
        except (httpx.InvalidURL, ValueError) as exc:
            raise Misdirected(f"the address {endpoint.base_url!r} cannot be asked") from exc
        if due <= self._monotonic():
            raise _late(due, deadline)
        call.begun = True
        return await self._within(
            due, deadline, call, self._http.send(request, stream=True, auth=None, follow_redirects=False)
        )

    async def _body(
        self, response: httpx.Response, call: Call, due: float, deadline: float, *, most: int = MOST_BODY_BYTES
    ) -> bytes:
        async def read() -> bytes:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > most:
                    raise UnreadableAnswer(f"the answer is larger than {most} bytes", status=response.status_code)
            return bytes(body)

        return await self._within(due, deadline, call, read())

    async def _within(self, due: float, deadline: float, call: Call, work: Awaitable[T]) -> T:
        """The result of `work`, if it comes before `due`; network faults as CallFailed."""
        timer = asyncio.timeout(max(due - self._monotonic(), 0.0))
        try:
            async with timer:
                return await work
        except TimeoutError as exc:
            if timer.expired():
                raise _late(due, deadline, call.status) from None
            raise network.translated(exc, call.status) from exc
        except network.faults() as exc:
            raise network.translated(exc, call.status) from exc

    def _headers(self, endpoint: Endpoint, *, key_required: bool = True) -> dict[str, bytes]:
        headers: dict[str, bytes] = {}
        if endpoint.key:
            if not (endpoint.key.isascii() and endpoint.key.isprintable()):
                raise KeyRejected("the API key holds characters that no header can carry")
            headers["Authorization"] = f"Bearer {endpoint.key}".encode()
        elif endpoint.kind == "openrouter" and key_required:
            raise KeyRejected("no API key is set for this endpoint")
        if endpoint.kind == "openrouter":
            headers["HTTP-Referer"] = _header_value(self._app_url)
            headers["X-Title"] = _header_value(self._app_title)
        return headers

    def _envelope(self, response: httpx.Response, endpoint: Endpoint) -> Envelope:
        return Envelope(response.status_code, response.headers, self._now(), (endpoint.key,))


def _signed(finished: Finished, question: Question, call: Call) -> Finished:
    completion = replace(
        finished.completion,
        id=finished.completion.id or call.generation_id,
        first_token_ms=call.first_token_ms,
        dropped=question.dropped,
        parameters=question.parameters,
    )
    return Finished(completion, finished.failure)


def _late(due: float, deadline: float, status: int | None = None) -> CallFailed:
    if due >= deadline:
        return OutOfTime("the deadline of the request is reached", status=status)
    return TooSlow("no token came in time", status=status)


async def _in_pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), _PIECE_BYTES):
        yield content[start : start + _PIECE_BYTES]


def _header_value(text: str) -> bytes:
    return "".join(character for character in text if character.isprintable()).strip().encode()


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    try:
        async with asyncio.timeout(_DRAIN_S):
            async for _ in chunks:
                pass
    except network.faults():
        # The answer is already whole; TimeoutError is an OSError.
        return


async def _close(response: httpx.Response) -> None:
    try:
        await response.aclose()
    except network.faults():
        # A connection that breaks while it is closed is closed.
        return
