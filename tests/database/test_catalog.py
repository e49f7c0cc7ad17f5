"""Providers, models, prices and presets: what the seeds give, what admins may do, what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.conftest import as_role

USER = "11111111-1111-4111-8111-111111111111"

HERE = Path(__file__).parent
# The INSERT statements of the manual, verbatim.
MANUAL = (HERE / "manual.sql").read_text()
SEEDS = [path.read_text() for path in sorted((HERE.parents[1] / "sql" / "seeds").glob("*.sql"))]


async def empty_catalog(connection: asyncpg.Connection) -> None:
    """As after the migrations and before the seeds."""
    await connection.execute(
        "delete from public.api_providers; delete from public.use_case_presets; delete from openrouter.settings"
    )


async def test_the_manuals_inserts_run_unmodified(connection: asyncpg.Connection) -> None:
    """Five models with the manual's nominal cost; names are filled in."""
    await empty_catalog(connection)

    await connection.execute(MANUAL)

    rows = await connection.fetch("select display_name, cost_per_request from api_models order by cost_per_request")
    assert [tuple(map(str, row)) for row in rows] == [
        ("claude-3.5-haiku", "0.0015"),
        ("gpt-3.5-turbo", "0.0035"),
        ("claude-3.5-sonnet", "0.018"),
        ("gpt-4-turbo", "0.04"),
        ("gpt-4", "0.09"),
    ]
    assert await connection.fetchval("select secret_name from api_providers") == "OPENROUTER_API_KEY"


async def test_the_seeds_join_the_manuals_rows_without_duplicates(connection: asyncpg.Connection) -> None:
    """Who ran the manual's SQL first keeps its rows, and gets the rest beside them."""
    await empty_catalog(connection)
    await connection.execute(MANUAL)

    for text in SEEDS * 2:
        await connection.execute(text)

    assert await connection.fetchval("select count(*) from api_providers where provider_type = 'openrouter'") == 1
    assert await connection.fetchval("select count(*) from api_models where model_version = 'openai/gpt-4'") == 1
    assert await connection.fetchval("select is_active from api_models where model_version = 'openai/gpt-4'")
    assert (
        await connection.fetchval("select context_length from api_models where model_version = 'openai/gpt-4'") == 8191
    )


async def test_the_seven_models_are_there_with_the_manuals_prices(connection: asyncpg.Connection) -> None:
    """Prices per 1,000 tokens as the manual writes them; Mistral's is unknown, not zero."""
    rows = await connection.fetch(
        "select m.model_version, p.input_per_token * 1000 as input, p.output_per_token * 1000 as output "
        "from api_models m left join api_model_prices p on p.model_id = m.id and p.valid_from = '2025-01-01Z' "
        "where m.model_version in ('anthropic/claude-3.5-sonnet', 'anthropic/claude-3.5-haiku', 'openai/gpt-4', "
        "'openai/gpt-4-turbo', 'openai/gpt-3.5-turbo', 'meta-llama/llama-3.1-8b-instruct', "
        "'mistralai/mistral-7b-instruct')"
    )
    found = {
        slug: None if given is None else (given.normalize(), taken.normalize())
        for slug, given, taken in map(tuple, rows)
    }
    assert {slug: price and tuple(map(str, price)) for slug, price in found.items()} == {
        "anthropic/claude-3.5-sonnet": ("0.003", "0.015"),
        "anthropic/claude-3.5-haiku": ("0.00025", "0.00125"),
        "openai/gpt-4": ("0.03", "0.06"),
        "openai/gpt-4-turbo": ("0.01", "0.03"),
        "openai/gpt-3.5-turbo": ("0.0015", "0.002"),
        "meta-llama/llama-3.1-8b-instruct": ("0.0002", "0.0002"),
        "mistralai/mistral-7b-instruct": None,
    }


