"""One HTTP exchange: the headers that matter, the answer going out, and whether the client is still there."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from starlette.types import Message, Receive, Scope, Send

from shared.edge.encoding import encode_json, failure_body, retry_after_s
from shared.edge.status import status_of
from shared.errors import Detail, Failure, InvalidRequest, Unauthenticated

RawHeaders = list[tuple[bytes, bytes]]

ALLOWED_HEADERS: Final = b"authorization, x-client-info, apikey, content-type, x-region, idempotency-key, x-request-id"
EXPOSED_HEADERS: Final = b"x-request-id, retry-after"
PREFLIGHT_MAX_AGE_S: Final = b"7200"

_WANTED: Final = {
    b"authorization": "authorization",
    b"apikey": "apikey",
    b"x-request-id": "x_request_id",
    b"idempotency-key": "idempotency_key",
    b"x-webhook-secret": "x_webhook_secret",
    b"origin": "origin",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


class ClientLeft(Exception):
    """The client closed the connection before it was answered."""


class RequestHeaders:
    """The request headers that the edge reads, each by its first value; None when absent or empty."""

    __slots__ = tuple(_WANTED.values())

    authorization: str | None
    apikey: str | None
    x_request_id: str | None
    idempotency_key: str | None
    x_webhook_secret: str | None
    origin: str | None

    def __init__(self, raw: Iterable[tuple[bytes, bytes]]) -> None:
        for name in self.__slots__:
            setattr(self, name, None)
        for header, value in raw:
            wanted = _WANTED.get(header)
            if wanted is not None and value and getattr(self, wanted) is None:
                setattr(self, wanted, value.decode("latin-1"))

    def request_id(self) -> str:
        """The caller's request id when it is a plain name, else a new one."""
        given = self.x_request_id
        return given if given is not None and _REQUEST_ID.fullmatch(given) else str(uuid4())

    def checked_idempotency_key(self) -> str | None:
        """The caller's idempotency key. Raises InvalidRequest when it could not be compared reliably."""
        given = self.idempotency_key
        if given is not None and _IDEMPOTENCY_KEY.fullmatch(given) is None:
            raise InvalidRequest(
                details=[Detail("Idempotency-Key", "Must be 1 to 255 visible ASCII characters without spaces")]
            )
        return given


class Origins:
    """Which web pages may read our answers (CORS)."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._any = "*" in allowed
        self._allowed = frozenset(allowed)

    def headers(self, origin: str | None) -> RawHeaders:
        """The CORS headers of every answer. The answer depends on Origin only when not everyone is allowed."""
        if self._any:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", EXPOSED_HEADERS)]
        if origin is None or origin not in self._allowed:
            return [(b"vary", b"Origin")]
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", EXPOSED_HEADERS),
            (b"vary", b"Origin"),
        ]


class Exchange:
    """The answering half of one request. Every answer carries the request id and the CORS headers.

    `status` is None until an answer began. Every method raises ClientLeft when the connection is broken.
    """

    def __init__(self, scope: Scope, send: Send, request_id: str, cors: RawHeaders) -> None:
        self._send = send
        self._is_head = scope["method"] == "HEAD"
        self._request_id = request_id
        self._common: RawHeaders = [(b"x-request-id", request_id.encode("ascii")), *cors]
        self.status: int | None = None

    async def reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole JSON answer. `headers` win over ours, so a door may say how long it can be cached."""
        raw: dict[bytes, bytes] = {
            b"content-type": b"application/json",
            b"cache-control": b"no-store",
            b"x-content-type-options": b"nosniff",
        }
        for name, value in (headers or {}).items():
            raw[name.lower().encode("latin-1")] = _one_line(value)
        raw[b"content-length"] = b"%d" % len(body)
        await self._start(status, [*raw.items()])
        await self._put({"type": "http.response.body", "body": b"" if self._is_head else body})

    async def refuse(self, failure: Failure, headers: Mapping[str, str] | None = None) -> None:
        """Send a failure as the HTTP contract says."""
        extra = dict(headers or {})
        wait = retry_after_s(failure)
        if wait is not None:
            extra["retry-after"] = str(math.ceil(wait))
        if isinstance(failure, Unauthenticated):
            extra["www-authenticate"] = "Bearer"
        await self.reply(status_of(type(failure)), encode_json(failure_body(failure, self._request_id)), extra)

    async def preflight(self, methods: Iterable[str]) -> None:
        """Answer OPTIONS: what a web page may send here."""
        allowed = ", ".join(methods).encode()
        await self._start(
            204,
            [
                (b"allow", allowed),
                (b"access-control-allow-methods", allowed),
                (b"access-control-allow-headers", ALLOWED_HEADERS),
                (b"access-control-max-age", PREFLIGHT_MAX_AGE_S),
            ],
        )
        await self._put({"type": "http.response.body", "body": b""})

    async def open_stream(self) -> None:
        await self._start(
            200,
            [
                (b"content-type", b"text/event-stream; charset=utf-8"),
                (b"cache-control", b"no-cache, no-transform"),
                # nginx and its relatives would collect events otherwise.
                (b"x-accel-buffering", b"no"),
            ],
        )

    async def write(self, body: bytes, *, last: bool = False) -> None:
        await self._put({"type": "http.response.body", "body": body, "more_body": not last})

    async def _start(self, status: int, headers: RawHeaders) -> None:
        self.status = status
        await self._put({"type": "http.response.start", "status": status, "headers": [*headers, *self._common]})

    async def _put(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            # ASGI: `send` raises OSError once the client is gone.
            raise ClientLeft from None


def _one_line(value: str) -> bytes:
    if not value.isprintable():
        raise ValueError("A header value must be one printable line")
    return value.encode("latin-1")


class Presence:
    """Watches whether the client is still there, once its body was read."""

    def __init__(self, receive: Receive) -> None:
        self.left = asyncio.Event()
        self._receive = receive
        self._watch: asyncio.Task[None] | None = None
        self._bound: asyncio.Task[object] | None = None
        self._cancelled_bound = False

    def start(self) -> None:
        self._watch = asyncio.create_task(self._until_gone())

    async def stop(self) -> None:
        """Look away. Servers report a client as gone when its answer is complete, which is not leaving."""
        watch, self._watch = self._watch, None
        if watch is not None and not watch.done():
            watch.cancel()
            await asyncio.wait((watch,))

    def bind(self) -> _WhilePresent:
        """A block that is cancelled, quietly, when the client leaves during it. Ask `left` before."""
        return _WhilePresent(self)

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.left.set()
        if self._bound is not None:
            self._cancelled_bound = True
            self._bound.cancel()


class _WhilePresent:
    """The block of `Presence.bind`; tells its own cancellation from anyone else's as `asyncio.timeout` does."""

    def __init__(self, presence: Presence) -> None:
        self._presence = presence

    def __enter__(self) -> Self:
        self._presence._bound = asyncio.current_task()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> bool:
        presence = self._presence
        task, presence._bound = presence._bound, None
        if not presence._cancelled_bound or task is None:
            return False
        presence._cancelled_bound = False
        others = task.uncancel()
        return kind is asyncio.CancelledError and others == 0
