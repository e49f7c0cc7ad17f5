"""What the tests of the edge share: tokens, a few small doors, their log, and a real server for them."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

import httpx
import jwt
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp

from shared.edge import Answer, Call, Contract, Door, Reply, application
from shared.edge.door import Admission
from shared.identity import Identity
from shared.observability import open_log
from shared.settings import Settings

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
JWT_SECRET = "a-jwt-secret-for-tests-that-is-long-enough-even-for-its-longer-relatives"
SERVICE_KEY = "sb_secret_made_up_for_these_tests"
WEBHOOK_SECRET = "made-up-webhook-secret"
USER_ID = "11111111-2222-4333-8444-555555555555"

SETTINGS = Settings(
    supabase_jwt_secret=SecretStr(JWT_SECRET),
    supabase_secret_key=SecretStr(SERVICE_KEY),
    webhook_secret=SecretStr(WEBHOOK_SECRET),
)


class Line(Contract):
    """One turn of a conversation, as chat doors have it."""

    role: Literal["user", "assistant"]
    content: str


class Card(Contract):
    """One of the two shapes that `character` may have."""

    first_name: str
    age: int | None = None


class Talk(Contract):
    """A contract with something of everything."""

    messages: list[Line]
    max_tokens: int | None = None
    temperature: float | None = None
    character: str | Card | None = None
    metadata: dict[str, Any] | None = None


@dataclass
class Log:
    """What the log of one application says, line by line."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def line(self) -> dict[str, Any]:
        """The only line; a second one, or none, fails the test."""
        (line,) = self.lines
        return line


@dataclass
class FakeServices:
    """The edge's view of the services: real settings, real identity, a real clock for deadlines."""

    settings: Settings = SETTINGS
    monotonic: Callable[[], float] = time.monotonic

    @property
    def identity(self) -> Identity:
        return Identity(self.settings, no_network, lambda: NOW)


def no_network() -> httpx.AsyncClient:
    raise AssertionError("nothing here may use the network")


AnyDoor = Door[Any, Any]
Handle = Callable[[Call[Any, Any]], Awaitable[Answer]]


async def echo(call: Call[Any, Any]) -> Reply:
    """Say what arrived, so that a test can see it."""
    body = None if call.body is None else call.body.model_dump()
    return Reply(
        {
            "body": body,
            "path_params": call.path_params,
            "caller": call.caller.kind,
            "user_id": call.caller.user_id,
            "idempotency_key": call.idempotency_key,
        }
    )


def door(
    name: str = "talk",
    handle: Handle = echo,
    *,
    methods: tuple[str, ...] = ("POST",),
    caller: Admission = "anyone",
    contract: Any = None,
    **rest: Any,
) -> AnyDoor:
    """A door with everything but its point filled in."""
    return Door(
        name=name, methods=methods, caller=caller, contract=contract, handle=handle, summary=f"The door {name}.", **rest
    )


def token(secret: str = JWT_SECRET, *, algorithm: str = "HS256", **claims: Any) -> str:
    """A token of a signed-in user that expires in an hour; a claim given as None is left out."""
    all_claims = {
        "sub": USER_ID,
        "role": "authenticated",
        "exp": int(NOW.timestamp()) + 3600,
        **claims,
    }
    return jwt.encode(
        {name: value for name, value in all_claims.items() if value is not None}, secret, algorithm=algorithm
    )


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


@pytest.fixture(name="log")
def _log() -> Log:
    return Log()


Application = Callable[..., ASGIApp]


@pytest.fixture(name="app")
def _app(log: Log) -> Application:
    """Builds an application of doors that writes to `log`."""

    def build(*doors: AnyDoor, services: Any = None, **rest: Any) -> ASGIApp:
        logger = open_log("INFO", stream=log.stream, service=f"test-{uuid4()}", secrets=SETTINGS.secret_texts())
        return application(doors, services or FakeServices(), log=logger, **rest)

    return build


Ask = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture(name="ask")
def _ask(app: Application) -> Iterator[Ask]:
    """Sends one request to an application of the given doors, without a socket."""

    async def ask(
        doors: AnyDoor | Sequence[AnyDoor], method: str, path: str, *, services: Any = None, **rest: Any
    ) -> httpx.Response:
        several = [doors] if isinstance(doors, Door) else doors
        transport = httpx.ASGITransport(app(*several, services=services))
        async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
            return await client.request(method, path, **rest)

    yield ask


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[tuple[str, int]]:
    """A real server on a real socket; yields host and port."""
    listener = socket.create_server(("127.0.0.1", 0))
    # Listening already, so nobody has to wait for the server to say that it started.
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="off", timeout_keep_alive=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        await task
        listener.close()


@asynccontextmanager
async def connected(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client that speaks to a real server."""
    async with serving(app) as (host, port), httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        yield client


def refusal(response: httpx.Response) -> Mapping[str, Any]:
    """The error of a response, after checking that its shape is exactly the contract's."""
    assert response.headers["content-type"] == "application/json"
    assert response.headers["access-control-allow-origin"] == "*"
    body = response.json()
    assert list(body) == ["error"]
    error = body["error"]
    assert list(error) == [
        "code",
        "message",
        "request_id",
        "retryable",
        "retry_after_s",
        "fallback",
        "details",
        "attempts",
    ]
    assert error["request_id"] == response.headers["x-request-id"]
    assert all(list(detail) == ["field", "message"] for detail in error["details"])
    assert isinstance(error["message"], str) and error["message"]
    return error  # type: ignore[no-any-return]  # JSON, checked above