async def test_every_use_case_has_three_live_candidates(connection: asyncpg.Connection) -> None:
    """A fallback needs somewhere to fall."""
    rows = await connection.fetch(
        "select s.use_case, count(m.id) from use_case_presets s join use_case_models u using (use_case) "
        "join api_models m on m.id = u.model_id and m.is_active group by 1"
    )
    assert len(rows) == 5
    assert [row for row in rows if row[1] < 3] == []


@pytest.mark.parametrize(
    ("use_case", "first_choice", "answers"),
    [
        ("roleplay", "anthropic/claude-3.5-sonnet", "anthropic/claude-sonnet-4.6"),
        ("storytelling", "openai/gpt-4", "openai/gpt-4.1"),
        ("prompt_enhancement", "anthropic/claude-3.5-haiku", "anthropic/claude-haiku-4.5"),
        ("casual_chat", "openai/gpt-3.5-turbo", "openai/gpt-4o-mini"),
        ("creative_writing", "openai/gpt-4", "openai/gpt-4.1"),
    ],
)
async def test_the_manuals_model_map_stands_and_its_successors_answer(
    connection: asyncpg.Connection, use_case: str, first_choice: str, answers: str
) -> None:
    """The first rank is the manual's; it is retired, so its successor leads the plan."""
    ranked = await connection.fetchval(
        "select m.model_version from use_case_models u join api_models m on m.id = u.model_id "
        "where u.use_case = $1 order by u.rank limit 1",
        use_case,
    )
    plan = await connection.fetchval(
        "select plan_completion(jsonb_build_object('use_case', $1::text, 'caller', 'user'))", use_case
    )
    assert ranked == first_choice
    assert plan["candidates"][0]["model"] == answers


@pytest.mark.parametrize(
    ("use_case", "params"),
    [
        ("roleplay", {"temperature": "0.8", "top_p": "0.9", "max_tokens": "300"}),
        ("storytelling", {"temperature": "0.7", "top_p": "0.9", "max_tokens": "1000"}),
        ("prompt_enhancement", {"temperature": "0.5", "top_p": "0.9", "max_tokens": "200"}),
        ("casual_chat", {"temperature": "0.7", "top_p": "0.9", "max_tokens": "500"}),
        ("creative_writing", {"temperature": "0.8", "top_p": "0.9", "max_tokens": "1000"}),
    ],
)
async def test_presets_are_the_manuals(connection: asyncpg.Connection, use_case: str, params: dict[str, str]) -> None:
    """Temperature, top_p and token limit of each optimiser."""
    plan = await connection.fetchval(
        "select plan_completion(jsonb_build_object('use_case', $1::text, 'caller', 'user'))", use_case
    )
    assert {name: str(value) for name, value in plan["candidates"][0]["params"].items()} == params


async def test_the_request_wins_over_the_row_and_the_row_over_the_preset(connection: asyncpg.Connection) -> None:
    """request > model row > use-case preset > default; an explicit 0 is a value."""
    await connection.execute(
        'update api_models set input_defaults = \'{"temperature": 0.3, "min_p": 0.05}\' '
        "where model_version = 'openai/gpt-4o-mini'"
    )
    await connection.execute("update use_case_presets set top_p = null where use_case = 'casual_chat'")

    plan = await connection.fetchval(
        "select plan_completion($1)", {"use_case": "casual_chat", "caller": "user", "params": {"max_tokens": 7}}
    )
    zero = await connection.fetchval(
        "select plan_completion($1)", {"use_case": "casual_chat", "caller": "user", "params": {"temperature": 0}}
    )

    params = {name: str(value) for name, value in plan["candidates"][0]["params"].items()}
    assert params == {"temperature": "0.3", "top_p": "0.9", "max_tokens": "7", "min_p": "0.05"}
    assert str(zero["candidates"][0]["params"]["temperature"]) == "0"


