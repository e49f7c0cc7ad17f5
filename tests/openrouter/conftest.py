"""What the tests of the OpenRouter module share: a scripted far end, a client, and a clock that nobody waits for."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from httpx_aiohttp import AiohttpTransport

from shared.openrouter import Attempt, ChatRequest, Endpoint, OpenRouter
from tests.openrouter import upstream as far_end

QUESTION = ChatRequest(model="maker/model", messages=[{"role": "user", "content": "Hello"}])


class Sleeper:
    """Waits are written down instead of slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
async def upstream() -> AsyncIterator[far_end.Upstream]:
    async with far_end.running() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """Two connections and no more, so that a leaked one is felt at once; no TLS, whose set-up costs 30 ms a test."""
    transport = AiohttpTransport(verify=False, limits=httpx.Limits(max_connections=2))
    async with httpx.AsyncClient(transport=transport) as client:
        yield client


@pytest.fixture
def sleeper() -> Sleeper:
    return Sleeper()


@pytest.fixture
def endpoint(upstream: far_end.Upstream) -> Endpoint:
    return Endpoint(upstream.url, "sk-or-v1-secretsecret")


@pytest.fixture
def client(http: httpx.AsyncClient, sleeper: Sleeper) -> OpenRouter:
    """No waiting, and the upper half of every jitter."""
    return OpenRouter(http, sleep=sleeper, random=lambda: 0.5)


@pytest.fixture
def attempts() -> list[Attempt]:
    return []


@pytest.fixture
def deadline() -> float:
    return time.monotonic() + 20


@pytest.fixture
def make(http: httpx.AsyncClient, sleeper: Sleeper) -> Callable[..., OpenRouter]:
    """A client with other settings."""

    def made(**settings: Any) -> OpenRouter:
        return OpenRouter(http, **{"sleep": sleeper, "random": lambda: 0.5, **settings})

    return made
