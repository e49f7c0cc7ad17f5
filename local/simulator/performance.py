"""Plays a script on the caller's socket, and notices when the caller hangs up."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from local.simulator.server import TRANSPORT
from local.simulator.wire import Cut, Data, Head, Script, Step, Wait

# SO_LINGER on with zero seconds: closing sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Outcome:
    """How a performance went."""

    tokens_sent: int = 0
    disconnected: bool = False
    status: int | None = None


class _HungUp(Exception):
    """The caller closed the connection."""


class Performance(Response):
    """A response that does what its script says and then tells `on_end` how it went."""

    def __init__(self, script: Script, on_end: Callable[[Outcome], None]) -> None:
        super().__init__()
        self._script = script
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outcome = Outcome()
        caller = _Caller(scope, receive, send, outcome)
        watching = asyncio.create_task(caller.watch())
        try:
            for step in self._script.steps:
                await caller.play(step)
            await caller.end()
        except _HungUp:
            outcome.disconnected = not caller.cut
        except asyncio.CancelledError:
            outcome.disconnected = True
            raise
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            self._on_end(outcome)


class _Caller:
    def __init__(self, scope: Scope, receive: Receive, send: Send, outcome: Outcome) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._outcome = outcome
        self._gone = asyncio.Event()
        self.cut = False

    async def watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()

    async def play(self, step: Step) -> None:
        if self._gone.is_set():
            raise _HungUp
        match step:
            case Head(status, headers):
                self._outcome.status = status
                raw = [(name.encode(), value.encode()) for name, value in headers]
                await self._send({"type": "http.response.start", "status": status, "headers": raw})
            case Data(payload, tokens):
                await self._write(payload)
                self._outcome.tokens_sent += tokens
            case Wait():
                await self._wait(step)
            case Cut(reset):
                await self._hang_up(reset)

    async def end(self) -> None:
        if self._outcome.status is None:
            raise RuntimeError("A script must send a head or cut the connection.")
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _write(self, payload: bytes) -> None:
        await self._send({"type": "http.response.body", "body": payload, "more_body": True})
        # Lets the event loop notice a caller who left while we talk without a pause.
        await asyncio.sleep(0)

    async def _wait(self, wait: Wait) -> None:
        clock = asyncio.get_running_loop().time
        until = float("inf") if wait.ms < 0 else clock() + wait.ms / 1000
        while (left := until - clock()) > 0:
            nap = min(left, wait.every_ms / 1000) if wait.fill and wait.every_ms else left
            try:
                await asyncio.wait_for(self._gone.wait(), None if nap == float("inf") else nap)
            except TimeoutError:
                if wait.fill and wait.every_ms and clock() < until:
                    await self._write(wait.fill)
            else:
                raise _HungUp

    async def _hang_up(self, reset: bool) -> None:
        extension = self._scope.get("extensions", {}).get(TRANSPORT)
        if extension is None:
            raise RuntimeError("Faults below HTTP need the server of local.simulator.server.")
        transport: asyncio.Transport = extension["transport"]
        self.cut = True
        if reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            transport.abort()
        else:
            transport.close()
        await self._gone.wait()
        raise _HungUp
