"""The load generator: HTTP/1.1 on kept connections, with as little of its own cost as Python allows."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, cast
from urllib.parse import urlsplit

import httptools

_STAMP = re.compile(rb"t(\d+)z")


class Failed(Exception):
    """A server under load answered something else than 200, or hung up: its figures would mean nothing."""


@dataclass(slots=True)
class Answer:
    """One answer. Times are of the monotonic clock, which all processes of a machine share, in nanoseconds."""

    asked_ns: int
    status: int = 0
    ended_ns: int = 0
    pieces: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    @property
    def duration_ms(self) -> float:
        return (self.ended_ns - self.asked_ns) / 1e6

    @property
    def first_word_ms(self) -> float:
        """Until the first stamped word was here."""
        return next((at - self.asked_ns) / 1e6 for at, piece in self.pieces if _STAMP.search(piece))

    def delays_ms(self) -> list[float]:
        """How long each stamped word was under way."""
        return [(at - int(stamp)) / 1e6 for at, piece in self.pieces for stamp in _STAMP.findall(piece)]


def post(url: str, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> bytes:
    """A whole POST request, ready to be sent any number of times."""
    content = json.dumps(body).encode()
    fields = {
        "host": urlsplit(url).netloc,
        "content-type": "application/json",
        "content-length": str(len(content)),
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content


class Connection(asyncio.Protocol):
    """One kept connection; one question at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._whole: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)

    @classmethod
    async def open(cls, url: str) -> Self:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        _, connection = await asyncio.get_running_loop().create_connection(cls, parts.hostname, parts.port)
        return connection

    async def ask(self, request: bytes) -> Answer:
        """Send a request and collect its answer. Raises Failed unless the status is 200."""
        assert self._transport is not None
        self._whole = asyncio.get_running_loop().create_future()
        self._answer = Answer(time.monotonic_ns())
        self._transport.write(request)
        answer = await self._whole
        if answer.status != 200:
            raise Failed(f"status {answer.status}: {answer.body[:300].decode(errors='replace')}")
        return answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not say that they are asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._whole is not None and not self._whole.done():
            self._whole.set_exception(Failed("the server hung up"))

    def on_body(self, body: bytes) -> None:
        assert self._answer is not None
        self._answer.pieces.append((time.monotonic_ns(), body))

    def on_message_complete(self) -> None:
        assert self._answer is not None
        assert self._whole is not None
        self._answer.ended_ns = time.monotonic_ns()
        self._answer.status = self._parser.get_status_code()
        # Each answer wants a fresh parser once it has said everything.
        self._parser = httptools.HttpResponseParser(self)
        if not self._whole.done():
            self._whole.set_result(self._answer)


@dataclass(frozen=True, slots=True)
class Run:
    """What a load did in its time."""

    durations_ms: list[float]
    seconds: float


async def keep_asking(url: str, requests: list[bytes], *, concurrency: int, seconds: float) -> Run:
    """Ask over so many connections, each as soon as it has its answer, in turn through the requests."""
    connections = [await Connection.open(url) for _ in range(concurrency)]
    durations: list[float] = []
    began = time.perf_counter()
    until = began + seconds

    async def one(connection: Connection, place: int) -> None:
        while time.perf_counter() < until:
            answer = await connection.ask(requests[place % len(requests)])
            durations.append(answer.duration_ms)
            place += concurrency

    try:
        await asyncio.gather(*(one(connection, place) for place, connection in enumerate(connections)))
        return Run(durations, time.perf_counter() - began)
    finally:
        for connection in connections:
            connection.close()
