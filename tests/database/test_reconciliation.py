"""Costs that are learnt later: claimed for a check, taken over once, added up by the ledger's own rule."""

from __future__ import annotations

import asyncio
import uuid
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.conftest import as_role

SONNET = "anthropic/claude-3.5-sonnet"
TOKENS = {"input_tokens": 1000, "output_tokens": 1000}
NO_TOKENS = {"input_tokens": None, "output_tokens": None}
# Attempts as the server tells them: cut off by its reader, lost without an answer, answered.
CANCELLED = {"generation_id": "gen-cut", "code": "CANCELLED", "status": 200, "estimated": True, **TOKENS}
LOST = {"generation_id": "gen-lost", "code": "TIMEOUT", "billing": "unknown", "model_id": None, **NO_TOKENS}
ANSWERED = {"generation_id": "gen-told", "status": 200, "cost_usd": "0.02", **TOKENS}


async def record(connection: asyncpg.Connection, *attempts: dict[str, Any]) -> str:
    """A completion with these attempts; its id."""
    model = await connection.fetchval("select id from api_models where model_version = $1", SONNET)
    common = {"provider": "OpenRouter", "model_id": str(model), "model": SONNET, "duration_ms": 900}
    body = {
        "completion_id": str(uuid.uuid4()),
        "request_id": "r-1",
        "caller": "service",
        "use_case": "roleplay",
        "outcome": "cancelled",
        "response_time_ms": 1000,
        "started_at": "2026-11-23T10:00:00+00:00",
        "attempts": [{**common, "billing": "tokens", **attempt} for attempt in attempts],
    }
    await connection.fetchval("select record_completion($1)", body)
    return str(body["completion_id"])


async def make_due(connection: asyncpg.Connection) -> None:
    """The time of the next check has come."""
    await connection.execute("update openrouter.completion_attempts set next_check_at = now() where checks < 11")


async def claimed(connection: asyncpg.Connection, batch: int = 100) -> list[str]:
    pending = await connection.fetchval("select pending_generations($1)", batch)
    return sorted(generation["generation_id"] for generation in pending)


async def told(connection: asyncpg.Connection, generation_id: str, cost: Any, **more: Any) -> bool:
    news = {"generation_id": generation_id, "cost_usd": cost, "source": "generation", **more}
    changed: bool = await connection.fetchval("select reconcile_generation($1)", news)
    return changed


async def totals(connection: asyncpg.Connection) -> tuple[Any, ...]:
    return tuple(
        await connection.fetchrow(
            "select cost_usd, cost_source, unpriced_attempts, input_tokens, output_tokens from openrouter.completions"
        )
    )


async def test_only_what_is_unsure_and_has_a_generation_is_asked_for(connection: asyncpg.Connection) -> None:
    """A cost from the answer is final; without an id there is nothing to ask; a refusal cost nothing."""
    refused = {"generation_id": "gen-refused", "code": "RATE_LIMITED", "status": 429, "billing": "none", **NO_TOKENS}
    await record(connection, ANSWERED, CANCELLED, LOST, {**CANCELLED, "generation_id": None}, refused)
    await make_due(connection)

    assert await claimed(connection) == ["gen-cut", "gen-lost"]


async def test_a_claim_says_where_to_ask(connection: asyncpg.Connection) -> None:
    """The provider's row, found by its name when the model is gone; never a key, only the name of one."""
    await record(connection, LOST)
    await make_due(connection)

    assert await connection.fetchval("select pending_generations(10)") == [
        {
            "generation_id": "gen-lost",
            "provider": "OpenRouter",
            "provider_type": "openrouter",
            "base_url": await connection.fetchval("select base_url from api_providers where name = 'OpenRouter'"),
            "secret_name": "OPENROUTER_API_KEY",
        }
    ]


async def test_the_first_check_comes_after_twenty_seconds(connection: asyncpg.Connection) -> None:
    """The books are not written before."""
    await record(connection, CANCELLED)

    assert await claimed(connection) == []
    assert await connection.fetchval(
        "select next_check_at = now() + interval '20 seconds' from openrouter.completion_attempts"
    )


