"""Relays a door's events to the client: kept alive, ended exactly once, cancelled when nobody listens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from shared.edge.door import EventStream
from shared.edge.encoding import KEEP_ALIVE, failure_body
from shared.edge.events import Event, KeepAlive
from shared.edge.exchange import ClientLeft, Exchange, Presence
from shared.errors import Failure, Internal
from shared.observability import RequestLine


async def relay(
    stream: EventStream, exchange: Exchange, presence: Presence, line: RequestLine, keep_alive_s: float
) -> None:
    """Send every event up to the first terminal one, or an error event when there is none.

    What is raised before the first event passes through, for a plain answer. The events run in the task of the
    request, so a door may hold timeouts and context over its `yield`s. The iterator is closed before this returns.
    """
    sender = _Sender(stream, exchange, keep_alive_s)
    try:
        if not presence.left.is_set():
            with presence.bind():
                await _relay_until_terminal(stream.events, sender, presence, line)
    finally:
        await sender.stop_keeping_alive()
        await _close(stream.events, line)


async def _relay_until_terminal(
    events: AsyncIterator[Event | KeepAlive], sender: _Sender, presence: Presence, line: RequestLine
) -> None:
    try:
        async for event in events:
            if presence.left.is_set():
                return
            if isinstance(event, Event) and event.is_terminal:
                await presence.stop()
                await sender.finish(event)
                line.code = _code_of(event)
                return
            await sender.send(event)
        raise Internal("The stream ended without a result")
    except ClientLeft:
        raise
    except Exception as error:
        if presence.left.is_set():
            line.error = error
            return
        if not sender.is_open:
            raise
        failure = error if isinstance(error, Failure) else Internal()
        if not isinstance(error, Failure) or isinstance(error, Internal):
            line.error = error
        line.code = failure.code
        line.message = failure.message
        await presence.stop()
        await sender.finish(Event("error", failure_body(failure, line.request_id)))


class _Sender:
    """The writing half of one stream; a task beside it fills silences with comments."""

    def __init__(self, stream: EventStream, exchange: Exchange, keep_alive_s: float) -> None:
        self.is_open = False
        self._encode = stream.encode
        self._exchange = exchange
        self._keep_alive_s = keep_alive_s
        self._last_sent = 0.0
        self._is_sending = False
        self._keeping_alive: asyncio.Task[None] | None = None

    async def send(self, event: Event | KeepAlive) -> None:
        body = KEEP_ALIVE if isinstance(event, KeepAlive) else self._encode(event)
        if not self.is_open:
            await self._exchange.open_stream()
            self.is_open = True
            self._keeping_alive = asyncio.create_task(self._keep_alive())
        await self._write(body)

    async def finish(self, event: Event) -> None:
        """Send the terminal event; nothing can follow it."""
        body = self._encode(event)
        await self.stop_keeping_alive()
        if not self.is_open:
            await self._exchange.open_stream()
            self.is_open = True
        await self._exchange.write(body, last=True)

    async def stop_keeping_alive(self) -> None:
        task, self._keeping_alive = self._keeping_alive, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))
            if not task.cancelled():
                # Only a broken connection ends it early, and the next write will tell.
                task.exception()

    async def _write(self, body: bytes) -> None:
        self._is_sending = True
        try:
            await self._exchange.write(body)
        finally:
            self._is_sending = False
            self._last_sent = time.monotonic()

    async def _keep_alive(self) -> None:
        while True:
            silence_ends = self._last_sent + self._keep_alive_s
            wait = silence_ends - time.monotonic()
            # A write that waits for a slow reader is not silence.
            if wait > 0 or self._is_sending:
                await asyncio.sleep(max(wait, self._keep_alive_s / 4))
            else:
                await self._write(KEEP_ALIVE)


async def _close(events: AsyncIterator[Event | KeepAlive], line: RequestLine) -> None:
    """Let the door clean up. The client has its answer, so what goes wrong now is only written down."""
    aclose = getattr(events, "aclose", None)
    if aclose is None:
        return
    try:
        await aclose()
    except Exception as error:  # noqa: BLE001 - nobody is behind the edge
        line.error = line.error or error


def _code_of(event: Event) -> str | None:
    """The code of an error event that the door itself sent."""
    if event.name != "error":
        return None
    data: Any = event.data
    error = data.get("error") if isinstance(data, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, str) else "INTERNAL"
