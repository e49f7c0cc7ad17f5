"""One Postgres of our own on this machine: set up, started, and stopped with the process that started it.

It listens on 127.0.0.1 only, asks for a password, and never runs as root. Only the standard library is used here and
in the rooms beside it that it needs, so any Python can start it.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from local import binaries as programs
from local.account import Account, CannotStart, account_for, can_enter, default_data
from local.binaries import Binaries
from local.data_folder import DataFolder
from local.processes import end, end_left_over, spawn

__all__ = ["DEVELOPMENT", "THROWAWAY", "CannotStart", "Postgres", "default_data", "free_port", "running_url", "start"]

SUPERUSER = "postgres"
DATABASE = "postgres"
READY_WITHIN_S = 120.0
LOG_KEPT_BYTES = 10_000_000

DEVELOPMENT = {
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "max_connections": "200",
    # Nothing replicates from here, so the log of changes may be short.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    # Compiling a plan costs more than running it at this size.
    "jit": "off",
}

# Durability given up for speed; only for data that may be lost, as in tests.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Postgres:
    """A running server. `stop()` may be called twice; a `with` block stops it at its end."""

    def __init__(self, data: Path, port: int, password: str, process: subprocess.Popen[bytes], lock: int) -> None:
        self.data = data
        self.port = port
        self._password = password
        self._process = process
        self._lock = lock

    @property
    def url(self) -> str:
        """The superuser's URL."""
        return self.url_for(SUPERUSER, self._password)

    def url_for(self, user: str, password: str, database: str = DATABASE) -> str:
        return _url(self.port, user, password, database)

    @property
    def alive(self) -> bool:
        """False when the server ended without being asked."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End every session, write everything down, and let go of the data folder."""
        if self._lock < 0:
            return
        end(self._process)
        os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def start(data: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None) -> Postgres:
    """Start the server of this data folder, making the folder on first use. Raises CannotStart.

    Call it from a thread that lives as long as the server should: on Linux the server ends with that thread.
    """
    folder = DataFolder(data)
    lock = folder.lock()
    try:
        account = account_for(folder.path)
        _let_in(account, folder)
        binaries = programs.within_reach(programs.find(), account, folder.path)
        if folder.cluster.exists():
            end_left_over(folder.cluster)
            _check_major(folder, binaries)
        else:
            _initialise(folder, binaries, account, throwaway=(settings or {}).get("fsync") == "off")
        password = folder.read("password")
        if password is None:
            raise CannotStart(f"The data folder {folder.path} has lost its file 'password'; remove it to start empty.")
        process, chosen = _launch(folder, binaries, account, port, {**DEVELOPMENT, **(settings or {})})
        return Postgres(folder.path, chosen, password, process, lock)
    except OSError as exc:
        os.close(lock)
        raise CannotStart(f"PostgreSQL cannot use {folder.path}: {exc.strerror} ({exc.filename}).") from exc
    except BaseException:
        os.close(lock)
        raise


def running_url(data: Path) -> str | None:
    """The superuser's URL of the server that another process runs on this folder, or None if none does."""
    folder = DataFolder(data)
    give_up = time.monotonic() + READY_WITHIN_S
    while folder.locked and time.monotonic() < give_up:
        port, password = folder.read("port"), folder.read("password")
        if port and password and _takes_connections(int(port)):
            return _url(int(port), SUPERUSER, password, DATABASE)
        time.sleep(0.05)
    return None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _let_in(account: Account | None, folder: DataFolder) -> None:
    """Open our own folder, and nothing above it, for the server's user to pass."""
    if account is None or can_enter(folder.path, account):
        return
    folder.path.chmod(folder.path.stat().st_mode | 0o011)
    if not can_enter(folder.path, account):
        raise CannotStart(
            f"PostgreSQL does not run as root, and its user '{account.name}' cannot reach {folder.path}; "
            "name a folder that is not inside a private one with --data."
        )


