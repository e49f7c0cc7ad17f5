"""One Postgres for a whole test run, started by the first test that asks and gone when the run ends.

Everybody meets in one folder, and locks tell who is alive: the run holds `run.lock` until it ends, however it ends;
the keeper, a process of its own, waits for that lock, stops the server and removes the folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local import postgres

PROJECT = Path(__file__).resolve().parents[2]
# The start includes initdb; several runs may share two cores.
READY_WITHIN_S = 180


class Run:
    """The side of the process that began the test run."""

    def __init__(self) -> None:
        self.folder = open_folder("openrouter-tests-")
        self._lock = _locked(self.folder / "run.lock")

    def close(self) -> None:
        """Let the keeper go, and return when it has gone."""
        keeper = os.open(self.folder / "keeper.lock", os.O_RDWR | os.O_CREAT, 0o600)
        os.close(self._lock)
        fcntl.flock(keeper, fcntl.LOCK_EX)
        os.close(keeper)
        shutil.rmtree(self.folder, ignore_errors=True)


def open_folder(prefix: str) -> Path:
    """A temporary folder that Postgres' user may enter; pytest's own are closed to everyone but root."""
    folder = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
    folder.chmod(0o711)
    return folder


def url(folder: Path) -> str:
    """The superuser's URL of the run's server, which is started if nobody asked before."""
    with exclusive(folder / "start.lock"):
        told = folder / "url"
        if not told.exists():
            with (folder / "keeper.log").open("wb") as log:
                subprocess.run(
                    [sys.executable, "-m", "tests.database.server", str(folder)],
                    cwd=PROJECT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=READY_WITHIN_S,
                    check=False,
                )
        if not told.exists():
            raise RuntimeError(f"The test database did not start: {(folder / 'keeper.log').read_text().strip()}")
        return told.read_text()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """One process at a time."""
    descriptor = _locked(path)
    try:
        yield
    finally:
        os.close(descriptor)


def keep(folder: Path) -> None:
    """Return when the server runs; a child of this process stays behind and keeps it until the run ends."""
    started, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os.read(started, 1)
        return
    os.close(started)
    os.setsid()
    # A Ctrl-C is meant for the run; the server goes after the last test has ended.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    alive = _locked(folder / "keeper.lock")
    with postgres.start(folder / "data", settings=postgres.THROWAWAY) as server:
        (folder / "url.new").write_text(server.url)
        (folder / "url.new").replace(folder / "url")
        os.close(tell)
        _locked(folder / "run.lock")
    shutil.rmtree(folder, ignore_errors=True)
    os.close(alive)


def _locked(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
