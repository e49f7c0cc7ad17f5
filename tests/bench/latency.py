"""What the doors add to the time of one request."""

from __future__ import annotations

import time

from tests.bench.figures import Figure, Section, Target, quantile
from tests.bench.house import WORDS, House
from tests.bench.load import Answer, Connection
from tests.bench.serve import MOMENT

WARM_UP = 100


async def measure(house: House, seconds: float) -> Section:
    """Ask the doors and the passthrough in turn, so that both meet the same moments of the machine."""
    await house.simulate(WORDS)
    doors, passthrough = await _in_turn(house, seconds / 2, stream=False)
    figures = _compared("whole reply", [a.duration_ms for a in doors], [a.duration_ms for a in passthrough])
    # Few words: only the first is waited for.
    await house.simulate(f"{MOMENT} and some words more.")
    doors, passthrough = await _in_turn(house, seconds / 2, stream=True)
    figures += _compared(
        "first word of a stream", [a.first_word_ms for a in doors], [a.first_word_ms for a in passthrough]
    )
    return Section(
        "latency",
        f"POST /casual-chat against a bare passthrough, one request at a time, in turn; {len(doors):,} streams each",
        figures,
    )


def _compared(what: str, doors: list[float], passthrough: list[float]) -> list[Figure]:
    return [
        Figure(
            f"{what}, {name}",
            quantile(doors, share),
            "ms",
            quantile(passthrough, share),
            Target(limit, of="difference"),
        )
        for name, share, limit in (("p50", 0.5, 3.0), ("p99", 0.99, 10.0))
    ]


async def _in_turn(house: House, seconds: float, *, stream: bool) -> tuple[list[Answer], list[Answer]]:
    asked, passed = house.ask_doors(stream=stream), house.ask_passthrough(stream=stream)
    to_doors = await Connection.open(house.doors.url)
    to_passthrough = await Connection.open(house.passthrough.url)
    doors: list[Answer] = []
    passthrough: list[Answer] = []
    try:
        for place in range(WARM_UP):
            await to_doors.ask(asked[place % len(asked)])
            await to_passthrough.ask(passed[0])
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            doors.append(await to_doors.ask(asked[len(doors) % len(asked)]))
            passthrough.append(await to_passthrough.ask(passed[0]))
    finally:
        to_doors.close()
        to_passthrough.close()
    return doors, passthrough