async def test_checks_grow_rarer_and_end_after_about_an_hour(connection: asyncpg.Connection) -> None:
    """Twice as long each time up to ten minutes; after the eleventh check never again."""
    await record(connection, CANCELLED)
    waits = []
    for _ in range(11):
        await make_due(connection)
        assert await claimed(connection) == ["gen-cut"]
        assert await claimed(connection) == []
        waits.append(
            await connection.fetchval(
                "select extract(epoch from next_check_at - now())::integer from openrouter.completion_attempts"
            )
        )

    assert waits == [40, 80, 160, 320, 600, 600, 600, 600, 600, 600, None]
    await make_due(connection)
    assert await claimed(connection) == []
    assert (await totals(connection))[1] == "estimated"


async def test_a_provider_without_books_is_not_asked(connection: asyncpg.Connection) -> None:
    """Another server of the same wire: its generation is given up at once and blocks no other."""
    await connection.execute(
        "with provider as (insert into api_providers (name, provider_type, base_url) "
        "values ('Own server', 'openai_compatible', 'http://own') returning id) "
        "insert into api_models (provider_id, model_name, model_version) select id, 'own', 'own/model' from provider"
    )
    own = await connection.fetchval("select id from api_models where model_version = 'own/model'")
    await record(connection, {**LOST, "model_id": str(own), "provider": "Own server"})
    await make_due(connection)

    assert await claimed(connection) == []
    assert await connection.fetchval("select next_check_at from openrouter.completion_attempts") is None


@pytest.mark.parametrize(("batch", "size"), [(2, 2), (0, 0), (-1, 0)])
async def test_a_batch_is_bounded(connection: asyncpg.Connection, batch: int, size: int) -> None:
    """A flood of cancelled streams is worked off in pieces."""
    await record(connection, *({**CANCELLED, "generation_id": f"gen-{number}"} for number in range(3)))
    await make_due(connection)

    assert len(await claimed(connection, batch)) == size


async def test_two_sweeps_at_once_claim_once(pool: asyncpg.Pool) -> None:
    """The second does not wait for the first, it takes what is left."""
    async with pool.acquire() as first, pool.acquire() as second:
        await record(first, CANCELLED, LOST)
        await make_due(first)
        async with first.transaction():
            one = await claimed(first, 1)
            other = await claimed(second)
            nothing = await claimed(second)

    assert sorted(one + other) == ["gen-cut", "gen-lost"]
    assert nothing == []


async def test_the_books_replace_the_estimate_and_the_estimate_stays_visible(connection: asyncpg.Connection) -> None:
    """Cost, source and tokens are the provider's; what we had thought stands beside it."""
    await record(connection, CANCELLED)
    assert await totals(connection) == (Decimal("0.018"), "estimated", 0, 1000, 1000)

    assert await told(connection, "gen-cut", "0.0042", input_tokens=990, output_tokens=77, cached_tokens=12)

    assert await totals(connection) == (Decimal("0.0042"), "provider", 0, 990, 77)
    row = await connection.fetchrow(
        "select provider_cost_usd, estimated_cost_usd, cached_tokens, reconciled_from, reconciled_at is null, "
        "next_check_at from openrouter.completion_attempts"
    )
    assert tuple(row) == (Decimal("0.0042"), Decimal("0.018"), 12, "generation", False, None)


async def test_an_unknown_cost_becomes_known(connection: asyncpg.Connection) -> None:
    """A time-out that was billed, beside an answer: nothing is unpriced any more, and the sum has both."""
    await record(connection, {**LOST, "model": "mistralai/mistral-7b-instruct"}, ANSWERED)
    assert await totals(connection) == (Decimal("0.02"), "provider", 1, 1000, 1000)

    assert await told(connection, "gen-lost", "0.03", input_tokens=5, output_tokens=7)

    assert await totals(connection) == (Decimal("0.05"), "provider", 0, 1005, 1007)


