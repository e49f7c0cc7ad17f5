"""How many requests one server process answers."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.figures import Figure, Section, Target
from tests.bench.house import WORDS, House, Server
from tests.bench.load import keep_asking
from tests.bench.machine import children_cpu_ms, cpu_ms

CONCURRENCIES = (1, 16, 64)
TARGET_PER_S = 800
TARGET_MANY_PER_S = 1_500


# Slices of the doors and of the passthrough take turns, so that both meet the same moments of the machine.
SLICES = 4


@dataclass(slots=True)
class _Measured:
    """Sums over all slices."""

    answered: int = 0
    seconds: float = 0
    server_cpu_ms: float = 0
    database_cpu_ms: float = 0

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds

    @property
    def server_ms(self) -> float:
        return self.server_cpu_ms / self.answered

    @property
    def database_ms(self) -> float:
        return self.database_cpu_ms / self.answered


async def measure(house: House, seconds: float) -> Section:
    """The same load on the doors and on the passthrough, in turn."""
    await house.simulate(WORDS)
    before = await house.recorded()
    figures: list[Figure] = []
    share = seconds / (2.3 * len(CONCURRENCIES) * SLICES)
    asked = 0
    for concurrency in CONCURRENCIES:
        warm = await keep_asking(house.doors.url, house.ask_doors(), concurrency=concurrency, seconds=share)
        passthrough, doors = _Measured(), _Measured()
        for _ in range(SLICES):
            await _load(house, house.passthrough, house.ask_passthrough(), concurrency, share, passthrough)
            await _load(house, house.doors, house.ask_doors(), concurrency, share, doors)
        asked += doors.answered + len(warm.durations_ms)
        limit = TARGET_MANY_PER_S if concurrency >= 64 else TARGET_PER_S if concurrency > 1 else None
        target = None if limit is None else Target(limit, "at least")
        figures += [
            Figure(f"{concurrency} at once", doors.per_second, "requests/s", passthrough.per_second, target),
            Figure("  CPU of the server process", doors.server_ms, "ms/request", passthrough.server_ms),
            Figure(
                "  so a core of its own would answer",
                1000 / doors.server_ms,
                "requests/s",
                1000 / passthrough.server_ms,
                target,
            ),
            Figure("  CPU of the database", doors.database_ms, "ms/request"),
        ]
    drift = await house.recorded() - before - asked
    figures.append(Figure("answers without their row in the ledger", abs(drift), "rows", target=Target(0)))
    return Section(
        "throughput", "one server process, ledger on; the database, the simulator and the load share the cores", figures
    )


async def _load(
    house: House, server: Server, requests: list[bytes], concurrency: int, seconds: float, into: _Measured
) -> None:
    server_ms, database_ms = cpu_ms(server.pid), children_cpu_ms(house.database_pid)
    run = await keep_asking(server.url, requests, concurrency=concurrency, seconds=seconds)
    into.answered += len(run.durations_ms)
    into.seconds += run.seconds
    into.server_cpu_ms += cpu_ms(server.pid) - server_ms
    into.database_cpu_ms += children_cpu_ms(house.database_pid) - database_ms
