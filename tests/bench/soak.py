"""Whether thousands of requests leave anything behind, in the client and in the server process."""

from __future__ import annotations

import asyncio
import os
import time

from shared.openrouter import Attempt, ChatRequest, Endpoint
from shared.services import Services
from shared.settings import Settings
from tests.bench.figures import Figure, Section
from tests.bench.house import WORDS, House
from tests.bench.load import Connection
from tests.bench.machine import descriptors, resident_mb

WARM_UP = 1_000
REQUESTS = 10_000


async def measure(house: House, seconds: float) -> Section:
    """Counted after a warm-up, in which pools fill and caches grow to their size."""
    await house.simulate(WORDS)
    requests = REQUESTS if seconds > 5 else REQUESTS // 10
    figures = [*await _client(house, requests), *await _doors(house, requests)]
    return Section("soak", f"{requests:,} requests one after the other, after {WARM_UP:,} to warm up", figures)


async def _client(house: House, requests: int) -> list[Figure]:
    services = Services(Settings.from_environment({}))
    endpoint = Endpoint(f"{house.simulator.url}/api/v1", "sk-or-v1-simulated")
    question = ChatRequest(model=str(house.upstream_body["model"]), messages=house.upstream_body["messages"])

    async def ask(times: int) -> None:
        for _ in range(times):
            attempts: list[Attempt] = []
            await services.openrouter.complete(endpoint, question, deadline=time.monotonic() + 30, attempts=attempts)

    try:
        await ask(WARM_UP)
        tasks, files, megabytes = len(asyncio.all_tasks()), descriptors(os.getpid()), resident_mb(os.getpid())
        await ask(requests)
        return [
            Figure("client: growth of tasks", len(asyncio.all_tasks()) - tasks, "tasks"),
            Figure("client: growth of open files and sockets", descriptors(os.getpid()) - files, "files"),
            Figure("client: growth of memory", resident_mb(os.getpid()) - megabytes, "MB"),
        ]
    finally:
        await services.close()


async def _doors(house: House, requests: int) -> list[Figure]:
    asked = house.ask_doors()
    connection = await Connection.open(house.doors.url)
    pid = house.doors.pid
    try:
        for place in range(WARM_UP):
            await connection.ask(asked[place % len(asked)])
        files, megabytes = descriptors(pid), resident_mb(pid)
        for place in range(requests):
            await connection.ask(asked[place % len(asked)])
        return [
            Figure("doors: growth of open files and sockets", descriptors(pid) - files, "files"),
            Figure("doors: growth of memory", resident_mb(pid) - megabytes, "MB"),
        ]
    finally:
        connection.close()