async def test_a_named_model_is_first_and_the_use_case_follows(connection: asyncpg.Connection) -> None:
    """`model` chooses who is asked first; a list chooses everybody who is asked."""
    named = await connection.fetchval(
        "select plan_completion($1)", {"use_case": "roleplay", "caller": "user", "model": "openai/gpt-4o"}
    )
    listed = await connection.fetchval(
        "select plan_completion($1)",
        {"use_case": "roleplay", "caller": "user", "models": ["openai/gpt-4o", "mistralai/mistral-nemo"]},
    )
    assert [c["model"] for c in named["candidates"]][:2] == ["openai/gpt-4o", "anthropic/claude-sonnet-4.6"]
    assert [c["model"] for c in listed["candidates"]] == ["openai/gpt-4o", "mistralai/mistral-nemo"]


async def test_a_retired_name_is_answered_by_its_successor_and_by_itself_for_admins(
    connection: asyncpg.Connection,
) -> None:
    """Old frontends keep working; an admin may still select the retired row."""
    request = {"use_case": "roleplay", "model": "anthropic/claude-3.5-sonnet"}

    user = await connection.fetchval("select plan_completion($1)", {**request, "caller": "user"})
    admin = await connection.fetchval("select plan_completion($1)", {**request, "caller": "admin"})

    assert user["candidates"][0]["model"] == "anthropic/claude-sonnet-4.6"
    assert admin["candidates"][0]["model"] == "anthropic/claude-3.5-sonnet"


async def test_a_ring_of_successors_ends_in_a_refusal(connection: asyncpg.Connection) -> None:
    """Admins can tie a knot; the plan must not spin in it."""
    await connection.execute(
        "update api_models a set is_active = false, replaced_by = b.id from api_models b "
        "where (a.model_version, b.model_version) in (('openai/gpt-4o', 'openai/gpt-4.1'), "
        "('openai/gpt-4.1', 'openai/gpt-4o'))"
    )
    plan = await connection.fetchval(
        "select plan_completion($1)", {"use_case": "roleplay", "caller": "user", "model": "openai/gpt-4o"}
    )
    assert plan["refusal"]["code"] == "MODEL_NOT_FOUND"


@pytest.mark.parametrize(
    ("request_body", "code", "field"),
    [
        ({"use_case": "nonsense"}, "VALIDATION_ERROR", "use_case"),
        ({"use_case": None}, "VALIDATION_ERROR", "use_case"),
        ({"use_case": "roleplay", "model": "no/such"}, "MODEL_NOT_FOUND", "model"),
        ({"use_case": "roleplay", "models": ["openai/gpt-4o", "no/such"]}, "MODEL_NOT_FOUND", "models.1"),
    ],
)
async def test_an_impossible_plan_says_why(
    connection: asyncpg.Connection, request_body: dict[str, Any], code: str, field: str
) -> None:
    """A refusal is an answer with a stable code and the field's name."""
    plan = await connection.fetchval("select plan_completion($1)", {**request_body, "caller": "user"})
    assert (plan["refusal"]["code"], plan["refusal"]["field"]) == (code, field)


async def test_a_use_case_without_live_models_falls_to_the_model_of_last_resort(
    connection: asyncpg.Connection,
) -> None:
    """The setting names the seed's default model; its successor answers."""
    await connection.execute("delete from use_case_models where use_case = 'roleplay'")
    plan = await connection.fetchval("select plan_completion($1)", {"use_case": "roleplay", "caller": "user"})
    assert [c["model"] for c in plan["candidates"]] == ["anthropic/claude-sonnet-4.6"]


