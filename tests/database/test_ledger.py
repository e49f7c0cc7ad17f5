"""The ledger: what a completion cost, written once, seen by whom it concerns."""

from __future__ import annotations

import asyncio
import json
import uuid
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.conftest import as_role

ANN = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
BOB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
SONNET = "anthropic/claude-3.5-sonnet"


async def model_id(connection: asyncpg.Connection, slug: str) -> str:
    return str(await connection.fetchval("select id from api_models where model_version = $1", slug))


async def entry(connection: asyncpg.Connection, slug: str = SONNET, /, **changes: Any) -> dict[str, Any]:
    """A record of one answered completion: 1,000 tokens in, 1,000 out, no cost reported."""
    model = await model_id(connection, slug)
    attempt = {
        "provider": "OpenRouter",
        "model_id": model,
        "model": slug,
        "status": 200,
        "code": None,
        "duration_ms": 900,
        "billing": "tokens",
        "input_tokens": 1000,
        "output_tokens": 1000,
        **changes.pop("attempt", {}),
    }
    return {
        "completion_id": str(uuid.uuid4()),
        "request_id": "r-1",
        "user_id": ANN,
        "caller": "user",
        "use_case": "roleplay",
        "provider": "OpenRouter",
        "model_id": model,
        "model": slug,
        "outcome": "complete",
        "finish_reason": "stop",
        "response_time_ms": 1000,
        "started_at": "2026-11-23T10:00:00+00:00",
        "attempts": [attempt],
        **changes,
    }


