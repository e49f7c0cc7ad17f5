"""The two back ends of `shared/database.py` give the same answers and the same failures."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest
from pydantic import SecretStr

from local.tokens import token
from shared.database import Database, Postgres, PostgREST, connect
from shared.errors import ConfigError, Forbidden, Internal, InvalidRequest, Unauthenticated, Unavailable
from shared.identity import Caller
from shared.settings import Settings
from tests.clients.conftest import JWT_SECRET, supabase

ANN = str(uuid.UUID(int=0xA))


def caller(*, sub: str = ANN, admin: bool = False) -> Caller:
    """A signed-in user as the edge hands it over."""
    said = token(JWT_SECRET, sub=sub, admin=admin)
    claims: dict[str, Any] = {"sub": sub, "role": "authenticated"}
    if admin:
        claims["app_metadata"] = {"role": "admin"}
    return Caller(kind="admin" if admin else "user", user_id=sub, claims=claims, token=SecretStr(said))


@pytest.fixture(params=["asyncpg", "supabase-py"])
async def database(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Database]:
    """Either back end, on the same database."""
    if request.param == "asyncpg":
        postgres = Postgres(SecretStr(database_url))
        yield postgres
        await postgres.close()
    else:
        service_key = token(JWT_SECRET, sub=None, role="service_role")
        node_modules = request.getfixturevalue("node_modules")
        async with supabase(node_modules, database_url) as url, httpx.AsyncClient() as http:
            yield PostgREST(url, SecretStr(service_key), http)


async def entry(database_url: str) -> dict[str, Any]:
    connection = await asyncpg.connect(database_url)
    model = await connection.fetchval("select id::text from api_models where model_version = 'openai/gpt-4o'")
    now = await connection.fetchval("select to_jsonb(now()) #>> '{}'")
    await connection.close()
    attempt = {"provider": "OpenRouter", "model_id": model, "model": "openai/gpt-4o", "duration_ms": 5}
    return {
        "completion_id": str(uuid.uuid4()),
        "request_id": "r",
        "user_id": ANN,
        "caller": "user",
        "use_case": "roleplay",
        "model": "openai/gpt-4o",
        "model_id": model,
        "outcome": "complete",
        "response_time_ms": 5,
        "started_at": now,
        "attempts": [{**attempt, "billing": "tokens", "cost_usd": Decimal("0.000123456789")}],
    }


async def test_a_server_plans_and_records(database: Database, database_url: str) -> None:
    """JSON in, JSON out; money comes back as the exact decimal."""
    plan = await database.call("plan_completion", {"request": {"use_case": "roleplay", "caller": "user"}})
    answer = await database.call("record_completion", {"record": await entry(database_url)})

    assert plan["candidates"][0]["model"] == "anthropic/claude-sonnet-4.6"
    assert answer == {"recorded": True, "cost_usd": Decimal("0.000123456789"), "cost_source": "provider"}


async def test_a_user_is_that_user_in_the_database(database: Database, database_url: str) -> None:
    """auth.uid() is the caller; another user sees nothing; the next call is the server's again."""
    await database.call("record_completion", {"record": await entry(database_url)})

    mine = await database.call("get_my_usage", {"timeframe": "24h"}, caller())
    theirs = await database.call("get_my_usage", {"timeframe": "24h"}, caller(sub=str(uuid.UUID(int=0xB))))
    everybody = await database.call("get_openrouter_usage_stats", {"timeframe": "24h"})

    assert [stats["totals"]["requests"] for stats in (mine, theirs, everybody)] == [1, 0, 1]


async def test_lists_travel_as_arrays(database: Database) -> None:
    """compare_openrouter_models takes text[]."""
    rows = await database.call("compare_openrouter_models", {"models": ["openai/gpt-4", "x"]}, caller(admin=True))
    assert [row["model"] for row in rows] == ["openai/gpt-4", "x"]


async def test_a_refusal_of_sql_is_a_refusal_here(database: Database) -> None:
    """Code, message and field of the raise arrive."""
    with pytest.raises(InvalidRequest) as refusal:
        await database.call("get_openrouter_usage_stats", {"timeframe": "nonsense"})
    assert refusal.value.details[0].field == "timeframe"


async def test_a_user_is_refused_what_admins_may(database: Database) -> None:
    """PT403 from inside the function."""
    with pytest.raises(Forbidden):
        await database.call("get_openrouter_usage_stats", {"timeframe": "24h"}, caller())


async def test_a_user_is_refused_what_servers_may(database: Database) -> None:
    """No execute right."""
    with pytest.raises(Forbidden):
        await database.call("plan_completion", {"request": {}}, caller(admin=True))


async def test_nobody_has_no_usage(database: Database) -> None:
    """PT401: the server is no user."""
    with pytest.raises(Unauthenticated):
        await database.call("get_my_usage", {"timeframe": "24h"})


async def test_a_broken_call_is_our_fault(database: Database) -> None:
    """A record that makes no sense is an internal error without the database's words."""
    with pytest.raises(Internal) as failure:
        await database.call("record_completion", {"record": {"completion_id": "not a uuid"}})
    assert "uuid" not in failure.value.message


async def test_it_says_whether_it_answers(database: Database) -> None:
    """For health."""
    assert await database.check() is True


async def test_a_database_that_is_away_is_unavailable() -> None:
    """Nobody listens at this port: both back ends say so, and check does not raise."""
    async with httpx.AsyncClient() as http:
        for away in (
            Postgres(SecretStr("postgresql://u:p@127.0.0.1:1/d")),
            PostgREST("http://127.0.0.1:1", SecretStr(token(JWT_SECRET, sub=None, role="service_role")), http),
        ):
            with pytest.raises(Unavailable):
                await away.call("get_models", {})
            assert await away.check() is False


async def test_no_database_configured_is_said_plainly() -> None:
    """A clear sentence instead of a connection error."""
    async with httpx.AsyncClient() as http:
        database = connect(Settings.from_environment({}), http)
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        await database.call("get_models", {})
