"""One request, end to end: door, plan, model, ledger, reply."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from local.simulator.server import running
from shared.edge import application
from shared.services import Services
from shared.settings import Settings
from tests.use_cases.conftest import ANN, House, signed_in

HELLO = {"message": "Tell me about the sea."}
CASUAL = ["openai/gpt-4o-mini", "openai/gpt-4.1-mini", "meta-llama/llama-3.1-8b-instruct", "mistralai/mistral-nemo"]


async def test_a_reply_and_its_cost_in_the_ledger(house: House) -> None:
    """The contract's shape; the ledger's cost is what the provider billed."""
    answer = await house.http.post("/casual-chat", json=HELLO)
    reply = json.loads(answer.text, parse_float=Decimal)
    bill = await house.simulator.bill()

    assert answer.status_code == 200
    assert set(reply) == {
        *("request_id", "content", "use_case", "model", "provider", "finish_reason", "outcome", "usage", "cost_usd"),
        *("cost_source", "response_time_ms", "first_token_ms", "used_fallback", "attempts", "params"),
        "quality_issues",
    }
    assert reply["content"]
    assert (reply["use_case"], reply["model"], reply["provider"]) == ("casual_chat", CASUAL[0], "OpenRouter")
    assert (reply["outcome"], reply["finish_reason"], reply["used_fallback"]) == ("complete", "stop", False)
    assert (reply["cost_usd"], reply["cost_source"]) == (Decimal(bill["total_cost"]), "provider")
    assert reply["usage"]["total_tokens"] == reply["usage"]["input_tokens"] + reply["usage"]["output_tokens"]
    assert reply["params"] == {"temperature": Decimal("0.7"), "top_p": Decimal("0.9"), "max_tokens": 500, "dropped": []}
    assert reply["request_id"] == answer.headers["x-request-id"]
    assert await house.ledger("select request_id, user_id::text, outcome, cost_usd from openrouter.completions") == [
        (reply["request_id"], ANN, "complete", reply["cost_usd"])
    ]


async def test_my_usage_shows_it_and_usage_stats_to_admins_only(house: House) -> None:
    """The user sees the own request, the admin everybody's, a user not everybody's."""
    await house.http.post("/functions/v1/casual-chat", json=HELLO)

    mine = await house.http.get("/my-usage", params={"timeframe": "24h"})
    refused = await house.http.get("/usage-stats")
    everybody = await house.http.get("/usage-stats", headers=signed_in(admin=True))

    assert mine.json()["totals"]["requests"] == 1
    assert mine.json()["totals"]["cost_usd"] > 0
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert everybody.json()["by_model"][0]["model"] == CASUAL[0]


async def test_what_goes_on_the_wire_is_the_manuals_request(house: House) -> None:
    """Headers and body of the seed: nothing more, nothing less."""
    await house.http.post("/casual-chat", json=HELLO)

    [request] = await house.simulator.requests()
    headers = {name.lower(): value for name, value in request["headers"].items()}
    assert request["body"] == {
        "model": CASUAL[0],
        "messages": [{"role": "user", "content": "Tell me about the sea."}],
        "max_tokens": 500,
        "temperature": 0.7,
        "top_p": 0.9,
        "stream": False,
    }
    assert headers["http-referer"] == "https://ourvidz.com"
    assert headers["x-title"] == "OurVidz Platform"
    assert headers["content-type"] == "application/json"


async def test_roleplay_says_the_manuals_sentence(house: House) -> None:
    """Character and scenario are filled in; the preset is the manual's."""
    body = {"character": "Captain Mira", "scenario": "a storm at sea", "message": "What now?", "topP": 0.5}
    reply = (await house.http.post("/roleplay", json=body)).json()

    [request] = await house.simulator.requests()
    assert request["body"]["messages"] == [
        {
            "role": "system",
            "content": "You are roleplaying as Captain Mira in the scenario: a storm at sea. "
            "Stay in character and respond naturally.",
        },
        {"role": "user", "content": "What now?"},
    ]
    # The model takes temperature or top_p, not both: one is sent, the other is named as dropped.
    assert request["body"]["temperature"] == 0.8
    assert "top_p" not in request["body"]
    assert reply["params"] == {"temperature": 0.8, "top_p": None, "max_tokens": 300, "dropped": ["top_p"]}