async def test_free_is_a_cost(connection: asyncpg.Connection) -> None:
    """An explicit zero is news; tokens that are not told stay as they were."""
    await record(connection, CANCELLED)

    assert await told(connection, "gen-cut", 0)
    assert await totals(connection) == (Decimal(0), "provider", 0, 1000, 1000)


async def test_the_same_news_twice_changes_nothing(connection: asyncpg.Connection) -> None:
    """Nor do other news of the same generation."""
    await record(connection, CANCELLED)
    await told(connection, "gen-cut", "0.004")
    before = await connection.fetchrow("select * from openrouter.completion_attempts")

    assert not await told(connection, "gen-cut", "0.004")
    assert not await told(connection, "gen-cut", "9", source="broadcast")
    assert await connection.fetchrow("select * from openrouter.completion_attempts") == before
    assert (await totals(connection))[0] == Decimal("0.004")


async def test_a_cost_from_the_answer_is_never_overwritten(connection: asyncpg.Connection) -> None:
    """The provider has told already."""
    await record(connection, ANSWERED)

    assert not await told(connection, "gen-told", "9")
    assert (await totals(connection))[0] == Decimal("0.02")


async def test_a_computed_cost_gives_way(connection: asyncpg.Connection) -> None:
    """Our price list is second best: a trace that tells the cost is taken over."""
    await record(connection, {**ANSWERED, "cost_usd": None})
    assert await totals(connection) == (Decimal("0.018"), "computed", 0, 1000, 1000)

    assert await told(connection, "gen-told", "0.017", source="broadcast")
    assert (await totals(connection))[:2] == (Decimal("0.017"), "provider")


@pytest.mark.parametrize("cost", [None, "-1", "NaN", "Infinity"])
async def test_what_is_no_cost_is_no_news(connection: asyncpg.Connection, cost: str | None) -> None:
    """The estimate stays and is checked again."""
    await record(connection, CANCELLED)

    assert not await told(connection, "gen-cut", cost)
    assert (await totals(connection))[:2] == (Decimal("0.018"), "estimated")


async def test_a_stranger_is_ignored(connection: asyncpg.Connection) -> None:
    """Traces come for the whole account, not for this ledger alone."""
    await record(connection, CANCELLED)

    assert not await told(connection, "gen-of-somebody-else", "1")
    assert not await connection.fetchval("select reconcile_generation('{}')")


async def test_a_generation_is_paid_once(connection: asyncpg.Connection) -> None:
    """Two attempts bear one id: one of them carries the cost, however often it is told."""
    await record(connection, CANCELLED, CANCELLED)

    assert [await told(connection, "gen-cut", "0.004") for _ in range(3)] == [True, False, False]
    assert (await totals(connection))[0] == Decimal("0.022")


async def test_news_at_once_add_up(pool: asyncpg.Pool) -> None:
    """Ten attempts of one completion, ten connections: no cost is lost."""
    async with pool.acquire() as connection:
        await record(connection, *({**CANCELLED, "generation_id": f"gen-{number}"} for number in range(10)))

    async def tell(number: int) -> bool:
        async with pool.acquire() as connection:
            return await told(connection, f"gen-{number}", "0.001")

    assert await asyncio.gather(*(tell(number) for number in range(10))) == [True] * 10
    async with pool.acquire() as connection:
        assert (await totals(connection))[:3] == (Decimal("0.010"), "provider", 0)


@pytest.mark.parametrize("call", ["pending_generations(1)", "reconcile_generation('{}')"])
@pytest.mark.parametrize(
    ("role", "allowed"), [("anon", False), ("authenticated", False), ("service_role", True)], ids=str
)
async def test_only_servers_may(connection: asyncpg.Connection, call: str, role: str, allowed: bool) -> None:
    """A user who could tell costs could make the own use free."""
    async with as_role(connection, role, sub=str(uuid.uuid4()), admin=role == "authenticated"):
        if allowed:
            await connection.fetchval(f"select {call}")
        else:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetchval(f"select {call}")