async def test_equal_ranks_are_drawn_by_weight(connection: asyncpg.Connection) -> None:
    """A weight of zero is asked last; the others share the first place."""
    await connection.execute(
        "update use_case_models u set rank = 1, "
        "weight = case m.model_version when 'openai/gpt-4o-mini' then 0 else 1 end "
        "from api_models m where m.id = u.model_id and u.use_case = 'casual_chat'"
    )
    first = set()
    last = set()
    for _ in range(60):
        plan = await connection.fetchval("select plan_completion($1)", {"use_case": "casual_chat", "caller": "user"})
        order = [c["model"] for c in plan["candidates"]]
        first.add(order[0])
        last.add(order[-1])
    assert last == {"openai/gpt-4o-mini"}
    assert first == {"openai/gpt-4.1-mini", "meta-llama/llama-3.1-8b-instruct", "mistralai/mistral-nemo"}


async def test_a_price_is_never_edited_in_place(connection: asyncpg.Connection) -> None:
    """The past was charged at it."""
    with pytest.raises(asyncpg.PostgresError, match="never edited in place"):
        await connection.execute("update api_model_prices set input_per_token = 0")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into api_providers (name, provider_type) values ('openROUTER', 'openrouter')",
        "insert into api_providers (name, provider_type) values ('x', 'unknown')",
        "insert into api_providers (name, provider_type, base_url) values ('x', 'openrouter', 'file:///etc/passwd')",
        "insert into api_providers (name, provider_type, secret_name) values ('x', 'openrouter', 'SUPABASE_KEY')",
        "insert into api_providers (name, provider_type, secret_name) values ('x', 'openrouter', 'sk-or-v1-abc')",
        "update api_models set cost_per_request = -1",
        "update use_case_presets set temperature = 3",
        "insert into api_model_prices (model_id, input_per_token) select id, 0.003 * 10 from api_models limit 1",
    ],
)
async def test_a_typo_is_refused(connection: asyncpg.Connection, statement: str) -> None:
    """Checks stand where admins type."""
    with pytest.raises((asyncpg.CheckViolationError, asyncpg.UniqueViolationError)):
        await connection.execute(statement)


async def test_an_admin_adds_and_edits_models_and_others_do_not(connection: asyncpg.Connection) -> None:
    """addModel and updateModel of the manual's admin interface, under RLS."""
    add = (
        "insert into api_models (provider_id, model_name, model_version, cost_per_request) "
        "values ('{}', 'new', 'vendor/new', 0.01)"
    ).format(await connection.fetchval("select id from api_providers"))
    edit = "update api_models set priority = 1 where model_version = 'openai/gpt-4o'"

    async with as_role(connection, "authenticated", sub=USER, admin=True):
        assert await connection.execute(add) == "INSERT 0 1"
        assert await connection.execute(edit) == "UPDATE 1"
    async with as_role(connection, "authenticated", sub=USER):
        assert await connection.execute(edit) == "UPDATE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(add)
    async with as_role(connection, "anon"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(edit)


async def test_users_see_active_models_and_no_provider(connection: asyncpg.Connection) -> None:
    """secret_name and base_url are for admins."""
    async with as_role(connection, "authenticated", sub=USER):
        assert await connection.fetchval("select count(*) from api_models where not is_active") == 0
        assert await connection.fetchval("select count(*) from api_models") > 0
        assert await connection.fetchval("select count(*) from api_providers") == 0
        assert await connection.fetchval("select count(*) from use_case_presets") == 0
    async with as_role(connection, "authenticated", sub=USER, admin=True):
        assert await connection.fetchval("select count(*) from api_providers") > 0


async def test_the_picker_shows_prices_and_no_secret(connection: asyncpg.Connection) -> None:
    """Open to everybody, so it may hold nothing that is not."""
    async with as_role(connection, "anon"):
        shown = await connection.fetchval("select get_models()")
    models = {model["slug"]: model for model in shown["models"]}

    assert models["anthropic/claude-sonnet-4.6"]["default_for"] == ["roleplay"]
    assert str(models["openai/gpt-4.1"]["price_per_million_tokens"]["output"]) == "8"
    assert "openai/gpt-4" not in models
    assert not re.search("secret|api_key|base_url", str(shown), re.IGNORECASE)