async def test_a_character_may_be_an_object_and_cannot_forge_placeholders(house: House) -> None:
    """Values are filled in once: a name that looks like a placeholder stays text."""
    character = {"name": "${scenario}", "description": "A $5 robot.", "personality": "dry"}
    await house.http.post("/roleplay", json={"character": character, "message": "Hi", "scenario": "the moon"})

    [request] = await house.simulator.requests()
    assert request["body"]["messages"][0]["content"] == (
        "You are roleplaying as ${scenario} in the scenario: the moon. Stay in character and respond naturally.\n"
        "Description: A $5 robot.\nPersonality: dry"
    )


async def test_an_explicit_zero_is_sent(house: House) -> None:
    """temperature 0 is a wish, not an absence."""
    reply = (await house.http.post("/chat", json={"messages": [HELLO_TURN], "temperature": 0, "maxTokens": 9})).json()

    [request] = await house.simulator.requests()
    assert (request["body"]["temperature"], request["body"]["max_tokens"]) == (0, 9)
    assert (reply["params"]["temperature"], reply["params"]["max_tokens"]) == (0, 9)


HELLO_TURN = {"role": "user", "content": "Hello"}


async def test_an_admins_edit_is_live_with_the_next_request(house: House) -> None:
    """Rows are read by the plan of each request: no restart, no cache."""
    await house.http.post("/casual-chat", json=HELLO)
    await house.ledger(
        "update use_case_models set rank = 0 where model_id = "
        "(select id from api_models where model_version = 'mistralai/mistral-nemo') returning 1"
    )
    reply = (await house.http.post("/casual-chat", json=HELLO)).json()

    assert reply["model"] == "mistralai/mistral-nemo"


async def test_the_next_model_takes_over(house: House) -> None:
    """The first model is gone from the catalogue; the second answers, and the reply tells."""
    await house.simulator.fault(CASUAL[0], "no_endpoints")
    reply = (await house.http.post("/casual-chat", json=HELLO)).json()

    assert (reply["model"], reply["used_fallback"]) == (CASUAL[1], True)
    assert [(attempt["model"], attempt["status"], attempt["code"]) for attempt in reply["attempts"]] == [
        (CASUAL[0], 404, "MODEL_NOT_FOUND"),
        (CASUAL[1], 200, None),
    ]
    assert await house.ledger("select attempt, status from openrouter.completion_attempts order by 1") == [
        (1, 404),
        (2, 200),
    ]


async def test_when_every_model_fails_the_answer_says_so_and_the_ledger_too(house: House) -> None:
    """The common failure is the answer, with the seed's text; every attempt is listed."""
    await house.simulator.fault("*", "no_endpoints")
    answer = await house.http.post("/casual-chat", json=HELLO)
    error = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (404, "MODEL_NOT_FOUND")
    assert [attempt["model"] for attempt in error["attempts"]] == CASUAL
    assert error["fallback"] is True
    assert await house.ledger("select outcome, error_code, cost_usd from openrouter.completions") == [
        ("failed", "MODEL_NOT_FOUND", Decimal(0))
    ]


async def test_with_fallback_refused_it_is_the_manuals_sentence(house: House) -> None:
    """`fallback_to_chat_worker: false` and no model answers."""
    await house.simulator.fault("*", "no_endpoints")
    answer = await house.http.post("/casual-chat", json={**HELLO, "fallbackToChatWorker": False})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "FALLBACK_DISABLED")
    assert answer.json()["error"]["message"] == "OpenRouter generation failed and fallback disabled"


