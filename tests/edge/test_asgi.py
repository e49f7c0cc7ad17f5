"""The finer points of the protocol, seen from the server's side: each message in its order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.types import ASGIApp, Message

from shared.edge import Call, Event, EventStream, Reply
from tests.edge.conftest import Application, Log, door


class Server:
    """Plays an ASGI server: hands over these messages, then waits for `gone`; notes everything in order."""

    def __init__(self, *messages: Message, breaks: bool = False) -> None:
        self.happened: list[str] = []
        self.gone = asyncio.Event()
        self._messages = list(messages)
        self._breaks = breaks

    async def receive(self) -> Message:
        if self._messages:
            self.happened.append("received")
            return self._messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._breaks:
            raise OSError("the connection is broken")
        self.happened.append("sent")

    async def run(self, app: ASGIApp, path: str = "/talk", kind: str = "http") -> None:
        scope = {"type": kind, "method": "POST", "path": path, "query_string": b"", "headers": []}
        await app(scope, self.receive, self.send)


def chunk(*, more: bool) -> Message:
    return {"type": "http.request", "body": b"x", "more_body": more}


@pytest.mark.parametrize(
    ("path", "caller"), [("/nothing", "anyone"), ("/talk", "user")], ids=["unknown path", "refused caller"]
)
async def test_a_client_is_heard_out_before_it_is_refused(path: str, caller: Any, app: Application) -> None:
    """The refusal is sent after the last piece of the body: a client that still sends would not read it."""
    server = Server(chunk(more=True), chunk(more=True), chunk(more=False))

    await server.run(app(door(caller=caller)), path)

    assert server.happened == ["received"] * 3 + ["sent"] * 2


@pytest.mark.parametrize("streamed", [False, True], ids=["reply", "stream"])
async def test_a_connection_that_breaks_while_sending_is_a_client_that_left(
    streamed: bool, app: Application, log: Log
) -> None:
    """Servers may say so with an OSError; that is no error of ours."""

    async def events() -> AsyncIterator[Event]:
        yield Event("start", {})
        yield Event("done", {})

    async def handle(call: Call[Any, Any]) -> Reply | EventStream:
        return EventStream(events()) if streamed else Reply({})

    await Server(chunk(more=False), breaks=True).run(app(door(handle=handle)))

    assert (log.line["status"], log.line["code"], log.line["level"]) == (499, None, "INFO")


async def test_a_stream_that_was_left_leaves_no_cancellation_behind(app: Application, log: Log) -> None:
    """The server's task, which may serve the next request, is not marked as cancelled."""
    server = Server(chunk(more=False))

    async def events() -> AsyncIterator[Event]:
        yield Event("start", {})
        server.gone.set()
        await asyncio.Event().wait()

    async def handle(call: Call[Any, Any]) -> EventStream:
        return EventStream(events())

    await server.run(app(door(handle=handle)))

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert log.line["status"] == 499


async def test_a_cancelled_stream_is_closed_and_passes_the_cancellation_on(app: Application, log: Log) -> None:
    """A server that shuts down cancels the work of a stream too, and hears of it."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def events() -> AsyncIterator[Event]:
        try:
            yield Event("start", {})
            began.set()
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def handle(call: Call[Any, Any]) -> EventStream:
        return EventStream(events())

    task = asyncio.create_task(Server(chunk(more=False)).run(app(door(handle=handle))))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended.is_set()
    assert len(log.lines) == 1


async def test_a_websocket_is_closed(app: Application) -> None:
    """Nothing here speaks WebSocket; whoever tries is told so properly."""
    server = Server({"type": "websocket.connect"})

    await server.run(app(door()), kind="websocket")

    assert server.happened == ["received", "sent"]