def _initialise(folder: DataFolder, binaries: Binaries, account: Account | None, *, throwaway: bool) -> None:
    """Make the cluster under another name first, so that a half-made one is never taken for a whole one."""
    partial = folder.path / "cluster.partial"
    password_file = folder.path / "initdb.password"
    if partial.exists():
        end_left_over(partial)
        shutil.rmtree(partial)
    partial.mkdir(mode=0o700)
    folder.write(password_file.name, folder.secret("password"))
    if account is not None:
        for path in (partial, password_file):
            os.chown(path, account.uid, account.gid)
    # Since 17 Postgres brings C.UTF-8 itself; before, the machine has it or not.
    builtin = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = [
        *(binaries["initdb"], "--pgdata", str(partial), "--username", SUPERUSER, "--pwfile", str(password_file)),
        *("--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"),
        *(builtin if binaries.major >= 17 else ["--locale=C.UTF-8"]),
        *(["--no-sync"] if throwaway else []),
    ]
    process = spawn(command, account, folder.open_log())
    try:
        if process.wait() != 0:
            raise CannotStart(f"PostgreSQL could not be set up: {_last_complaint(folder.log)} (see {folder.log}).")
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        password_file.unlink(missing_ok=True)
    partial.rename(folder.cluster)


def _check_major(folder: DataFolder, binaries: Binaries) -> None:
    made_by, here = (folder.cluster / "PG_VERSION").read_text().strip(), str(binaries.major)
    if made_by != here:
        raise CannotStart(
            f"The data folder {folder.path} was made by PostgreSQL {made_by} and here is PostgreSQL {here}; "
            "name another folder with --data, or remove it to start empty."
        )


def _launch(
    folder: DataFolder, binaries: Binaries, account: Account | None, port: int | None, settings: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], int]:
    """Start the server on the wished, the remembered or a free port, and wait until it takes connections."""
    if port is not None and not _is_free(port):
        raise CannotStart(f"Port {port} is in use by another program; name another one.")
    if folder.log.exists() and folder.log.stat().st_size > LOG_KEPT_BYTES:
        folder.log.replace(folder.log.with_suffix(".log.old"))
    remembered = int(folder.read("port") or 0)
    chosen = port if port is not None else remembered if remembered and _is_free(remembered) else free_port()
    for tries_left in (2, 1, 0):
        begin = folder.log.stat().st_size if folder.log.exists() else 0
        folder.write("port", str(chosen))
        process = spawn(_command(folder, binaries, chosen, settings), account, folder.open_log())
        try:
            if _became_ready(process, folder.cluster):
                return process, chosen
        except BaseException:
            end(process)
            raise
        # Another program may have taken the port between our look and the server's.
        if not tries_left or port is not None or "Address already in use" not in _log_since(folder.log, begin):
            break
        chosen = free_port()
    raise CannotStart(f"PostgreSQL did not start: {_last_complaint(folder.log, begin)} (see {folder.log}).")


def _command(folder: DataFolder, binaries: Binaries, port: int, settings: Mapping[str, str]) -> list[str]:
    fixed = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(port)}
    options = [word for name, value in {**settings, **fixed}.items() for word in ("-c", f"{name}={value}")]
    return [binaries["postgres"], "-D", str(folder.cluster), *options]


def _became_ready(process: subprocess.Popen[bytes], cluster: Path) -> bool:
    """True when the server takes connections, False when it ended; recovery after a crash may take its time."""
    give_up = time.monotonic() + READY_WITHIN_S
    while process.poll() is None:
        try:
            lines = (cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            lines = []
        # Line 1 is the process, line 8 its state, as pg_ctl reads them.
        if lines[:1] == [str(process.pid)] and "".join(lines[7:8]).strip() == "ready":
            return True
        if time.monotonic() > give_up:
            raise CannotStart(f"PostgreSQL is not ready after {READY_WITHIN_S:.0f} seconds.")
        time.sleep(0.01)
    return False


def _takes_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Postgres does: a closed connection that still lingers does not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as exc:
            if exc.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def _log_since(log: Path, begin: int) -> str:
    return log.read_bytes()[begin:].decode(errors="replace")


def _last_complaint(log: Path, begin: int = 0) -> str:
    lines = _log_since(log, begin).splitlines()
    complaints = [line for line in lines if any(word in line for word in ("FATAL:", "PANIC:", "error:"))]
    return (complaints or lines or ["it left no message"])[-1].strip()


def _url(port: int, user: str, password: str, database: str) -> str:
    # The server speaks no TLS; saying so spares every client an attempt at it.
    who = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"postgresql://{who}@127.0.0.1:{port}/{quote(database, safe='')}?sslmode=disable"
