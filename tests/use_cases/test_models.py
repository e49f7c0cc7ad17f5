"""What a model picker is shown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.conftest import as_role
from tests.use_cases.conftest import House

SONNET, NEMO, LLAMA = "anthropic/claude-sonnet-4.6", "mistralai/mistral-nemo", "meta-llama/llama-3.1-8b-instruct"
USE_CASES = {"roleplay", "storytelling", "prompt_enhancement", "casual_chat", "creative_writing"}


async def shown(connection: asyncpg.Connection) -> dict[str, Any]:
    """The models by slug, as a stranger sees them."""
    async with as_role(connection, "anon"):
        found = await connection.fetchval("select get_models()")
    return {model["slug"]: model for model in found["models"]}


async def change(connection: asyncpg.Connection, model: str, assignment: str) -> None:
    await connection.execute(f"update api_models set {assignment} where model_version = '{model}'")


async def test_a_model_has_everything_a_picker_shows(house: House) -> None:
    """The fields of the contract, each with its own kind of value."""
    models = (await house.http.get("/models")).json()["models"]
    [llama] = [model for model in models if model["slug"] == LLAMA]

    assert set(llama) == {
        *("slug", "name", "provider", "use_cases", "default_for", "price_per_million_tokens", "typical_cost_usd"),
        *("context_length", "max_output_tokens", "expected_latency_ms", "capabilities", "retired", "health"),
    }
    assert llama["expected_latency_ms"] == {"min": 4000, "max": 12000}
    assert llama["capabilities"] == {"tools": True, "json": True, "vision": None, "sampling": True}
    assert (llama["retired"], llama["health"]) == (False, "unknown")


async def test_a_typical_message_has_a_price_in_every_use_case(connection: asyncpg.Connection) -> None:
    """Half of what the preset allows goes out, as long as nobody has asked: 500 in, 150 out for roleplay."""
    sonnet = (await shown(connection))[SONNET]

    assert set(sonnet["typical_cost_usd"]) == USE_CASES
    assert sonnet["typical_cost_usd"]["roleplay"] == Decimal("0.00375")
    assert sonnet["typical_cost_usd"]["storytelling"] == Decimal("0.009")


async def test_an_unknown_price_is_null_and_not_free(connection: asyncpg.Connection) -> None:
    """Per message as per token."""
    await connection.execute(
        "delete from api_model_prices where model_id in (select id from api_models where model_version = $1)", NEMO
    )
    nemo = (await shown(connection))[NEMO]

    assert set(nemo["typical_cost_usd"].values()) == {None}
    assert nemo["price_per_million_tokens"] == {"input": None, "output": None}


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ('{"supported_parameters": []}', {"tools": False, "json": False, "vision": None, "sampling": False}),
        ('{"supported_parameters": ["max_tokens", "tools", "structured_outputs"]}', {"tools": True, "json": True}),
        ('{"supported_parameters": ["top_p"]}', {"sampling": True, "tools": False}),
        ('{"input_modalities": ["text", "image"]}', {"vision": True, "tools": None, "json": None, "sampling": None}),
        ('{"input_modalities": ["text"]}', {"vision": False}),
        ("{}", {"tools": None, "json": None, "vision": None, "sampling": None}),
    ],
    ids=["takes nothing", "tools", "sampling", "sees", "does not see", "nobody said"],
)
async def test_capabilities_are_read_from_the_row(
    connection: asyncpg.Connection, capabilities: str, expected: dict[str, bool | None]
) -> None:
    """True, false, or null where nobody said."""
    await change(connection, NEMO, f"capabilities = '{capabilities}'")
    found = (await shown(connection))[NEMO]["capabilities"]

    assert {name: found[name] for name in expected} == expected


async def test_a_model_whose_end_has_come_is_marked(connection: asyncpg.Connection) -> None:
    """It is still active here: the admin decides when to switch it off."""
    await change(connection, NEMO, "retired_at = now() - interval '1 day'")
    await change(connection, LLAMA, "retired_at = now() + interval '1 day'")
    models = await shown(connection)

    assert (models[NEMO]["retired"], models[LLAMA]["retired"]) == (True, False)


async def test_health_is_what_the_last_hour_says(house: House) -> None:
    """Five attempts that failed are enough; less says nothing."""
    await house.simulator.fault("openai/gpt-4o-mini", "no_endpoints")
    seen = []
    for _ in range(5):
        await house.http.post("/casual-chat", json={"message": "Hello"})
        models = (await house.http.get("/models")).json()["models"]
        seen.append({model["slug"]: model["health"] for model in models})

    assert [health["openai/gpt-4o-mini"] for health in seen] == ["unknown"] * 4 + ["failing"]
    assert seen[-1]["openai/gpt-4.1-mini"] == "healthy"
