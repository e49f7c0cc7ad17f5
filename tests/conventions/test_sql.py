"""Conventions of the SQL, asked of the catalogue of a real database."""

from __future__ import annotations

import asyncpg
import pytest

OURS = "n.nspname in ('openrouter', 'public')"

# Who may execute what; everything else is closed to these roles.
OPEN_FUNCTIONS = {
    "anon": {"get_models", "is_admin"},
    "authenticated": {
        "get_models",
        "is_admin",
        "get_my_usage",
        "get_openrouter_usage_stats",
        "compare_openrouter_models",
        "explain_route",
    },
}


async def names(connection: asyncpg.Connection, query: str) -> list[str]:
    return [row[0] for row in await connection.fetch(query)]


async def test_every_table_has_row_level_security(connection: asyncpg.Connection) -> None:
    """A table without RLS would be open to whoever has a grant."""
    open_tables = await names(
        connection,
        f"select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        f"where {OURS} and c.relkind in ('r', 'p') and not c.relrowsecurity",
    )
    assert open_tables == []


async def test_every_function_pins_its_search_path(connection: asyncpg.Connection) -> None:
    """A function with the caller's search_path can be made to call the caller's objects."""
    loose = await names(
        connection,
        f"select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
        f"where {OURS} and not coalesce(p.proconfig, '{{}}') @> array['search_path=\"\"']",
    )
    assert loose == []


async def test_every_function_and_table_is_commented(connection: asyncpg.Connection) -> None:
    """What an object is for is written on it."""
    mute = await names(
        connection,
        f"select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
        f"where {OURS} and obj_description(p.oid, 'pg_proc') is null "
        f"union all select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        f"where {OURS} and c.relkind in ('r', 'p') and obj_description(c.oid, 'pg_class') is null",
    )
    assert mute == []


async def test_no_function_is_overloaded(connection: asyncpg.Connection) -> None:
    """Two functions of one name make PostgREST's calls ambiguous."""
    twins = await names(
        connection,
        f"select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
        f"where {OURS} group by n.nspname, p.proname having count(*) > 1",
    )
    assert twins == []


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_only_the_named_functions_are_open(connection: asyncpg.Connection, role: str) -> None:
    """Deny by default: a new function is closed until it stands in the list above."""
    allowed = await names(
        connection,
        f"select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace "
        f"where {OURS} and has_function_privilege('{role}', p.oid, 'execute')",
    )
    assert set(allowed) == OPEN_FUNCTIONS[role]


async def test_nothing_is_granted_to_public(connection: asyncpg.Connection) -> None:
    """A grant to PUBLIC is a grant to everybody who ever connects."""
    granted = await names(
        connection,
        f"select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace, "
        f"aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as acl where {OURS} and acl.grantee = 0 "
        f"union all select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace, "
        f"aclexplode(c.relacl) as acl where {OURS} and acl.grantee = 0",
    )
    assert granted == []


@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
async def test_private_tables_are_out_of_reach(connection: asyncpg.Connection, role: str) -> None:
    """The ledger is reached through functions only, by servers too."""
    reachable = await names(
        connection,
        f"select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        f"where n.nspname = 'openrouter' and c.relkind in ('r', 'p') "
        f"and has_table_privilege('{role}', c.oid, 'select, insert, update, delete')",
    )
    assert reachable == []


async def test_every_foreign_key_has_an_index_and_says_what_a_delete_does(connection: asyncpg.Connection) -> None:
    """A foreign key without an index makes every delete a scan; without a rule, a puzzle."""
    bare = await names(
        connection,
        "select k.conname from pg_constraint k join pg_namespace n on n.oid = k.connamespace "
        f"where {OURS} and k.contype = 'f' and (k.confdeltype = 'a' or not exists ("
        "select from pg_index i where i.indrelid = k.conrelid "
        "and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey))",
    )
    assert bare == []


async def test_policies_ask_who_is_asking_once_per_statement(connection: asyncpg.Connection) -> None:
    """A function of the caller in a policy runs per row unless a select wraps it."""
    per_row = await names(
        connection,
        "select policyname from pg_policies where schemaname in ('public', 'openrouter') and ("
        "(qual ~ '(auth\\.|openrouter\\.)[a-z_]+\\(' and qual !~* 'select (auth|openrouter)\\.') or "
        "(with_check ~ '(auth\\.|openrouter\\.)[a-z_]+\\(' and with_check !~* 'select (auth|openrouter)\\.'))",
    )
    assert per_row == []
