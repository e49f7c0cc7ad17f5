"""A far end that says byte for byte what a test tells it, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Step = bytes | asyncio.Event


@dataclass(frozen=True)
class Reply:
    """Status, headers, and the steps of the body: bytes are sent, an event is waited for.

    `ends` False leaves the chunked body open until the caller hangs up; `drops` closes the socket without ending it.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    ends: bool = True
    drops: bool = False
    headless: bool = False


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int
    # Set when the caller closes the connection before the reply has ended.
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Upstream:
    """Give it replies with `will`, then read what was `asked`. Without a reply left it answers 418."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.arrived = asyncio.Event()
        self.url = ""
        self._replies: list[Reply] = []
        self._connections = 0

    def will(self, *replies: Reply) -> None:
        self._replies.extend(replies)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        try:
            while asked := await self._read(reader, number):
                self.asked.append(asked)
                self.arrived.set()
                reply = self._replies.pop(0) if self._replies else Reply(418)
                if not await self._answer(reply, asked, reader, writer):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, connection: int) -> Asked | None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("utf-8").split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Asked(method, path, headers, body, connection)

    async def _answer(
        self, reply: Reply, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection may be used again."""
        hung_up = asyncio.create_task(self._watch(reader, asked))
        try:
            if not reply.headless:
                headers = {"content-type": "text/event-stream", "transfer-encoding": "chunked", **reply.headers}
                head = f"HTTP/1.1 {reply.status} Said\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items())
                writer.write(f"{head}\r\n".encode())
            for step in reply.steps:
                if isinstance(step, bytes):
                    if step:
                        writer.write(b"%x\r\n%s\r\n" % (len(step), step))
                        await writer.drain()
                    continue
                waiting = asyncio.create_task(step.wait())
                await asyncio.wait({waiting, hung_up}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if hung_up.done():
                    return False
            if reply.drops:
                return False
            if not reply.ends:
                await hung_up
                return False
            writer.write(b"0\r\n\r\n")
            await writer.drain()
            return True
        finally:
            hung_up.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await hung_up

    async def _watch(self, reader: asyncio.StreamReader, asked: Asked) -> None:
        # Nothing is pipelined, so the next thing to happen on this side is that the caller leaves.
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                if reader._buffer:  # type: ignore[attr-defined]
                    return
                await reader._wait_for_data("watch")  # type: ignore[attr-defined]
        asked.hung_up.set()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Upstream]:
    """An upstream on a free port of this machine."""
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/api/v1"
    try:
        yield upstream
    finally:
        server.close()


def chunk(content: str | None = None, *, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """One chunk of a stream as OpenRouter sends it."""
    delta = {"role": "assistant", "content": "" if content is None else content, **more.pop("delta", {})}
    choice = {
        "index": 0,
        "delta": delta,
        "finish_reason": finish,
        "native_finish_reason": finish,
        **more.pop("choice", {}),
    }
    return {
        "id": "gen-1",
        "provider": "OpenAI",
        "model": "maker/model-20260101",
        "object": "chat.completion.chunk",
        "choices": [choice],
        **more,
    }


USAGE = {
    "prompt_tokens": 10,
    "completion_tokens": 5,
    "total_tokens": 15,
    "cost": 0.00012,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


def event(value: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()) + b"\n\n"


COMMENT = b": OPENROUTER PROCESSING\n\n"
DONE = event(b"[DONE]")


def told(*texts: str) -> bytes:
    """A whole good stream: the texts, the finish, the usage, [DONE]."""
    said = [event(chunk(text)) for text in texts]
    return b"".join([*said, event(chunk(finish="stop")), event(chunk(finish="stop", usage=USAGE)), DONE])


def answered(content: Any = "Hello there.", **message: Any) -> dict[str, Any]:
    """A whole good non-stream answer."""
    return {
        "id": "gen-1",
        "provider": "OpenAI",
        "model": "maker/model-20260101",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "native_finish_reason": "completed",
                "message": {"role": "assistant", "content": content, "refusal": None, **message},
            }
        ],
        "usage": USAGE,
    }


def whole(value: Any, status: int = 200, **headers: str) -> Reply:
    """A non-stream reply; good ones begin with the padding that OpenRouter sends while it waits."""
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    padding = b"\n         \n" * 2 if status == 200 else b""
    names = {name.replace("_", "-"): text for name, text in headers.items()}
    return Reply(status, {"content-type": "application/json", "x-generation-id": "gen-1", **names}, (padding + body,))


def refused(status: int, message: str = "No.", **error: Any) -> Reply:
    """A refusal in OpenRouter's shape."""
    return whole({"error": {"code": status, "message": message, **error}, "user_id": "user_2abcDEFghi"}, status)


def streamed(*steps: Step, **how: Any) -> Reply:
    """A stream with status 200."""
    return Reply(200, {"x-generation-id": "gen-1"}, steps, **how)
