"""A connection is used again by the next call, and nothing of the call before is left on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from shared.database import Postgres
from shared.errors import Failure
from shared.identity import Caller

ANN = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
USER = Caller(kind="user", user_id=ANN, claims={"sub": ANN, "role": "authenticated"})

WHO = """
create function public.who_am_i() returns jsonb language sql volatile as $$
    select jsonb_build_object(
        'role', current_user,
        'sub', auth.uid(),
        'claims', coalesce(current_setting('request.jwt.claims', true), ''),
        'backend', pg_backend_pid()
    )
$$;
create function public.fail() returns jsonb language plpgsql volatile as $$
begin
    perform 1 / 0;
    return null;
end
$$;
create function public.wait_for_the_test() returns jsonb language sql volatile as $$
    select to_jsonb(pg_advisory_xact_lock(7) is null)
$$;
grant execute on function public.who_am_i(), public.fail(), public.wait_for_the_test() to anon, authenticated;
"""


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    await connection.execute(WHO)
    yield connection
    await connection.close()


@pytest.fixture
async def database(database_url: str, owner: Any) -> AsyncIterator[Postgres]:
    database = Postgres(SecretStr(database_url))
    yield database
    await database.close()


async def test_a_connection_is_used_again(database: Postgres) -> None:
    """The server's and a user's calls take turns on one connection, each as itself."""
    server = await database.call("who_am_i", {})
    user = await database.call("who_am_i", {}, USER)
    nobody = await database.call("who_am_i", {}, Caller(kind="anonymous"))
    server_again = await database.call("who_am_i", {})

    assert (user["role"], user["sub"], json.loads(user["claims"])["sub"]) == ("authenticated", ANN, ANN)
    assert (nobody["role"], nobody["sub"]) == ("anon", None)
    assert (server_again["role"], server_again["sub"], server_again["claims"]) == (server["role"], None, "")
    assert {each["backend"] for each in (user, nobody, server_again)} == {server["backend"]}


@pytest.mark.parametrize("failing", ["fail", "no_such_function"])
async def test_a_failed_call_of_a_user_leaves_nothing(database: Postgres, failing: str) -> None:
    """The role and the claims go with the transaction that failed."""
    server = await database.call("who_am_i", {})
    with pytest.raises(Failure):
        await database.call(failing, {}, USER)

    assert await database.call("who_am_i", {}) == server


async def test_a_cancelled_call_of_a_user_leaves_nothing(database: Postgres, owner: Any) -> None:
    """Cut off while the database works on it; the same connection serves the next call as the server."""
    server = await database.call("who_am_i", {})
    await owner.execute("select pg_advisory_lock(7)")
    call = asyncio.create_task(database.call("wait_for_the_test", {}, USER))
    async with asyncio.timeout(30):
        while not await owner.fetchval(
            "select exists (select from pg_locks where locktype = 'advisory' and not granted)"
        ):
            pass
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    assert await database.call("who_am_i", {}) == server


async def test_wherever_a_call_is_cut_off_nothing_is_left(database: Postgres) -> None:
    """Cancelled after each number of turns of the event loop: while it begins, becomes the user, asks, commits."""
    server = await database.call("who_am_i", {})
    del server["backend"]
    cut_off = 0
    turns = 0
    while True:
        call = asyncio.create_task(database.call("who_am_i", {}, USER))
        for _ in range(turns):
            await asyncio.sleep(0)
        call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            cut_off += 1
        else:
            break
        after = await database.call("who_am_i", {})
        del after["backend"]
        assert after == server
        turns += 1
    assert cut_off > 3


async def test_many_callers_at_once_are_each_themselves(database: Postgres) -> None:
    """More calls than connections, users and the server in turn."""
    subs = [f"aaaaaaaa-aaaa-4aaa-8aaa-{place:012}" if place % 3 else None for place in range(60)]

    async def call(sub: str | None) -> Any:
        caller = None if sub is None else Caller(kind="user", user_id=sub, claims={"sub": sub, "role": "authenticated"})
        return (await database.call("who_am_i", {}, caller))["sub"]

    assert await asyncio.gather(*map(call, subs)) == subs


async def test_no_function_of_ours_leaves_something_on_its_session(connection: Any) -> None:
    """What releasing a connection does not undo: settings, locks, listeners, temporary tables."""
    lasting = r"(set_config\([^;]*,\s*false\s*\)|pg_(try_)?advisory_lock|\mlisten\M|\mcreate\s+temp)"
    found = await connection.fetch(
        """
        select p.oid::regprocedure::text as name
          from pg_proc p join pg_namespace n on n.oid = p.pronamespace
         where n.nspname in ('public', 'openrouter', 'auth') and p.prosrc ~* $1
        """,
        lasting,
    )
    assert [row["name"] for row in found] == []