async def record(connection: asyncpg.Connection, body: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = await connection.fetchval("select record_completion($1)", body)
    return answer


@pytest.mark.parametrize(
    ("slug", "attempt", "cost", "source"),
    [
        (SONNET, {}, "0.018", "computed"),
        (SONNET, {"cost_usd": "0.0123456789012"}, "0.0123456789012", "provider"),
        (SONNET, {"cost_usd": "0"}, "0", "provider"),
        ("openai/gpt-4", {}, "0.09", "computed"),
        ("anthropic/claude-sonnet-4.6", {"cached_tokens": 400}, "0.01692", "computed"),
        ("anthropic/claude-haiku-5.5", {"input_tokens": 100_000}, "0.0105", "computed"),
        ("anthropic/claude-haiku-5.5", {"input_tokens": 100_001}, "0.0525005", "computed"),
        ("mistralai/mistral-7b-instruct", {}, None, "unknown"),
        (SONNET, {"input_tokens": None, "output_tokens": None}, "0.018", "estimated"),
        (SONNET, {"estimated": True}, "0.018", "estimated"),
    ],
    ids=[
        "computed from the price book",
        "reported by the provider",
        "reported as free",
        "another model",
        "cached input is cheaper",
        "below the long-context step",
        "above the long-context step",
        "unknown price",
        "no token counts: nominal estimate",
        "estimated token counts",
    ],
)
async def test_cost_is_reported_else_computed_else_estimated_else_unknown(
    connection: asyncpg.Connection, slug: str, attempt: dict[str, Any], cost: str | None, source: str
) -> None:
    """Exact decimals; unknown is null, never zero."""
    answer = await record(connection, await entry(connection, slug, attempt=attempt))

    assert answer["recorded"] is True
    assert answer["cost_source"] == source
    assert answer["cost_usd"] == (None if cost is None else Decimal(cost))


async def test_reported_and_computed_cost_are_both_kept(connection: asyncpg.Connection) -> None:
    """So that they can be compared later."""
    await record(connection, await entry(connection, attempt={"cost_usd": "0.02"}))

    row = await connection.fetchrow("select provider_cost_usd, computed_cost_usd from openrouter.completion_attempts")
    assert tuple(row) == (Decimal("0.02"), Decimal("0.018"))


async def test_a_router_is_priced_as_the_model_that_served(connection: asyncpg.Connection) -> None:
    """The answer names a dated slug: the row with that slug has the price."""
    answer = await record(
        connection,
        await entry(
            connection,
            "mistralai/mistral-7b-instruct",
            attempt={"upstream_model": "anthropic/claude-4.5-haiku-20251001"},
        ),
    )
    assert answer["cost_usd"] == Decimal("0.006")


async def test_the_price_of_the_time_counts(connection: asyncpg.Connection) -> None:
    """A price that starts later does not reach back."""
    slug = "meta-llama/llama-3.1-8b-instruct"
    before = await record(connection, await entry(connection, slug, started_at="2026-01-01T00:00:00Z"))
    after = await record(connection, await entry(connection, slug, started_at="2026-11-20T00:00:00Z"))

    assert before["cost_usd"] == Decimal("0.0004")
    assert after["cost_usd"] == Decimal("0.00006")


async def test_a_record_is_written_once(connection: asyncpg.Connection) -> None:
    """The second writing changes nothing and tells what the first one said."""
    body = await entry(connection)
    first = await record(connection, body)
    second = await record(connection, {**body, "attempts": [], "model": "other"})

    assert (first["recorded"], second["recorded"]) == (True, False)
    assert second["cost_usd"] == first["cost_usd"]
    assert await connection.fetchval("select count(*) from openrouter.completions") == 1
    assert await connection.fetchval("select count(*) from openrouter.completion_attempts") == 1


async def test_writers_at_once_write_once(pool: asyncpg.Pool) -> None:
    """Ten writers of one completion, ten connections, one row."""
    async with pool.acquire() as connection:
        body = await entry(connection)

    answers = await asyncio.gather(*(pool.fetchval("select record_completion($1)", body) for _ in range(10)))

    assert sorted(answer["recorded"] for answer in answers) == [False] * 9 + [True]
    assert {answer["cost_usd"] for answer in answers} == {Decimal("0.018")}


async def test_a_repeated_request_id_hides_no_completion(connection: asyncpg.Connection) -> None:
    """X-Request-Id is the caller's word; the ledger's key is ours."""
    await record(connection, await entry(connection, request_id="same"))
    await record(connection, await entry(connection, request_id="same"))

    assert await connection.fetchval("select count(*) from openrouter.completions where request_id = 'same'") == 2


async def test_failed_attempts_that_cost_nothing_leave_the_cost_known(connection: asyncpg.Connection) -> None:
    """Two refusals, then an answer: the answer's cost is the cost."""
    body = await entry(connection)
    refused = {**body["attempts"][0], "status": 429, "code": "RATE_LIMITED", "billing": "none"}
    refused |= {"input_tokens": None, "output_tokens": None}
    answer = await record(connection, {**body, "attempts": [refused, refused, body["attempts"][0]]})

    assert (answer["cost_usd"], answer["cost_source"]) == (Decimal("0.018"), "computed")


async def test_an_attempt_of_unknown_cost_is_counted(connection: asyncpg.Connection) -> None:
    """A time-out may have been billed: the row says so beside the known cost."""
    body = await entry(connection)
    lost = {**body["attempts"][0], "status": None, "code": "TIMEOUT", "billing": "unknown"}
    lost |= {"input_tokens": None, "output_tokens": None}
    await record(connection, {**body, "attempts": [lost, body["attempts"][0]]})

    row = await connection.fetchrow("select cost_usd, unpriced_attempts from openrouter.completions")
    assert tuple(row) == (Decimal("0.018"), 1)


async def test_a_model_deleted_meanwhile_keeps_its_row_in_the_ledger(connection: asyncpg.Connection) -> None:
    """The slug stays; only the link to the row is gone."""
    body = await entry(connection)
    await connection.execute("delete from api_models where model_version = $1", SONNET)

    assert (await record(connection, body))["cost_source"] == "unknown"
    assert await connection.fetchval("select model from openrouter.completions") == SONNET


async def test_statistics_add_up(connection: asyncpg.Connection) -> None:
    """Totals, by model, by use case, by day, errors by code."""
    now = await connection.fetchval("select to_jsonb(now()) #>> '{}'")
    for changes in (
        {"attempt": {"cost_usd": "0.01"}, "response_time_ms": 100},
        {"attempt": {"cost_usd": "0.02"}, "response_time_ms": 300, "used_fallback": True, "use_case": "casual_chat"},
        {"quality_issues": [{"code": "short_openrouter_response", "detail": "7"}], "response_time_ms": 200},
    ):
        await record(connection, await entry(connection, started_at=now, **changes))
    failed = {"outcome": "failed", "finish_reason": None, "error_code": "TIMEOUT", "response_time_ms": 400}
    lost = {"code": "TIMEOUT", "billing": "unknown", "input_tokens": None, "output_tokens": None, "status": None}
    mistral = "mistralai/mistral-7b-instruct"
    await record(connection, await entry(connection, mistral, started_at=now, attempt=lost, **failed))

    stats = await connection.fetchval("select get_openrouter_usage_stats('24h')")

    totals = stats["totals"]
    assert {name: str(value) for name, value in totals.items()} == {
        "requests": "4",
        "successes": "3",
        "errors": "1",
        "success_rate": "0.7500",
        "input_tokens": "3000",
        "output_tokens": "3000",
        "total_tokens": "6000",
        "cost_usd": "0.048",
        "unpriced_requests": "1",
        "avg_response_time_ms": "250",
        "p50_ms": "200",
        "p95_ms": "400",
        "p99_ms": "400",
        "p50_first_token_ms": "None",
        "fallbacks": "1",
        "quality_issues": "1",
    }
    assert [(row["model"], int(row["requests"])) for row in stats["by_model"]] == [(SONNET, 3), (mistral, 1)]
    assert stats["by_model"][1]["cost_usd"] is None
    assert {row["use_case"] for row in stats["by_use_case"]} == {"roleplay", "casual_chat"}
    assert len(stats["by_day"]) == 1
    assert stats["errors_by_code"] == [{"code": "TIMEOUT", "requests": 1}]


async def test_no_traffic_is_zero_and_not_an_error(connection: asyncpg.Connection) -> None:
    """An empty ledger has a cost of 0 and no rate."""
    totals = (await connection.fetchval("select get_openrouter_usage_stats('all')"))["totals"]

    assert (totals["requests"], totals["cost_usd"], totals["success_rate"]) == (0, 0, None)


@pytest.mark.parametrize("timeframe", ["1h", "24h", "7d", "30d", "90d", "all", "day", "week", "month"])
async def test_every_timeframe_of_the_contract_is_known(connection: asyncpg.Connection, timeframe: str) -> None:
    """And is named in the answer."""
    stats = await connection.fetchval("select get_openrouter_usage_stats(timeframe => $1)", timeframe)
    assert stats["timeframe"] == timeframe


@pytest.mark.parametrize("timeframe", ["", "1 hour", "24H", "yesterday", "1h; drop table x", None])
async def test_any_other_timeframe_is_a_clear_error(connection: asyncpg.Connection, timeframe: str | None) -> None:
    """With the SQLSTATE that makes PostgREST answer 400."""
    with pytest.raises(asyncpg.PostgresError, match="must be one of 1h, 24h") as refusal:
        await connection.fetchval("select get_openrouter_usage_stats($1)", timeframe)
    assert refusal.value.sqlstate == "PT400"


async def test_comparison_has_a_row_per_requested_model_in_order(connection: asyncpg.Connection) -> None:
    """Zeros where there is no traffic; unknown names too."""
    now = await connection.fetchval("select to_jsonb(now()) #>> '{}'")
    await record(connection, await entry(connection, started_at=now))

    rows = await connection.fetchval("select compare_openrouter_models($1)", ["openai/gpt-4", "no/such", SONNET])

    assert [row["model"] for row in rows] == ["openai/gpt-4", "no/such", SONNET]
    assert [row["requests"] for row in rows] == [0, 0, 1]
    assert [row["cost_usd"] for row in rows] == [0, 0, Decimal("0.018")]
    assert rows[2]["expected_latency_ms"] == {"min": 5000, "max": 15000}


@pytest.mark.parametrize("models", [[], None, ["a", None], ["m"] * 51])
async def test_comparison_refuses_what_it_cannot_compare(
    connection: asyncpg.Connection, models: list[str] | None
) -> None:
    """One to fifty names."""
    with pytest.raises(asyncpg.PostgresError) as refusal:
        await connection.fetchval("select compare_openrouter_models($1)", models)
    assert refusal.value.sqlstate == "PT400"


async def test_users_see_their_own_usage_only(connection: asyncpg.Connection) -> None:
    """A has one request, B none; neither sees everybody's."""
    now = await connection.fetchval("select to_jsonb(now()) #>> '{}'")
    await record(connection, await entry(connection, started_at=now))

    async with as_role(connection, "authenticated", sub=ANN):
        assert (await connection.fetchval("select get_my_usage('24h')"))["totals"]["requests"] == 1
    async with as_role(connection, "authenticated", sub=BOB):
        assert (await connection.fetchval("select get_my_usage('24h')"))["totals"]["requests"] == 0


@pytest.mark.parametrize(
    ("role", "admin", "allowed"),
    [
        ("anon", False, False),
        ("authenticated", False, False),
        ("authenticated", True, True),
        ("service_role", False, True),
    ],
)
@pytest.mark.parametrize(
    "call", ["get_openrouter_usage_stats('24h')", "compare_openrouter_models(array['openai/gpt-4'])"]
)
async def test_only_admins_and_servers_see_everybodys_usage(
    connection: asyncpg.Connection, role: str, admin: bool, allowed: bool, call: str
) -> None:
    """The check is inside the function, whatever the door in front of it says."""
    async with as_role(connection, role, sub=ANN if role == "authenticated" else None, admin=admin):
        if allowed:
            assert await connection.fetchval(f"select {call}") is not None
        else:
            with pytest.raises(asyncpg.PostgresError) as refusal:
                await connection.fetchval(f"select {call}")
            assert refusal.value.sqlstate in ("PT403", "42501")


@pytest.mark.parametrize("role", ["anon", "authenticated"])
@pytest.mark.parametrize("call", ["plan_completion('{}')", "record_completion('{}')"])
async def test_callers_do_not_write_the_ledger(connection: asyncpg.Connection, role: str, call: str) -> None:
    """Planning and recording are the server's, admins' tokens included."""
    async with as_role(connection, role, sub=ANN, admin=True):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval(f"select {call}")


async def test_user_metadata_makes_nobody_an_admin(connection: asyncpg.Connection) -> None:
    """Users write their own user_metadata."""
    async with connection.transaction():
        await connection.execute(
            "select set_config('request.jwt.claims', $1, true), set_config('role', 'authenticated', true)",
            json.dumps({"sub": ANN, "user_metadata": {"role": "admin"}, "role": "admin"}),
        )
        assert await connection.fetchval("select openrouter.is_admin()") is False
