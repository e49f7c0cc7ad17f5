"""The migration runner: what it applies, what it refuses, and that nothing is ever half applied."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from local import migrations
from local.migrations import Applied, CannotMigrate

CREATE_BOOKS = "create table public.books (id int primary key, title text not null);"
ADD_AUTHOR = "alter table public.books add column author text;"
COUNT_BOOKS = (
    "create or replace function public.count_books() returns bigint language sql "
    "as 'select count(*) from public.books';"
)
TWICE = "create or replace function public.twice(n int) returns int language sql as 'select 2 * n';"
SEED = "insert into public.books (id, title) values (1, 'One') on conflict (id) do update set title = excluded.title;"


class Folder:
    """A small `sql` folder to write into."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def remove(self, name: str) -> None:
        (self.path / name).unlink()


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path)
    folder.write("migrations/0001_books.sql", CREATE_BOOKS)
    folder.write("migrations/0002_author.sql", ADD_AUTHOR)
    folder.write("functions/count_books.sql", COUNT_BOOKS)
    folder.write("functions/twice.sql", TWICE)
    folder.write("seeds/0001_books.sql", SEED)
    return folder


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(empty_database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def _tables(database: Any) -> set[str]:
    return {row[0] for row in await database.fetch("select tablename from pg_tables where schemaname = 'public'")}


async def test_a_fresh_database_gets_everything_in_order(
    folder: Folder, empty_database_url: str, database: Any
) -> None:
    """Migrations, then functions, then seeds; each file is reported as it runs."""
    reported: list[str] = []

    applied = await migrations.apply(empty_database_url, folder.path, report=reported.append)

    assert applied == Applied(
        ("0001_books.sql", "0002_author.sql"), ("count_books.sql", "twice.sql"), ("0001_books.sql",)
    )
    assert reported == [
        "migration 0001_books.sql",
        "migration 0002_author.sql",
        "functions count_books.sql, twice.sql",
        "seed 0001_books.sql",
    ]
    assert await database.fetchval("select public.count_books()") == 1


async def test_a_second_run_does_nothing(folder: Folder, empty_database_url: str, database: Any) -> None:
    """What ran is remembered."""
    await migrations.apply(empty_database_url, folder.path)
    before = await database.fetch("select * from openrouter.schema_migrations order by kind, name")

    applied = await migrations.apply(empty_database_url, folder.path)

    assert not applied
    assert await database.fetch("select * from openrouter.schema_migrations order by kind, name") == before


async def test_force_runs_functions_and_seeds_again_but_no_migration(folder: Folder, empty_database_url: str) -> None:
    """A migration runs once in its life; what is written to be repeated can be repeated."""
    await migrations.apply(empty_database_url, folder.path)

    applied = await migrations.apply(empty_database_url, folder.path, force=True)

    assert applied == Applied((), ("count_books.sql", "twice.sql"), ("0001_books.sql",))


async def test_only_the_changed_function_and_seed_run_again(
    folder: Folder, empty_database_url: str, database: Any
) -> None:
    """A changed file is noticed by its hash."""
    await migrations.apply(empty_database_url, folder.path)
    folder.write("functions/twice.sql", TWICE.replace("2 * n", "n + n"))
    folder.write("seeds/0001_books.sql", SEED.replace("One", "Uno"))

    applied = await migrations.apply(empty_database_url, folder.path)

    assert applied == Applied((), ("twice.sql",), ("0001_books.sql",))
    assert await database.fetchval("select title from public.books") == "Uno"


async def test_a_new_migration_applies_every_function_again(folder: Folder, empty_database_url: str) -> None:
    """A migration may have changed what a function stands on."""
    await migrations.apply(empty_database_url, folder.path)
    folder.write("migrations/0003_year.sql", "alter table public.books add column year int;")

    applied = await migrations.apply(empty_database_url, folder.path)

    assert applied == Applied(("0003_year.sql",), ("count_books.sql", "twice.sql"), ())


async def test_other_line_ends_are_no_change(folder: Folder, empty_database_url: str) -> None:
    """A checkout on another system must not look like an edited migration."""
    folder.write("migrations/0001_books.sql", CREATE_BOOKS + "\n")
    await migrations.apply(empty_database_url, folder.path)
    (folder.path / "migrations/0001_books.sql").write_bytes(CREATE_BOOKS.encode() + b"\r\n")

    assert not await migrations.apply(empty_database_url, folder.path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda folder: folder.write("migrations/0001_books.sql", CREATE_BOOKS + " -- edited"),
            "0001_books.sql was changed after it ran",
            id="an edited migration",
        ),
        pytest.param(
            lambda folder: folder.remove("migrations/0002_author.sql"),
            "0002_author.sql ran on this database, but its file is missing",
            id="a removed migration",
        ),
        pytest.param(
            lambda folder: folder.write("migrations/0004_later.sql", "select 1"),
            "Migration 0003 is missing",
            id="a gap",
        ),
        pytest.param(
            lambda folder: folder.write("migrations/0002_other.sql", "select 1"),
            "Two migrations have the number 0002",
            id="a number used twice",
        ),
        pytest.param(
            lambda folder: folder.write("migrations/add_year.sql", "select 1"),
            "not named like a migration",
            id="a name without a number",
        ),
        pytest.param(
            lambda folder: (folder.path / "functions/twice.sql").write_bytes(b"select '\xff'"),
            "is not UTF-8",
            id="bytes that are no text",
        ),
    ],
)
async def test_a_folder_that_contradicts_the_database_is_refused_before_anything_runs(
    folder: Folder, empty_database_url: str, database: Any, change: Any, message: str
) -> None:
    """The runner says which file is wrong and touches nothing, not even what would be right."""
    await migrations.apply(empty_database_url, folder.path)
    folder.write("functions/new.sql", TWICE.replace("twice", "new_one"))
    change(folder)

    with pytest.raises(CannotMigrate, match=message):
        await migrations.apply(empty_database_url, folder.path)

    assert await database.fetchval("select to_regproc('public.new_one')") is None


