"""Streams over real sockets: every event at once, kept alive, one ending, cancelled when nobody listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from shared.edge import Call, Event, EventStream, KeepAlive
from shared.errors import RateLimited
from tests.edge.conftest import Application, Log, connected, door, refusal, serving

Events = AsyncIterator[Event | KeepAlive]
START = Event("start", {"model": "a/b"})
HELLO = Event("delta", {"text": "hello\nworld"})
DONE = Event("done", {"outcome": "complete"})


def streaming(events: Callable[[Call[Any, Any]], Events]) -> Any:
    """A door that answers with these events."""

    async def handle(call: Call[Any, Any]) -> EventStream:
        return EventStream(events(call))

    return door(handle=handle)


def parsed(text: str) -> list[tuple[str, Any]]:
    """Events and comments as an SSE client reads them."""
    found: list[tuple[str, Any]] = []
    for block in text.split("\n\n")[:-1]:
        if block.startswith(":"):
            found.append(("comment", block[1:].strip()))
            continue
        first, second = block.split("\n")
        found.append((first.removeprefix("event: "), json.loads(second.removeprefix("data: "))))
    return found


async def fetched(application: Any) -> httpx.Response:
    async with serving(application) as (host, port), httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        return await client.post("/talk")


async def test_events_are_sent_as_server_sent_events(app: Application, log: Log) -> None:
    """Name, data and headers are as the contract says, and the log has one line, at the end."""

    async def events(call: Call[Any, Any]) -> Events:
        yield START
        yield HELLO
        call.log["outcome"] = "complete"
        yield DONE

    response = await fetched(app(streaming(events)))

    assert response.text == (
        'event: start\ndata: {"model":"a/b"}\n\n'
        'event: delta\ndata: {"text":"hello\\nworld"}\n\n'
        'event: done\ndata: {"outcome":"complete"}\n\n'
    )
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["access-control-allow-origin"] == "*"
    assert response.headers["x-request-id"] == log.line["request_id"]
    assert (log.line["status"], log.line["code"], log.line["outcome"]) == (200, None, "complete")


async def test_every_event_is_flushed(app: Application) -> None:
    """The client has read an event before the next one exists."""
    was_read = asyncio.Event()

    async def events(call: Call[Any, Any]) -> Events:
        yield START
        await was_read.wait()
        yield DONE

    async with connected(app(streaming(events))) as client, client.stream("POST", "/talk") as response:
        pieces = response.aiter_text()
        assert parsed(await anext(pieces)) == [("start", {"model": "a/b"})]
        was_read.set()
        assert parsed(await anext(pieces)) == [("done", {"outcome": "complete"})]


async def test_silence_is_filled_with_comments(app: Application) -> None:
    """While the door has nothing to say, the connection is kept alive."""
    heard = asyncio.Event()

    async def events(call: Call[Any, Any]) -> Events:
        yield START
        await heard.wait()
        yield DONE

    text = ""
    application = app(streaming(events), keep_alive_s=0.02)
    async with connected(application) as client, client.stream("POST", "/talk") as response:
        async for piece in response.aiter_text():
            text += piece
            if text.count(": keep-alive\n\n") >= 2:
                heard.set()

    found = parsed(text)
    assert found[0][0] == "start"
    assert found[1:3] == [("comment", "keep-alive")] * 2
    assert [name for name, _ in found].count("done") == 1
    assert found[-1][0] == "done"


async def test_a_failure_before_the_first_event_is_a_plain_answer(app: Application, log: Log) -> None:
    """Nothing was sent yet, so the failure has its own status and is JSON."""

    async def events(call: Call[Any, Any]) -> Events:
        raise RateLimited(retry_after_s=3)
        yield START

    response = await fetched(app(streaming(events)))

    assert (response.status_code, refusal(response)["code"]) == (429, "RATE_LIMITED")
    assert (log.line["status"], log.line["code"]) == (429, "RATE_LIMITED")


async def test_a_stream_of_nothing_is_an_internal_error(app: Application, log: Log) -> None:
    """A door that promised events and has none is our mistake."""

    async def events(call: Call[Any, Any]) -> Events:
        return
        yield START

    response = await fetched(app(streaming(events)))

    assert (response.status_code, refusal(response)["code"]) == (500, "INTERNAL")
    assert log.line["level"] == "ERROR"


async def test_a_failure_after_the_first_event_is_the_last_event(app: Application, log: Log) -> None:
    """The stream ends with the error of the contract, and the log knows its code."""

    async def events(call: Call[Any, Any]) -> Events:
        yield START
        raise RateLimited(retry_after_s=3, attempts=[{"model": "a/b"}])

    response = await fetched(app(streaming(events)))

    (_, (name, data)) = parsed(response.text)
    assert name == "error"
    assert data["error"]["code"] == "RATE_LIMITED"
    assert data["error"]["attempts"] == [{"model": "a/b"}]
    assert data["error"]["request_id"] == response.headers["x-request-id"]
    assert (log.line["status"], log.line["code"]) == (200, "RATE_LIMITED")
    assert "traceback" not in log.line


async def test_an_unexpected_error_is_the_last_event_and_in_the_log(app: Application, log: Log) -> None:
    """The caller reads INTERNAL, the log has the traceback."""

    async def events(call: Call[Any, Any]) -> Events:
        yield START
        raise KeyError("something inside")

    response = await fetched(app(streaming(events)))

    assert [name for name, _ in parsed(response.text)] == ["start", "error"]
    assert "something inside" not in response.text
    assert (log.line["code"], log.line["level"]) == ("INTERNAL", "ERROR")
    assert "something inside" in log.line["traceback"]


async def test_an_event_that_cannot_be_written_ends_the_stream(app: Application) -> None:
    """Data that is no JSON is an error of ours, told as the last event."""

    async def events(call: Call[Any, Any]) -> Events:
        yield START
        yield Event("done", {"object": object()})

    response = await fetched(app(streaming(events)))

    assert [name for name, _ in parsed(response.text)] == ["start", "error"]


async def test_a_missing_ending_is_supplied(app: Application, log: Log) -> None:
    """No stream just stops: without a terminal event it ends in an error."""

    async def events(call: Call[Any, Any]) -> Events:
        yield START
        yield HELLO

    response = await fetched(app(streaming(events)))

    assert [name for name, _ in parsed(response.text)] == ["start", "delta", "error"]
    assert log.line["code"] == "INTERNAL"


@pytest.mark.parametrize("ending", [DONE, Event("error", {"error": {"code": "TIMEOUT"}})], ids=["done", "error"])
async def test_nothing_follows_the_ending(ending: Event, app: Application, log: Log) -> None:
    """What a door says after its terminal event is dropped; its clean-up still runs."""
    cleaned = asyncio.Event()

    async def events(call: Call[Any, Any]) -> Events:
        try:
            yield START
            yield ending
            yield HELLO
            yield DONE
        finally:
            cleaned.set()

    response = await fetched(app(streaming(events)))

    assert [name for name, _ in parsed(response.text)] == ["start", ending.name]
    assert cleaned.is_set()
    assert log.line["code"] == (None if ending is DONE else "TIMEOUT")


async def test_a_failing_clean_up_is_only_written_down(app: Application, log: Log) -> None:
    """The client has its whole answer; the mistake is in the log."""

    async def events(call: Call[Any, Any]) -> Events:
        try:
            yield DONE
        finally:
            raise ValueError("clean-up")

    response = await fetched(app(streaming(events)))

    assert [name for name, _ in parsed(response.text)] == ["done"]
    assert "clean-up" in log.line["traceback"]


async def test_a_door_may_speak_another_dialect(app: Application) -> None:
    """An OpenAI-shaped door writes its own data lines; endings and errors go through the same words."""

    def encode(event: Event) -> bytes:
        return f"data: {json.dumps(dict(event.data))}\n\n".encode() + (
            b"data: [DONE]\n\n" if event.is_terminal else b""
        )

    async def events() -> Events:
        yield HELLO
        yield DONE

    async def handle(call: Call[Any, Any]) -> EventStream:
        return EventStream(events(), encode=encode)

    response = await fetched(app(door(handle=handle)))

    assert response.text.endswith('data: {"outcome": "complete"}\n\ndata: [DONE]\n\n')


async def leave_after(words: bytes, application: Any) -> None:
    """Read a stream until these words, then close the connection and wait until the server is done."""
    async with serving(application) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /talk HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        if words:
            await reader.readuntil(words)
        writer.close()


@pytest.mark.parametrize("how", ["awaiting", "yielding"])
async def test_a_client_that_leaves_cancels_the_work(how: str, app: Application, log: Log) -> None:
    """Whatever the door is doing then, its iterator is closed at once and its clean-up awaited."""
    ended: list[str] = []

    async def events(call: Call[Any, Any]) -> Events:
        try:
            yield START
            if how == "awaiting":
                await asyncio.Event().wait()
            while True:
                yield HELLO
                await asyncio.sleep(0)
        finally:
            # Clean-up may itself wait for something, such as the record of what was used.
            await asyncio.sleep(0)
            ended.append("recorded" if call.disconnected.is_set() else "recorded without knowing")
            call.log["outcome"] = "cancelled"

    await leave_after(b"event: start", app(streaming(events)))

    assert ended == ["recorded"]
    assert (log.line["status"], log.line["outcome"]) == (499, "cancelled")


async def test_a_client_that_leaves_before_the_first_event_cancels_the_work(app: Application, log: Log) -> None:
    """A model that has not begun to answer is not paid to."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def events(call: Call[Any, Any]) -> Events:
        try:
            began.set()
            await asyncio.Event().wait()
            yield START
        finally:
            ended.set()

    async with serving(app(streaming(events))) as (host, port):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /talk HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await began.wait()
        writer.close()
        await ended.wait()

    assert log.line["status"] == 499


async def test_a_door_that_swallows_its_cancellation_still_ends(app: Application, log: Log) -> None:
    """Events that come after the client left are dropped."""

    async def events(call: Call[Any, Any]) -> Events:
        yield START
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield DONE

    await leave_after(b"event: start", app(streaming(events)))

    assert log.line["status"] == 499


async def test_a_slow_reader_slows_the_door_and_its_leaving_frees_it(app: Application, log: Log) -> None:
    """Events are not piled up for a client that does not read; when it goes, the door is closed at its `yield`."""
    sent: list[int] = []
    ended = asyncio.Event()

    async def events(call: Call[Any, Any]) -> Events:
        try:
            while True:
                sent.append(1)
                yield Event("delta", {"text": "x" * 100_000})
        finally:
            ended.set()

    await leave_after(b"event: delta", app(streaming(events)))

    assert ended.is_set()
    assert len(sent) < 200
    assert log.line["status"] == 499