@pytest.mark.parametrize(
    ("door", "body", "status", "code", "field"),
    [
        ("chat", {"messages": []}, 400, "VALIDATION_ERROR", "messages"),
        ("chat", {}, 400, "VALIDATION_ERROR", "messages"),
        ("chat", {"messages": [{"role": "wizard", "content": "x"}]}, 400, "VALIDATION_ERROR", "messages.0.role"),
        ("chat", {"messages": [{"role": "user", "content": 5}]}, 400, "VALIDATION_ERROR", "messages.0.content"),
        ("chat", {"messages": [{"role": "user", "content": ""}]}, 400, "VALIDATION_ERROR", "messages.0.content"),
        ("chat", {"messages": [HELLO_TURN], "use_case": "x"}, 400, "VALIDATION_ERROR", "use_case"),
        ("chat", {"messages": [HELLO_TURN], "useCase": "x"}, 400, "VALIDATION_ERROR", "use_case"),
        ("chat", {"messages": [HELLO_TURN], "temperature": "0.5"}, 400, "VALIDATION_ERROR", "temperature"),
        ("chat", {"messages": [HELLO_TURN], "temperature": 2.1}, 400, "VALIDATION_ERROR", "temperature"),
        ("chat", {"messages": [HELLO_TURN], "max_tokens": 0}, 400, "VALIDATION_ERROR", "max_tokens"),
        ("chat", {"messages": [HELLO_TURN], "maxTokens": True}, 400, "VALIDATION_ERROR", "maxTokens"),
        ("chat", {"messages": [HELLO_TURN], "colour": "red"}, 400, "VALIDATION_ERROR", "colour"),
        ("chat", {"messages": [HELLO_TURN], "model": "no/such"}, 404, "MODEL_NOT_FOUND", "model"),
        ("chat", {"messages": [HELLO_TURN], "metadata": {"k": "\u0000"}}, 400, "VALIDATION_ERROR", "metadata"),
        ("casual-chat", {}, 400, "VALIDATION_ERROR", None),
        ("casual-chat", {"message": "a", "messages": [HELLO_TURN]}, 400, "VALIDATION_ERROR", None),
        ("roleplay", {"message": "a"}, 400, "VALIDATION_ERROR", "character"),
        ("roleplay", {"message": "a", "character": {"name": ""}}, 400, "VALIDATION_ERROR", "character.name"),
    ],
)
async def test_bad_input_names_the_field(
    house: House, door: str, body: dict[str, Any], status: int, code: str, field: str | None
) -> None:
    """One shape of error, the field as the caller wrote it, and nothing sent upstream."""
    answer = await house.http.post(f"/{door}", json=body)
    error = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (status, code)
    if field is not None:
        assert field in [detail["field"] for detail in error["details"]]
    assert await house.simulator.requests() == []


async def test_models_are_shown_to_anybody(house: House) -> None:
    """No token, an expired token: the picker works."""
    for headers in ({}, {"authorization": "Bearer rubbish"}):
        async with httpx.AsyncClient(base_url=house.http.base_url) as stranger:
            answer = await stranger.get("/models", headers=headers)
        assert answer.status_code == 200
        assert len(answer.json()["models"]) >= 10


async def test_health_says_what_serves(house: House) -> None:
    """Database and key are there; the key is not shown."""
    answer = await house.http.get("/health")

    assert answer.status_code == 200
    assert answer.json() == {
        "status": "ok",
        "database": "ok",
        "openrouter_key": True,
        "worker": "not_configured",
        "version": "0.1.0",
        "problems": [],
    }


async def test_health_says_what_is_missing() -> None:
    """No setting at all: 503 and one sentence each, no traceback."""
    services = Services(Settings.from_environment({}))
    from functions import all_doors

    async with running(application(all_doors(), services)) as url, httpx.AsyncClient(base_url=url) as http:
        answer = await http.get("/health")
        refused = await http.get("/models")
    await services.close()

    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert any("OPENROUTER_API_KEY" in sentence for sentence in answer.json()["problems"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "CONFIG_ERROR")


async def test_nothing_paid_for_is_lost_while_the_ledger_is_away(house: House, tmp_path: Path) -> None:
    """The reply goes out, the record is kept, and it is written when the ledger is back."""
    owner = await asyncpg.connect(house.database_url)
    await owner.execute("alter function public.record_completion(jsonb) rename to away")
    lost = (await house.http.post("/casual-chat", json=HELLO)).json()
    spool = tmp_path / "spool.jsonl"
    kept = spool.read_text()
    await owner.execute("alter function public.away(jsonb) rename to record_completion")
    await owner.close()

    await house.http.post("/casual-chat", json=HELLO)

    assert lost["content"]
    assert lost["cost_usd"] is not None
    assert "Tell me about the sea" not in kept
    assert not spool.exists()
    rows = await house.ledger("select request_id from openrouter.completions order by started_at")
    assert rows[0] == (lost["request_id"],)
    assert len(rows) == 2


async def test_without_a_key_it_is_our_configuration_that_is_wrong(house: House) -> None:
    """CONFIG_ERROR, not an upstream failure; nothing is sent."""
    await house.ledger("update api_providers set secret_name = 'SOME_OTHER_KEY' returning 1")
    answer = await house.http.post("/casual-chat", json=HELLO)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "CONFIG_ERROR")
    assert await house.simulator.requests() == []
