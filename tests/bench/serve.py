"""One server of the benchmark, in a process of its own: the doors, a bare passthrough, or the simulated OpenRouter."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from shared.services import Services
from shared.settings import Settings

# This word in a streamed answer is replaced, as it leaves the simulator, by the time: `t<nanoseconds>z`.
MOMENT = "moment"
FORGET_AFTER = 64


def doors() -> ASGIApp:
    """Every door, as it runs on a server."""
    from functions import all_doors
    from shared.edge import application

    services = Services(Settings.from_environment())
    return application(all_doors(), services, lifespan=_closing(services))


def passthrough() -> ASGIApp:
    """The least that can stand between a caller and OpenRouter: the same framework, the same client, nothing else."""
    settings = Settings.from_environment()
    services = Services(settings)
    http = services.http
    key = settings.openrouter_api_key
    url = f"{settings.openrouter_base_url}/chat/completions"
    headers = {
        "authorization": f"Bearer {'' if key is None else key.get_secret_value()}",
        "content-type": "application/json",
    }

    async def ask(body: bytes) -> httpx.Response:
        request = http.build_request("POST", url, headers=headers, content=body)
        return await http.send(request, stream=True)

    async def whole(request: Request) -> Response:
        response = await ask(await request.body())
        try:
            body = await response.aread()
        finally:
            await response.aclose()
        return Response(body, response.status_code, media_type="application/json")

    async def streamed(request: Request) -> Response:
        response = await ask(await request.body())

        async def pieces() -> AsyncIterator[bytes]:
            try:
                async for piece in response.aiter_raw():
                    yield piece
            finally:
                await response.aclose()

        return StreamingResponse(pieces(), response.status_code, media_type="text/event-stream")

    return Starlette(
        routes=[Route("/whole", whole, methods=["POST"]), Route("/streamed", streamed, methods=["POST"])],
        lifespan=_closing(services),
    )


def simulator() -> ASGIApp:
    """The simulated OpenRouter without any latency, which can tell when it said a word."""
    from local.simulator import create_app
    from local.simulator.app import BASE

    app = create_app()
    ledger = app.state.simulator.ledger
    word = MOMENT.encode()

    async def stamping(scope: Scope, receive: Receive, send: Send) -> None:
        # It adds up its whole bill for every request; forgetting keeps its own cost out of the figures.
        if len(ledger.entries) >= FORGET_AFTER:
            ledger.clear()

        async def stamped(message: Message) -> None:
            body = message.get("body", b"")
            if word in body:
                message = {**message, "body": body.replace(word, b"t%dz" % time.monotonic_ns())}
            await send(message)

        await app(scope, receive, stamped if scope.get("path", "").startswith(BASE) else send)

    return stamping


def _closing(services: Services) -> Lifespan[Starlette]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await services.close()

    return lifespan


APPLICATIONS = {"doors": doors, "passthrough": passthrough, "simulator": simulator}


def main(name: str, descriptor: int) -> None:
    """Serve on an inherited socket until the parent closes our standard input, however it ends."""
    config = uvicorn.Config(
        APPLICATIONS[name](),
        loop="uvloop",
        http="httptools",
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)

    def stop_with_the_parent() -> None:
        os.read(0, 1)
        server.should_exit = True

    threading.Thread(target=stop_with_the_parent, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
