"""The whole house over real sockets: every door, a real database, the simulated OpenRouter. For tests of any folder."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from functions import all_doors
from local.simulator import create_app
from local.simulator.server import running
from local.tokens import token
from shared.edge import application
from shared.services import Services
from shared.settings import Settings

JWT_SECRET = "a-secret-of-at-least-thirty-two-bytes-for-tests"
ANN = str(uuid.UUID("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"))


@dataclass(frozen=True)
class Simulator:
    """The far end of the network: told what to do, asked what it saw."""

    url: str
    http: httpx.AsyncClient

    async def fault(self, model: str, fault: str, times: int | None = None, **options: Any) -> None:
        """Make this model (or `*`) fail in this way, for so many requests or for good."""
        body = {"model": model, "fault": fault, "times": times, "options": options}
        (await self.http.post("/_sim/faults", json=body)).raise_for_status()

    async def requests(self) -> list[dict[str, Any]]:
        """The chat requests that arrived, in order."""
        seen: list[dict[str, Any]] = (await self.http.get("/_sim/requests")).json()
        return seen

    async def bill(self) -> dict[str, Any]:
        """What it charged."""
        charged: dict[str, Any] = (await self.http.get("/_sim/bill")).json()
        return charged


@dataclass(frozen=True)
class House:
    """A running server and a client that is signed in as Ann."""

    http: httpx.AsyncClient
    services: Services
    simulator: Simulator
    database_url: str

    async def ledger(self, query: str) -> list[tuple[Any, ...]]:
        """Rows, as the owner of the database sees them."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()


def signed_in(*, sub: str = ANN, admin: bool = False) -> dict[str, str]:
    """The header of a signed-in user."""
    return {"authorization": f"Bearer {token(JWT_SECRET, sub=sub, admin=admin)}"}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with running(create_app(seed=1)) as url, httpx.AsyncClient(base_url=url) as http:
        yield Simulator(url, http)


@pytest.fixture
async def house(simulator: Simulator, database_url: str, tmp_path: Path) -> AsyncIterator[House]:
    environment = {
        "DATABASE_URL": database_url,
        "OPENROUTER_API_KEY": "sk-or-v1-test",
        "OPENROUTER_BASE_URL": f"{simulator.url}/api/v1",
        "SUPABASE_JWT_SECRET": JWT_SECRET,
        "WEBHOOK_SECRET": "a-webhook-secret",
        "SPOOL_PATH": str(tmp_path / "spool.jsonl"),
    }
    services = Services(Settings.from_environment(environment))
    async with (
        running(application(all_doors(), services)) as url,
        httpx.AsyncClient(base_url=url, headers=signed_in(), timeout=30) as http,
    ):
        yield House(http, services, simulator, database_url)
    await services.close()
