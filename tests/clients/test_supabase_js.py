"""supabase-js in Node, as the web page and the admin page use it: functions, streams, tables and RPCs."""

from __future__ import annotations

import asyncio
import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from local.tokens import token
from tests.clients.conftest import supabase
from tests.house import ANN, JWT_SECRET, House

HERE = Path(__file__).parent
ANON_KEY = token(JWT_SECRET, sub=None, role="anon")
ANNS = token(JWT_SECRET, sub=ANN)
ADMINS = token(JWT_SECRET, sub=ANN, admin=True)
NEW_MODEL = "openai/gpt-5-nano"


async def node(script: str, given: dict[str, Any]) -> Any:
    """What this script prints for this input."""
    program = shutil.which("node")
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program,
        str(HERE / script),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, problems = await process.communicate(json.dumps(given).encode())
    assert process.returncode == 0, problems.decode()
    return json.loads(out, parse_float=Decimal)


async def invoked(
    house: House, *calls: tuple[str, dict[str, Any]], key: str = ANON_KEY, user: str | None = ANNS
) -> dict[str, Any]:
    """supabase.functions.invoke, pointed at our server."""
    told: dict[str, Any] = await node(
        "invoke.mjs",
        {
            "url": str(house.http.base_url),
            "key": key,
            "token": user,
            "calls": [{"name": name, "options": options} for name, options in calls],
        },
    )
    return told


@pytest.mark.usefixtures("node_modules")
async def test_a_page_talks_to_the_functions(house: House) -> None:
    """JSON, a stream read to its end, errors as JSON, and GET with a query and a region."""
    told = await invoked(
        house,
        ("casual-chat", {"body": {"message": "Hi"}}),
        ("casual-chat", {"body": {"message": "Hi", "stream": True}}),
        ("casual-chat", {"body": {"messages": []}}),
        ("chat", {"body": {"messages": [{"role": "user", "content": "x"}], "model": "no/such"}}),
        ("models", {"method": "GET"}),
        ("my-usage?timeframe=24h", {"method": "GET", "region": "eu-west-1"}),
        ("usage-stats?timeframe=24h", {"method": "GET"}),
        ("nothing-here", {"body": {"message": "Hi"}}),
    )
    whole, streamed, invalid, unknown, models, usage, forbidden, missing = told["results"]

    assert whole["data"]["content"]
    assert (whole["data"]["outcome"], whole["data"]["use_case"]) == ("complete", "casual_chat")
    names = [event["event"] for event in streamed["data"]]
    assert names == ["start", *["delta"] * (len(names) - 2), "done"]
    assert "".join(event["data"]["text"] for event in streamed["data"][1:-1]) == whole["data"]["content"]
    assert streamed["data"][-1]["data"]["cost_usd"] == whole["data"]["cost_usd"]
    assert (invalid["status"], invalid["error"]["error"]["details"][0]["field"]) == (400, "messages")
    assert (unknown["status"], unknown["error"]["error"]["code"]) == (404, "MODEL_NOT_FOUND")
    assert len(models["data"]["models"]) >= 10
    assert usage["data"]["totals"]["requests"] == 2
    assert (forbidden["status"], forbidden["error"]["error"]["code"]) == (403, "FORBIDDEN")
    assert (missing["status"], missing["error"]["error"]["code"]) == (404, "NOT_FOUND")


@pytest.mark.usefixtures("node_modules")
async def test_a_browser_would_let_the_page_do_it(house: House) -> None:
    """Every header that supabase-js sends is allowed to every origin, with a region too."""
    told = await invoked(house, ("casual-chat", {"body": {"message": "Hi"}, "region": "eu-west-1"}))
    allowed = told["preflight"]["allowed"]

    assert told["preflight"]["status"] == 204
    assert allowed["access-control-allow-origin"] == "*"
    assert "POST" in allowed["access-control-allow-methods"]
    assert {"apikey", "authorization", "content-type", "x-client-info", "x-region"} <= set(told["sent"])
    assert set(told["sent"]) <= set(allowed["access-control-allow-headers"].split(", "))


@pytest.mark.parametrize("key", [ANON_KEY, "sb_publishable_0123456789abcdef"], ids=["anon key", "publishable key"])
@pytest.mark.usefixtures("node_modules")
async def test_a_page_without_a_user_sees_the_models_only(house: House, key: str) -> None:
    """supabase-js sends its key as the token when nobody is signed in."""
    told = await invoked(
        house, ("models", {"method": "GET"}), ("casual-chat", {"body": {"message": "Hi"}}), key=key, user=None
    )
    models, refused = told["results"]

    assert models["data"]["models"]
    assert (refused["status"], refused["error"]["error"]["code"]) == (401, "UNAUTHENTICATED")
    assert await house.simulator.requests() == []


