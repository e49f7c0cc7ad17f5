"""How quickly completions are planned and recorded, without any HTTP."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
from pydantic import SecretStr

from shared.database import POOL_SIZE, Postgres
from tests.bench.figures import Figure, Section, Target, quantile
from tests.bench.house import House

CONCURRENCIES = (1, 8, 32)
# Slices of both take turns, so that they meet the same moments of the machine.
SLICES = 3
TARGET_PER_S = 500
TARGET_P99_MS = 10.0

Call = Callable[[str, str, dict[str, Any]], Awaitable[Any]]


async def measure(house: House, seconds: float) -> Section:
    """One pair is plan_completion and record_completion; the baseline is a bare connection that sends ready text."""
    database = Postgres(SecretStr(house.database_url))
    figures: list[Figure] = []
    before, pairs = await house.recorded(), 0
    share = seconds / (2.2 * len(CONCURRENCIES) * SLICES)

    async def ours(name: str, parameter: str, value: dict[str, Any]) -> Any:
        return await database.call(name, {parameter: value})

    try:
        for concurrency in CONCURRENCIES:
            async with _bare(house, concurrency) as bare_calls:
                # New connections plan every statement anew; a server does that once.
                pairs += len(await _pairs([ours] * concurrency, 0.2 * share))
                pairs += len(await _pairs(bare_calls, 0.2 * share))
                mine: list[float] = []
                bare: list[float] = []
                for _ in range(SLICES):
                    bare += await _pairs(bare_calls, share)
                    mine += await _pairs([ours] * concurrency, share)
            pairs += len(bare) + len(mine)
            took = SLICES * share
            figures += [
                Figure(
                    f"{concurrency} at once",
                    len(mine) / took,
                    "pairs/s",
                    len(bare) / took,
                    Target(TARGET_PER_S, "at least"),
                ),
                Figure(
                    "  a pair, p99",
                    quantile(mine, 0.99),
                    "ms",
                    quantile(bare, 0.99),
                    # More at once than the pool has connections wait for one another: that is no promise.
                    Target(TARGET_P99_MS) if concurrency <= POOL_SIZE else None,
                ),
            ]
    finally:
        await database.close()
    drift = await house.recorded() - before - pairs
    figures.append(Figure("pairs without their row in the ledger", abs(drift), "rows", target=Target(0)))
    return Section("ledger", "plan_completion + record_completion through shared.database, durable commits", figures)


@asynccontextmanager
async def _bare(house: House, concurrency: int) -> AsyncIterator[list[Call]]:
    """As many connections as callers, and nothing around them."""
    connections = [await asyncpg.connect(house.database_url) for _ in range(concurrency)]

    def through(connection: asyncpg.Connection) -> Call:
        async def call(name: str, parameter: str, value: dict[str, Any]) -> Any:
            return json.loads(await connection.fetchval(f"select public.{name}($1)", json.dumps(value)))

        return call

    try:
        yield [through(connection) for connection in connections]
    finally:
        for connection in connections:
            await connection.close()


async def _pairs(calls: list[Call], seconds: float) -> list[float]:
    """The durations of all pairs, in ms, with one worker for each of the calls."""
    durations: list[float] = []
    until = time.perf_counter() + seconds

    async def work(call: Call) -> None:
        while time.perf_counter() < until:
            began = time.perf_counter()
            await _pair(call)
            durations.append(1000 * (time.perf_counter() - began))

    await asyncio.gather(*(work(call) for call in calls))
    return durations


async def _pair(call: Call) -> None:
    """What one request asks of the database, with figures like those of a real one."""
    user = str(uuid.UUID(int=1))
    plan = await call(
        "plan_completion",
        "request",
        {
            "request_id": "bench",
            "user_id": user,
            "caller": "user",
            "use_case": "casual_chat",
            "model": None,
            "models": [],
            "params": {"temperature": 0.8},
            "stream": False,
            "fallback_to_chat_worker": None,
        },
    )
    candidate = plan["candidates"][0]
    attempt = {
        "provider": candidate["provider"],
        "model_id": candidate["model_id"],
        "model": candidate["model"],
        "upstream_model": candidate["model"],
        "upstream_provider": "Simulated",
        "generation_id": "gen-1",
        "status": 200,
        "code": None,
        "duration_ms": 812,
        "first_token_ms": None,
        "billing": "tokens",
        "estimated": False,
        "input_tokens": 120,
        "output_tokens": 220,
        "cached_tokens": 0,
        "cache_write_tokens": 0,
        "reasoning_tokens": 0,
        "cost_usd": "0.000396",
    }
    await call(
        "record_completion",
        "record",
        {
            "completion_id": str(uuid.uuid4()),
            "request_id": "bench",
            "user_id": user,
            "caller": "user",
            "use_case": "casual_chat",
            "requested_model": None,
            "provider": candidate["provider"],
            "model_id": candidate["model_id"],
            "model": candidate["model"],
            "streamed": False,
            "used_fallback": False,
            "response_time_ms": 815,
            "started_at": datetime.now(UTC).isoformat(),
            "prompt_chars": 480,
            "prompt_sha256": "0" * 64,
            "outcome": "complete",
            "finish_reason": "stop",
            "upstream_model": candidate["model"],
            "first_token_ms": None,
            "params": {"temperature": 0.8, "top_p": 0.9, "max_tokens": 500, "dropped": []},
            "reply_chars": 900,
            "quality_issues": [],
            "attempts": [attempt],
        },
    )
