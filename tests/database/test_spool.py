"""The spool: what the ledger could not take is kept, in order, and handed over once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.errors import Internal, Unavailable
from shared.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(str(tmp_path / "deep" / "spool.jsonl"))


async def test_records_come_back_in_order_and_once(spool: Spool) -> None:
    """Kept, replayed, forgotten."""
    for number in range(3):
        await spool.keep({"number": number})
    seen: list[Mapping[str, Any]] = []

    async def write(record: Mapping[str, Any]) -> None:
        seen.append(record)

    assert spool.waiting
    assert await spool.replay(write) == 3
    assert await spool.replay(write) == 0
    assert not spool.waiting
    assert seen == [{"number": 0}, {"number": 1}, {"number": 2}]


async def test_what_cannot_be_written_yet_stays(spool: Spool) -> None:
    """The database goes away again in the middle: the rest waits for the next time."""
    for number in range(3):
        await spool.keep({"number": number})
    seen: list[int] = []

    async def write(record: Mapping[str, Any]) -> None:
        if record["number"] == 1 and 1 not in seen:
            seen.append(1)
            raise Unavailable()
        seen.append(int(record["number"]))

    assert await spool.replay(write) == 1
    await spool.keep({"number": 3})
    assert await spool.replay(write) == 2
    assert await spool.replay(write) == 1
    assert seen == [0, 1, 1, 2, 3]


async def test_a_refused_record_is_set_aside_and_blocks_nothing(spool: Spool, tmp_path: Path) -> None:
    """It is not lost either: a file beside the spool holds it."""
    await spool.keep({"bad": True})
    await spool.keep({"bad": False})
    seen: list[Mapping[str, Any]] = []

    async def write(record: Mapping[str, Any]) -> None:
        if record["bad"]:
            raise Internal()
        seen.append(record)

    await spool.replay(write)

    assert seen == [{"bad": False}]
    assert (tmp_path / "deep" / "spool.jsonl.refused").read_text() == '{"bad": true}\n'


async def test_a_replay_that_died_is_taken_up_again(tmp_path: Path) -> None:
    """The process was killed after it claimed the spool: the next one finds the claimed file."""
    (tmp_path / "spool.replaying").write_text('{"number": 7}\n')
    seen: list[Mapping[str, Any]] = []

    async def write(record: Mapping[str, Any]) -> None:
        seen.append(record)

    assert await Spool(str(tmp_path / "spool")).replay(write) == 1
    assert seen == [{"number": 7}]


async def test_keeping_and_replaying_at_once_loses_nothing(tmp_path: Path) -> None:
    """Two replayers and two hundred appenders on one file, as several processes would be."""
    path = str(tmp_path / "spool")
    seen: list[int] = []

    async def write(record: Mapping[str, Any]) -> None:
        seen.append(int(record["number"]))
        await asyncio.sleep(0)

    async def replay(spool: Spool) -> None:
        for _ in range(40):
            await spool.replay(write)

    keepers = [Spool(path).keep({"number": number}) for number in range(200)]
    await asyncio.gather(*keepers, replay(Spool(path)), replay(Spool(path)))
    last = Spool(path)
    while last.waiting:
        await last.replay(write)

    assert sorted(seen) == list(range(200))


async def test_without_a_path_the_record_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """On Lambda there is no disk that lasts: the log is the spool."""
    await Spool(None).keep({"completion_id": "c-1"})

    assert "c-1" in str(vars(caplog.records[-1]))
