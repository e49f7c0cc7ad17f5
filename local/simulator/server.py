"""Serves any ASGI application on a real socket inside the running event loop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Under this name an application finds its own socket in `scope["extensions"]`.
TRANSPORT = "local.transport"

GRACE_S = 2.0


class _Protocol(HttpToolsProtocol):
    """HTTP as usual, but the application may reach its socket. Faults below HTTP need that."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: {"transport": self.transport}}


@contextlib.asynccontextmanager
async def running(app: Any, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Serve `app` until the block ends and give its base URL; port 0 takes any free one.

    At the end open answers are cut off, so an application that listens for `http.disconnect` ends at once;
    others get two seconds before they are cancelled. Raises RuntimeError when the application refuses to start.
    """
    listener = listen(host, port)
    bound_port = listener.getsockname()[1]
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", http=_Protocol, server_header=False)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    try:
        await server.startup(sockets=[listener])
    except SystemExit as exc:
        listener.close()
        raise RuntimeError("The application did not start; its log says why.") from exc
    # Only keeps the Date header fresh: `serve` would also take over the signal handlers.
    ticking = asyncio.create_task(server.main_loop())
    try:
        yield f"http://{host}:{bound_port}"
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        await _stop(server)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket for an asyncio server. Raises OSError when the address cannot be had."""
    # The protocol is named because asyncio switches Nagle's delay off only where it reads TCP; without, each small
    # answer takes 40 ms.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener


async def _stop(server: uvicorn.Server) -> None:
    state = server.server_state
    for listening in server.servers:
        listening.close()
    for connection in list(state.connections):
        connection.shutdown()
        if not connection.transport.is_closing():
            connection.transport.abort()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            while state.connections or state.tasks:  # noqa: ASYNC110 - uvicorn has no event for it
                await asyncio.sleep(0.001)
    stragglers = list(state.tasks)
    for task in stragglers:
        task.cancel()
    await asyncio.gather(*stragglers, return_exceptions=True)
    await server.lifespan.shutdown()