async def test_a_migration_that_comes_too_late_is_refused(
    folder: Folder, empty_database_url: str, database: Any
) -> None:
    """A file that this database has not seen may not be older than one it has."""
    await migrations.apply(empty_database_url, folder.path)
    await database.execute("delete from openrouter.schema_migrations where name = '0001_books.sql'")

    with pytest.raises(CannotMigrate, match=r"0001_books.sql is new but comes before 0002_author.sql"):
        await migrations.apply(empty_database_url, folder.path)


async def test_a_failing_migration_leaves_nothing_and_the_ones_before_stay(
    folder: Folder, empty_database_url: str, database: Any
) -> None:
    """Each migration is one transaction together with its record."""
    folder.write("migrations/0002_author.sql", "create table public.half (id int);\nselect\n  1 / 0;")

    with pytest.raises(CannotMigrate, match=r"0002_author\.sql.*division by zero"):
        await migrations.apply(empty_database_url, folder.path)

    assert await _tables(database) == {"books"}
    assert await database.fetchval("select array_agg(name) from openrouter.schema_migrations") == ["0001_books.sql"]


async def test_a_failing_function_file_takes_back_all_of_them(
    folder: Folder, empty_database_url: str, database: Any
) -> None:
    """Functions change together or not at all."""
    folder.write("functions/twice.sql", "create function public.twice() returns int language sql as 'select no_such';")

    with pytest.raises(CannotMigrate, match="no_such"):
        await migrations.apply(empty_database_url, folder.path)

    assert await database.fetchval("select to_regproc('public.count_books')") is None


async def test_an_error_names_file_line_and_column(folder: Folder, empty_database_url: str) -> None:
    """Where Postgres knows the place, the message says it in terms of the file."""
    folder.write("migrations/0002_author.sql", "-- why\nselect 1;\nselect 'é', nothing from public.books;")

    with pytest.raises(CannotMigrate, match=r'0002_author\.sql, line 3, column 13: column "nothing" does not exist'):
        await migrations.apply(empty_database_url, folder.path)


async def test_a_file_that_ends_its_own_transaction_is_refused(folder: Folder, empty_database_url: str) -> None:
    """A commit inside a file would let half of it stay."""
    folder.write("migrations/0002_author.sql", "commit;")

    with pytest.raises(CannotMigrate, match="ends its transaction itself"):
        await migrations.apply(empty_database_url, folder.path)


@pytest.mark.parametrize("runners", [2, 5])
async def test_runners_that_start_at_once_take_turns(
    folder: Folder, empty_database_url: str, database: Any, runners: int
) -> None:
    """One does the work, the others find it done."""
    done = await asyncio.gather(*(migrations.apply(empty_database_url, folder.path) for _ in range(runners)))

    assert sorted(len(applied.migrations) for applied in done) == [0] * (runners - 1) + [2]
    assert await database.fetchval("select count(*) from openrouter.schema_migrations") == 5


async def test_the_record_is_closed_to_everyone_else(folder: Folder, empty_database_url: str, database: Any) -> None:
    """Row security is on and the public has no right to the table."""
    await migrations.apply(empty_database_url, folder.path)

    table = "openrouter.schema_migrations"
    assert await database.fetchval("select relrowsecurity from pg_class where oid = $1::text::regclass", table)
    to_the_public = "select count(*) from pg_class, aclexplode(relacl) where oid = $1::text::regclass and grantee = 0"
    assert await database.fetchval(to_the_public, table) == 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("postgresql://someone:hush@127.0.0.1:1/x", "cannot be reached", id="nobody listens"),
        pytest.param("mysql://someone:hush@127.0.0.1/x", "cannot be reached", id="not a Postgres URL"),
    ],
)
async def test_an_unreachable_database_is_one_sentence_without_the_password(
    folder: Folder, url: str, message: str
) -> None:
    """What cannot be reached is said plainly, and the password stays out of it."""
    with pytest.raises(CannotMigrate, match=message) as refused:
        await migrations.apply(url, folder.path)

    assert "hush" not in str(refused.value)


async def test_a_missing_folder_is_refused(tmp_path: Path, empty_database_url: str) -> None:
    """A wrong path must not look like a database that is up to date."""
    with pytest.raises(CannotMigrate, match="There are no migrations in"):
        await migrations.apply(empty_database_url, tmp_path / "nowhere")


async def test_our_own_sql_applies_once_and_its_functions_and_seeds_again(empty_database_url: str) -> None:
    """On a fresh database everything runs, then nothing, and forced again over the filled database."""
    first = await migrations.apply(empty_database_url)
    second = await migrations.apply(empty_database_url)
    forced = await migrations.apply(empty_database_url, force=True)

    assert first.migrations
    assert not second
    assert forced == Applied((), first.functions, first.seeds)