@pytest.mark.usefixtures("node_modules")
@pytest.mark.parametrize("fault", ["stream_drop", "stream_error_doc"])
async def test_a_broken_stream_has_exactly_one_honest_end(house: House, fault: str) -> None:
    """Text, then one terminal event that says truncated."""
    await house.simulator.fault("*", fault)
    told = await invoked(house, ("casual-chat", {"body": {"message": "Hi", "stream": True}}))
    events = told["results"][0]["data"]

    assert [event["event"] for event in events if event["event"] in ("done", "error")] == ["done"]
    assert events[-1]["data"]["outcome"] == "truncated"


async def administered(url: str, key: str, *calls: list[Any]) -> list[dict[str, Any]]:
    """The manual's admin calls, by somebody with this token (None: nobody)."""
    user = None if key == ANON_KEY else key
    told: list[dict[str, Any]] = await node(
        "administer.mjs", {"url": url, "key": ANON_KEY, "token": user, "calls": calls}
    )
    return told


async def test_an_admin_adds_a_model_and_it_answers_the_next_request(house: House, node_modules: Path) -> None:
    """addModel, getUsageStats, compareModelPerformance and updateModel of the manual; no restart in between."""
    [(provider,)] = await house.ledger("select id::text from api_providers where name = 'OpenRouter'")
    new = {
        "provider_id": provider,
        "model_name": "gpt-5-nano",
        "model_version": NEW_MODEL,
        "is_active": True,
        "cost_per_request": 0.0005,
    }
    asked = {"messages": [{"role": "user", "content": "Hi"}], "model": NEW_MODEL}

    async with supabase(node_modules, house.database_url) as url:
        [added] = await administered(url, ADMINS, ["addModel", new])
        reply = (await house.http.post("/chat", json=asked)).json()
        [(model_id,)] = await house.ledger(f"select id::text from api_models where model_version = '{NEW_MODEL}'")
        stats, comparison, updated = await administered(
            url,
            ADMINS,
            ["getUsageStats", "24h"],
            ["compareModelPerformance", [NEW_MODEL, "openai/gpt-4"]],
            ["updateModel", model_id, {"is_active": False}],
        )
        refused = await house.http.post("/chat", json=asked)

    assert (added["status"], added["error"]) == (201, None)
    assert reply["model"] == NEW_MODEL
    assert (stats["status"], stats["data"]["totals"]["requests"]) == (200, 1)
    assert stats["data"]["by_model"][0]["model"] == NEW_MODEL
    assert [(row["model"], row["requests"]) for row in comparison["data"]] == [(NEW_MODEL, 1), ("openai/gpt-4", 0)]
    assert (updated["status"], updated["error"]) == (204, None)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "MODEL_NOT_FOUND")


@pytest.mark.parametrize(("key", "status"), [(ANNS, 403), (ANON_KEY, 401)], ids=["a user", "nobody"])
async def test_who_is_no_admin_is_refused(house: House, node_modules: Path, key: str, status: int) -> None:
    """No row is added or changed, and nobody else's figures are shown."""
    [(provider,)] = await house.ledger("select id::text from api_providers where name = 'OpenRouter'")
    [(model,)] = await house.ledger("select id::text from api_models where model_version = 'openai/gpt-4o'")
    new = {"provider_id": provider, "model_name": "x", "model_version": "x/x", "is_active": True}

    async with supabase(node_modules, house.database_url) as url:
        added, updated, stats, comparison = await administered(
            url,
            key,
            ["addModel", new],
            ["updateModel", model, {"is_active": False}],
            ["getUsageStats", "24h"],
            ["compareModelPerformance", ["openai/gpt-4"]],
        )

    assert [result["status"] for result in (added, stats, comparison)] == [status] * 3
    assert all(result["error"] for result in (added, stats, comparison))
    # Row security lets a user's update find no row, which is no error; who is nobody may not even try.
    assert updated["status"] == (204 if key == ANNS else 401)
    assert await house.ledger(
        "select model_version, is_active from api_models where model_version in ('openai/gpt-4o', 'x/x')"
    ) == [("openai/gpt-4o", True)]


async def test_a_typo_is_told_to_the_admin(house: House, node_modules: Path) -> None:
    """The tables refuse it with a sentence."""
    [(model,)] = await house.ledger("select id::text from api_models where model_version = 'openai/gpt-4o'")
    async with supabase(node_modules, house.database_url) as url:
        slug, price, timeframe = await administered(
            url,
            ADMINS,
            ["updateModel", model, {"model_version": "not a slug"}],
            ["updateModel", model, {"cost_per_request": -1}],
            ["getUsageStats", "fortnight"],
        )

    assert [(result["status"], bool(result["error"]["message"])) for result in (slug, price)] == [(400, True)] * 2
    assert timeframe["status"] == 400
    assert "24h" in timeframe["error"]["message"]
