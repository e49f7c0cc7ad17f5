"""Records that the ledger could not take: kept on disk, replayed when the database is back.

`record_completion` writes a completion once however often it is called, so replaying twice is safe and losing is not.
Several processes may share one spool: appenders and replayers agree through flock and rename.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from shared import observability
from shared.errors import Failure, Unavailable


class Spool:
    """A file of JSON lines; without a path (Lambda has no disk that lasts) a structured log line."""

    def __init__(self, path: str | None) -> None:
        self._path = Path(path) if path else None

    async def keep(self, record: Mapping[str, Any]) -> None:
        """Keep a record. On return it is on disk (fsync), or in the log where there is no disk."""
        line = json.dumps(record, default=str)
        if self._path is None:
            observability.log_record(line)
        else:
            await asyncio.to_thread(_append, self._path, line)

    @property
    def waiting(self) -> bool:
        """Whether something waits to be replayed."""
        return self._path is not None and (self._path.exists() or _claimed(self._path).exists())

    async def replay(self, write: Callable[[Mapping[str, Any]], Awaitable[Any]]) -> int:
        """Hand every kept record to `write`, oldest first; forget each only after it was written.

        Returns how many are no longer waiting. Stops at the first `Unavailable`; the rest stays. A record that the
        database refuses is set aside in `<spool>.refused` and logged, so that it blocks nothing.
        """
        if self._path is None:
            return 0
        descriptor = await asyncio.to_thread(_claim, self._path)
        if descriptor is None:
            return 0
        try:
            lines = (await asyncio.to_thread(_claimed(self._path).read_text)).splitlines()
            for position, line in enumerate(lines):
                try:
                    await write(json.loads(line))
                except Unavailable:
                    await asyncio.to_thread(_keep_rest, _claimed(self._path), lines[position:])
                    return position
                except (Failure, ValueError) as error:
                    observability.log_problem("a spooled record was refused", error)
                    await asyncio.to_thread(_append, self._path.with_name(self._path.name + ".refused"), line)
            await asyncio.to_thread(_claimed(self._path).unlink)
            return len(lines)
        finally:
            os.close(descriptor)


def _claimed(path: Path) -> Path:
    return path.with_name(path.name + ".replaying")


def _claim(path: Path) -> int | None:
    """Take the spool away from the appenders and lock it. None: nothing there, or somebody else is at it."""
    claimed = _claimed(path)
    if not claimed.exists():
        try:
            path.rename(claimed)
        except FileNotFoundError:
            return None
    try:
        descriptor = os.open(claimed, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        # Waits for no one: an appender that opened the file before the rename still holds it, so we come again.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if not _is_same(descriptor, claimed):
        os.close(descriptor)
        return None
    return descriptor


def _append(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if _is_same(descriptor, path):
                os.write(descriptor, line.encode() + b"\n")
                os.fsync(descriptor)
                return
        finally:
            os.close(descriptor)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False


def _keep_rest(claimed: Path, lines: list[str]) -> None:
    scratch = claimed.with_name(claimed.name + ".rewriting")
    scratch.write_text("".join(line + "\n" for line in lines))
    scratch.replace(claimed)
