"""The database that tests share: one server for the run, one template made from `sql`, a clone for every test."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from local import migrations
from shared.database import speak_json
from tests.database import server

# Set for the workers of pytest-xdist, which inherit the environment of the run.
RUN_FOLDER = "OPENROUTER_TEST_RUN"

_RUN = pytest.StashKey[server.Run]()
_T = TypeVar("_T")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        run = server.Run()
        config.stash[_RUN] = run
        os.environ[RUN_FOLDER] = str(run.folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    run = config.stash.get(_RUN, None)
    if run is not None:
        template = run.folder / "template"
        if "DATABASE_URL" in os.environ and template.exists():
            _in_own_loop(_drop(os.environ["DATABASE_URL"], template.read_text()))
        run.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tests may hand in a row of a table (`record_property`); the tables are printed with the results."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = [value for report in reports for name, value in report.user_properties if name == "fault_grid"]
    if rows:
        terminalreporter.section("fault grid: outcome, attempts, cost (whole x2, stream x2)")
        terminalreporter.write_line("\n".join(sorted(rows)))


@pytest.fixture(scope="session")
def server_url() -> str:
    """A superuser's URL of a running server; it has databases, but nothing of ours in `postgres`."""
    return os.environ.get("DATABASE_URL") or server.url(_folder())


@pytest.fixture(scope="session")
def template(server_url: str) -> str:
    """The name of a database with everything in `sql`; made once for the run, then closed to connections."""
    known, failed = _folder() / "template", _folder() / "template.failed"
    with server.exclusive(_folder() / "template.lock"):
        if failed.exists():
            pytest.fail(failed.read_text(), pytrace=False)
        if not known.exists():
            name = f"test_template_{secrets.token_hex(6)}"
            try:
                _in_own_loop(_make_template(server_url, name))
            except migrations.CannotMigrate as exc:
                failed.write_text(str(exc))
                pytest.fail(str(exc), pytrace=False)
            known.write_text(name)
        return known.read_text()


@pytest.fixture
async def empty_database_url(server_url: str) -> AsyncIterator[str]:
    """A fresh database with nothing in it."""
    async with _database(server_url, "template0") as url:
        yield url


@pytest.fixture
async def database_url(server_url: str, template: str) -> AsyncIterator[str]:
    """A fresh database with everything in `sql`, for this test alone."""
    async with _database(server_url, template) as url:
        yield url


@pytest.fixture(scope="session")
def shared_database_url(server_url: str, template: str) -> Iterator[str]:
    """One clone for all tests of a worker that roll back what they do."""
    name = f"test_shared_{os.getpid()}_{secrets.token_hex(6)}"
    _in_own_loop(_administer(server_url, f"create database {name} template {template} strategy file_copy"))
    yield with_database(server_url, name)
    _in_own_loop(_administer(server_url, f"drop database {name} with (force)"))


@pytest.fixture
async def connection(shared_database_url: str) -> AsyncIterator[Any]:
    """A superuser's connection, within a transaction that is rolled back after the test. JSON comes as values."""
    connection = await asyncpg.connect(shared_database_url)
    try:
        await speak_json(connection)
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()
    finally:
        await connection.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Any]:
    """A superuser's pool of up to ten connections to a database of this test alone. JSON comes as values."""
    async with asyncpg.create_pool(database_url, min_size=0, max_size=10, init=speak_json) as pool:
        yield pool


@asynccontextmanager
async def as_role(
    connection: Any, role: str, sub: str | None = None, *, admin: bool = False, **claims: Any
) -> AsyncIterator[Any]:
    """Be anon, a user (authenticated), an admin or service_role, as PostgREST would; rolled back at the end."""
    told = {"role": role, "app_metadata": {"role": "admin"} if admin else {}, **claims}
    if sub is not None:
        told["sub"] = sub
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(
            "select set_config('request.jwt.claims', $1, true), set_config('role', $2, true)", json.dumps(told), role
        )
        yield connection
    finally:
        await transaction.rollback()


def with_database(url: str, name: str) -> str:
    """The same server and user, another database."""
    return urlsplit(url)._replace(path=f"/{name}").geturl()


@asynccontextmanager
async def _database(server_url: str, template: str) -> AsyncIterator[str]:
    name = f"test_{os.getpid()}_{secrets.token_hex(6)}"
    administration = await asyncpg.connect(server_url)
    try:
        # Copying files is four times quicker here than writing them through the log.
        await administration.execute(f"create database {name} template {template} strategy file_copy")
        try:
            yield with_database(server_url, name)
        finally:
            await administration.execute(f"drop database {name} with (force)")
    finally:
        await administration.close()


async def _administer(server_url: str, statement: str) -> None:
    administration = await asyncpg.connect(server_url)
    try:
        await administration.execute(statement)
    finally:
        await administration.close()


async def _make_template(server_url: str, name: str) -> None:
    administration = await asyncpg.connect(server_url)
    try:
        await administration.execute(f"create database {name} template template0")
        try:
            await migrations.apply(with_database(server_url, name))
        except migrations.CannotMigrate:
            await administration.execute(f"drop database {name} with (force)")
            raise
        # A database that somebody is connected to cannot be cloned.
        await administration.execute(f"alter database {name} with is_template true allow_connections false")
    finally:
        await administration.close()


async def _drop(server_url: str, template: str) -> None:
    administration = await asyncpg.connect(server_url)
    try:
        await administration.execute(f"alter database {template} with is_template false")
        await administration.execute(f"drop database {template}")
    finally:
        await administration.close()


def _folder() -> Path:
    return Path(os.environ[RUN_FOLDER])


def _in_own_loop(work: Coroutine[Any, Any, _T]) -> _T:
    """Run asynchronous work from a fixture that is not: a loop of its own leaves the tests' loops alone."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
