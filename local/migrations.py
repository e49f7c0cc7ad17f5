"""Brings a database to the state of the folder `sql`: migrations once, functions and seeds when they changed.

What ran is kept in `openrouter.schema_migrations`. A session advisory lock lets one runner work at a time, so the URL
must lead to a session (Supabase: port 5432, not the transaction pooler on 6543).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

SQL = Path(__file__).resolve().parent.parent / "sql"
CONNECT_WITHIN_S = 30.0

# Any number will do as long as nobody else takes it: "openrout" in ASCII.
_LOCK = int.from_bytes(b"openrout", "big")

_LEDGER = """
create schema if not exists openrouter;
create table if not exists openrouter.schema_migrations (
    kind        text not null check (kind in ('migration', 'function', 'seed')),
    name        text not null,
    sha256      text not null,
    applied_at  timestamptz not null default now(),
    primary key (kind, name)
);
comment on table openrouter.schema_migrations is 'Which file of sql/ this database has seen, and its hash.';
alter table openrouter.schema_migrations enable row level security;
revoke all on openrouter.schema_migrations from public;
"""

_REMEMBER = """
insert into openrouter.schema_migrations (kind, name, sha256) values ($1, $2, $3)
on conflict (kind, name) do update set sha256 = excluded.sha256, applied_at = now()
"""

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class CannotMigrate(Exception):
    """The database was not brought up to date; the message tells the person at the keyboard why."""


@dataclass(frozen=True, slots=True)
class Applied:
    """The files that ran, in order; empty when the database was up to date."""

    migrations: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.migrations or self.functions or self.seeds)


@dataclass(frozen=True, slots=True)
class _File:
    kind: str
    name: str
    path: Path
    text: str
    sha256: str


async def apply(
    url: str, folder: Path = SQL, *, report: Callable[[str], None] = lambda line: None, force: bool = False
) -> Applied:
    """Apply what this database has not seen. Raises CannotMigrate; a file that fails leaves nothing behind.

    `force` runs every function and seed again; a migration never runs twice. `report` gets one line per file.
    """
    migrations, functions, seeds = (_read(folder, kind) for kind in ("migration", "function", "seed"))
    if not migrations:
        raise CannotMigrate(f"There are no migrations in {folder / 'migrations'}.")
    _check_names(migrations)
    connection = await _connect(url)
    try:
        await _prepare(connection, report)
        seen = await _seen(connection)
        pending = _pending(migrations, seen["migration"])
        for file in pending:
            report(f"migration {file.name}")
            await _run(connection, [file])

        again = force or bool(pending)
        changed = [file for file in functions if again or seen["function"].get(file.name) != file.sha256]
        if changed:
            report(f"functions {', '.join(file.name for file in changed)}")
            await _run(connection, changed)

        due = [file for file in seeds if force or seen["seed"].get(file.name) != file.sha256]
        for file in due:
            report(f"seed {file.name}")
            await _run(connection, [file])

        await _forget(connection, "function", functions)
        await _forget(connection, "seed", seeds)
        applied = Applied(_names(pending), _names(changed), _names(due))
        if applied:
            # PostgREST keeps a picture of the schema until it is told.
            await connection.execute("notify pgrst, 'reload schema'")
        return applied
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
        raise CannotMigrate(f"The database refused the migration's own bookkeeping: {exc}") from exc
    finally:
        # Ending the session also lets go of the lock.
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=5)


def _read(folder: Path, kind: str) -> list[_File]:
    files = []
    for path in sorted((folder / f"{kind}s").glob("*.sql")):
        try:
            # A checkout may have changed the line ends; that is no change of the file.
            text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
        except UnicodeDecodeError as exc:
            raise CannotMigrate(f"{path} is not UTF-8.") from exc
        files.append(_File(kind, path.name, path, text, hashlib.sha256(text.encode()).hexdigest()))
    return files


def _check_names(migrations: list[_File]) -> None:
    """Numbered 0001, 0002, … without a gap or a double."""
    for expected, file in enumerate(migrations, start=1):
        match = _NAME.fullmatch(file.name)
        if match is None:
            raise CannotMigrate(f"{file.path} is not named like a migration: 0001_what_it_does.sql.")
        number = int(match[1])
        if number < expected:
            raise CannotMigrate(f"Two migrations have the number {match[1]}: {file.path} is one of them.")
        if number > expected:
            raise CannotMigrate(f"Migration {expected:04d} is missing: the next file is {file.path}.")


def _pending(migrations: list[_File], seen: dict[str, str]) -> list[_File]:
    """What is still to run; what already ran must be here, unchanged, and older than everything new."""
    here = {file.name: file for file in migrations}
    for name, sha256 in sorted(seen.items()):
        if name not in here:
            raise CannotMigrate(f"Migration {name} ran on this database, but its file is missing.")
        if here[name].sha256 != sha256:
            raise CannotMigrate(
                f"Migration {name} was changed after it ran on this database; "
                "put the file back as it was and write a new migration."
            )
    pending = [file for file in migrations if file.name not in seen]
    last = max(seen, default="")
    for file in pending:
        if file.name < last:
            raise CannotMigrate(
                f"Migration {file.name} is new but comes before {last}, which already ran; renumber it."
            )
    return pending


async def _connect(url: str) -> Any:
    try:
        return await asyncpg.connect(url, timeout=CONNECT_WITHIN_S)
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        # Words of our own: some of these messages quote the URL, and the password is in it.
        reason = str(exc) if isinstance(exc, asyncpg.PostgresError | OSError) else type(exc).__name__
        raise CannotMigrate(f"The database cannot be reached: {reason or type(exc).__name__}.") from None


async def _prepare(connection: Any, report: Callable[[str], None]) -> None:
    """Take the lock, then make sure of our table."""
    # Supabase gives roles a statement timeout; a migration and the wait for one may take longer.
    await connection.execute("set statement_timeout = 0; set lock_timeout = 0; set client_min_messages = warning")
    if not await connection.fetchval("select pg_try_advisory_lock($1)", _LOCK):
        report("waiting for another migration to end")
        await connection.execute(f"select pg_advisory_lock({_LOCK})")
    async with connection.transaction():
        await connection.execute(_LEDGER)


async def _seen(connection: Any) -> dict[str, dict[str, str]]:
    seen: dict[str, dict[str, str]] = {"migration": {}, "function": {}, "seed": {}}
    for kind, name, sha256 in await connection.fetch("select kind, name, sha256 from openrouter.schema_migrations"):
        seen[kind][name] = sha256
    return seen


async def _run(connection: Any, files: list[_File]) -> None:
    """Run files and remember them in one transaction."""
    transaction = connection.transaction()
    await transaction.start()
    for file in files:
        try:
            await connection.execute(file.text)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
            if connection.is_in_transaction():
                await transaction.rollback()
            raise CannotMigrate(_complaint(file, exc)) from exc
        if not connection.is_in_transaction():
            raise CannotMigrate(f"{file.path} ends its transaction itself; take commit and rollback out of it.")
        await connection.execute(_REMEMBER, file.kind, file.name, file.sha256)
    try:
        await transaction.commit()
    except asyncpg.PostgresError as exc:  # a constraint deferred to the end
        raise CannotMigrate(_complaint(files[-1], exc)) from exc


async def _forget(connection: Any, kind: str, files: list[_File]) -> None:
    await connection.execute(
        "delete from openrouter.schema_migrations where kind = $1 and name <> all($2::text[])", kind, _names(files)
    )


def _names(files: Iterable[_File]) -> tuple[str, ...]:
    return tuple(file.name for file in files)


def _complaint(file: _File, exc: Exception) -> str:
    """File and line, Postgres' message, and what else it had to say."""
    position = getattr(exc, "position", None)
    place = str(file.path)
    if position is not None:
        before = file.text[: int(position) - 1]
        place += f", line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
    lines = [f"{place}: {getattr(exc, 'message', None) or exc}"]
    for title, field in (("Detail", "detail"), ("Hint", "hint"), ("Where", "context")):
        if told := getattr(exc, field, None):
            lines.append(f"  {title}: {told}")
    return "\n".join(lines)
