"""What the relay adds to each event of a stream, and what many streams leave behind."""

from __future__ import annotations

import asyncio

from tests.bench.figures import Figure, Section, Target, quantile
from tests.bench.house import House, Server
from tests.bench.load import Connection
from tests.bench.machine import descriptors, resident_mb
from tests.bench.serve import MOMENT

MANY = 200
# Alone, a stream of a quick model; of the many each speaks more slowly, or two cores could not even simulate them.
ALONE_PER_S = 100
MANY_PER_S = 5
TARGET_MS = 1.0


async def measure(house: House, seconds: float) -> Section:
    """Words carry the time when they left the simulator; the difference on arrival is their way."""
    rounds = max(2, int(seconds / 10))
    words_alone = max(20, int(0.12 * seconds * ALONE_PER_S))
    words_each = max(8, int(0.7 * seconds / (rounds + 1) * MANY_PER_S))
    figures = await _alone(house, words_alone)

    await house.simulate(f" {MOMENT}" * words_each, tokens_per_second=MANY_PER_S)
    passthrough = await _together(house, house.passthrough, words_each)
    doors = await _together(house, house.doors, words_each)
    after_first = resident_mb(house.doors.pid)
    opened = descriptors(house.doors.pid)
    during: list[float] = []
    for _ in range(rounds - 1):
        again = await _together(house, house.doors, words_each)
        doors.delays_ms.extend(again.delays_ms)
        during.append(again.during_mb)
    after_last = resident_mb(house.doors.pid)
    figures += _compared(f"{MANY} streams", doors.delays_ms, passthrough.delays_ms)
    figures += [
        Figure(f"memory before the first {MANY} streams", doors.before_mb, "MB", passthrough.before_mb),
        Figure(f"memory while {MANY} streams are open", max([doors.during_mb, *during]), "MB", passthrough.during_mb),
        Figure("memory after the first round", after_first, "MB"),
        Figure(f"memory after {rounds} rounds", after_last, "MB"),
        Figure("growth from the first to the last round", after_last - after_first, "MB"),
        Figure("growth of open files and sockets", descriptors(house.doors.pid) - opened, "files"),
    ]
    return Section(
        "streams",
        f"one stream of {ALONE_PER_S} words/s, then {rounds} rounds of {MANY} streams of {MANY_PER_S} words/s each",
        figures,
    )


class _Round:
    def __init__(self, before_mb: float) -> None:
        self.before_mb = before_mb
        self.during_mb = before_mb
        self.delays_ms: list[float] = []


async def _alone(house: House, words: int) -> list[Figure]:
    await house.simulate(f" {MOMENT}" * words, tokens_per_second=ALONE_PER_S)
    delays = []
    for server in (house.doors, house.passthrough):
        connection = await Connection.open(server.url)
        try:
            delays.append((await connection.ask(_requests(house, server, words)[0])).delays_ms())
        finally:
            connection.close()
    return _compared("one stream", delays[0], delays[1])


async def _together(house: House, server: Server, words: int) -> _Round:
    """All streams open at the same time; they begin one after the other, so that their words do too."""
    requests = _requests(house, server, words)
    found = _Round(resident_mb(server.pid))
    connections = [await Connection.open(server.url) for _ in range(MANY)]

    async def one(place: int, connection: Connection) -> None:
        await asyncio.sleep(place / MANY)
        answer = await connection.ask(requests[place % len(requests)])
        # The words of the first second come while other streams still begin: that is the latency's business.
        found.delays_ms.extend(answer.delays_ms()[MANY_PER_S:])

    async def look() -> None:
        await asyncio.sleep(max(1.1, words / MANY_PER_S))
        found.during_mb = resident_mb(server.pid)

    try:
        await asyncio.gather(look(), *(one(place, connection) for place, connection in enumerate(connections)))
    finally:
        for connection in connections:
            connection.close()
    return found


def _requests(house: House, server: Server, words: int) -> list[bytes]:
    ask = house.ask_doors if server is house.doors else house.ask_passthrough
    return ask(stream=True, max_tokens=words + 10)


def _compared(what: str, doors: list[float], passthrough: list[float]) -> list[Figure]:
    return [
        Figure(f"{what}, way of a word, p50", quantile(doors, 0.5), "ms", quantile(passthrough, 0.5)),
        Figure(
            f"{what}, way of a word, p99",
            quantile(doors, 0.99),
            "ms",
            quantile(passthrough, 0.99),
            Target(TARGET_MS, of="difference"),
        ),
    ]
