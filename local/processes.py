"""Starting and ending Postgres' processes, those that an earlier launcher left behind too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from local.account import Account, CannotStart, environment

# Postgres' own three ways to stop: fast, immediate, and not asked.
STOPS = ((signal.SIGINT, 15.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
GUARD = str(Path(__file__).with_name("guard.py"))
VANISHED = (FileNotFoundError, ProcessLookupError, PermissionError)


def spawn(command: list[str], account: Account | None, log: int) -> subprocess.Popen[bytes]:
    """Start a program under the guard, in its own session: a Ctrl-C in the terminal is not meant for it.

    Both its outputs go to the descriptor `log`, which is closed here.
    """
    uid, gid = (account.uid, account.gid) if account else (-1, -1)
    with os.fdopen(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", GUARD, str(os.getpid()), str(uid), str(gid), *command],
            cwd="/",
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask, ask harder, then kill; returns with the process gone."""
    for how, patience_s in STOPS:
        if process.poll() is not None:
            return
        process.send_signal(how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)


def end_left_over(cluster: Path) -> None:
    """End what an earlier, killed launcher left running on this cluster, and remove its stale postmaster.pid.

    Call it only while holding the data folder's lock: then nobody else has a right to such a process.
    """
    left = _processes_of(cluster)
    for how, patience_s in STOPS:
        for pid in left:
            with suppress(*VANISHED):
                os.kill(pid, how)
        give_up = time.monotonic() + patience_s
        while left and time.monotonic() < give_up:
            time.sleep(0.02)
            left = _processes_of(cluster)
    if left:
        raise CannotStart(f"An earlier PostgreSQL still runs on {cluster} and does not end.")
    if sys.platform == "linux":
        # The number in it may belong to another process by now, and Postgres would refuse to start beside that.
        (cluster / "postmaster.pid").unlink(missing_ok=True)


def _processes_of(cluster: Path) -> list[int]:
    """Every living process of this cluster: initdb, the server, its sessions, and the guard on its way to them."""
    if sys.platform != "linux":
        return _postmaster_of(cluster)
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _works_on(cluster, entry)]


def _works_on(cluster: Path, process: Path) -> bool:
    """Told by /proc: a server works inside its cluster's folder, and initdb has it among its arguments."""
    with suppress(*VANISHED):
        arguments = process.joinpath("cmdline").read_bytes().split(b"\0")
        program = process.joinpath("exe").readlink().name
        if program.startswith("postgres") and process.joinpath("cwd").readlink() == cluster:
            return True
        ours = program.startswith(("postgres", "initdb")) or os.fsencode(GUARD) in arguments
        return ours and os.fsencode(cluster) in arguments
    return False


def _postmaster_of(cluster: Path) -> list[int]:
    try:
        pid = int((cluster / "postmaster.pid").read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return []
    told = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return [pid] if str(cluster) in told else []
