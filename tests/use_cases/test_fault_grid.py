"""The fault grid: what a caller, the ledger and the bill see of each fault of the far end.

`fault_grid.md` is the expectation. Each fault is met four times over real sockets: in a whole answer and in a stream,
by the first of several candidates and by the only one. `./dev test` prints the grid as it was seen.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from local.simulator import FAULTS
from shared.openrouter import OpenRouter, RetryPolicy, StreamTimers
from tests.use_cases.conftest import House

GRID = Path(__file__).parent / "fault_grid.md"
MODEL = "openai/gpt-4o-mini"
OTHER = "openai/gpt-4.1-mini"


def expected() -> dict[str, list[str]]:
    """The table's rows: fault -> its four cells."""
    rows = [line.strip("|\n ").split("|") for line in GRID.read_text().splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in rows}


@pytest.fixture
async def quick_house(house: House) -> AsyncIterator[House]:
    """The house with an OpenRouter client that waits for nothing, and gives up on silence after 1.5 seconds."""

    async def no_wait(seconds: float) -> None:
        return

    vars(house.services)["openrouter"] = OpenRouter(
        house.services.http,
        policy=RetryPolicy(attempt_s=1.5),
        timers=StreamTimers(first_token_s=1.5, gap_s=1.5),
        sleep=no_wait,
    )
    yield house


async def cell(house: House, fault: str, *, streamed: bool, alone: bool) -> str:
    """Meet the fault once; what was seen, in one cell."""
    await house.simulator.http.post("/_sim/reset")
    await house.ledger("delete from openrouter.completions returning 1")
    await house.simulator.fault(MODEL, fault)
    models = [MODEL] if alone else [MODEL, OTHER]
    body = {"message": "Tell me of the sea.", "models": models, "stream": streamed}
    async with house.http.stream("POST", "/casual-chat", json=body) as answer:
        text = (await answer.aread()).decode()
    seen = events(text) if "event-stream" in answer.headers["content-type"] else whole(text, answer.status_code)
    (await house.simulator.http.get("/_sim/idle")).raise_for_status()
    bill = Decimal((await house.simulator.bill())["total_cost"])
    return f"{seen} · {await money(house, bill)}"


def whole(text: str, status: int) -> str:
    answer = json.loads(text)
    if "error" in answer:
        return f"{status} {answer['error']['code']} · {attempts(answer['error']['attempts'])}"
    return f"{answer['outcome']} · {attempts(answer['attempts'])}"


def events(text: str) -> str:
    """The stream in one phrase; more or fewer than one terminal event, or text after it, would show here."""
    pieces = [block.split("\n") for block in text.strip().split("\n\n") if not block.startswith(":")]
    named = [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in pieces]
    last = named[-1][1]
    shape = " ".join(name for name, _ in groupby(name for name, _ in named))
    assert shape in ("start delta done", "start done"), shape
    return f"{last['outcome']} · {attempts(last['attempts'])}"


def attempts(listed: list[dict[str, Any]]) -> str:
    words = [str(attempt["code"] or "ok") for attempt in listed]
    runs = [(word, len(list(same))) for word, same in groupby(words)]
    return ", ".join(word if count == 1 else f"{word} x{count}" for word, count in runs) or "not asked"


async def money(house: House, bill: Decimal) -> str:
    """The ledger against the simulator's own bill."""
    rows = await house.ledger("select cost_usd, cost_source, unpriced_attempts from openrouter.completions")
    assert len(rows) <= 1
    if not rows:
        return "no record" if bill == 0 else f"BILLED {bill} UNRECORDED"
    cost, source, unpriced = rows[0]
    if source == "unknown":
        return "unknown"
    if unpriced:
        return f"known part, {unpriced} unpriced"
    if source != "provider":
        return str(source)
    assert cost == bill, f"ledger {cost}, bill {bill}"
    return "exact" if cost else "free"


@pytest.mark.parametrize("fault", sorted(expected()))
async def test_the_fault_is_met_as_the_grid_says(
    quick_house: House, fault: str, record_property: Callable[[str, object], None]
) -> None:
    """Outcome, attempts and cost, whole and streamed, with other candidates and without."""
    seen = [
        await cell(quick_house, fault, streamed=streamed, alone=alone)
        for streamed in (False, True)
        for alone in (False, True)
    ]
    record_property("fault_grid", f"| `{fault}` | {' | '.join(seen)} |")

    assert seen == expected()[fault]


def test_the_grid_is_large_and_every_row_is_a_fault() -> None:
    """Forty named faults at the least; none that the simulator does not know."""
    assert len(expected()) >= 40
    assert set(expected()) <= set(FAULTS)
