"""The chat worker beside OpenRouter, both ways, through the doors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from local.simulator import create_worker, running
from shared.settings import Settings
from tests.use_cases.conftest import House, Simulator

HELLO = {"message": "Tell me about the sea."}
WITH_WORKER = {**HELLO, "fallback_to_chat_worker": True}
CASUAL = ["openai/gpt-4o-mini", "openai/gpt-4.1-mini", "meta-llama/llama-3.1-8b-instruct", "mistralai/mistral-nemo"]
DEAD = "http://127.0.0.1:9"

RANK_FIRST = """
    insert into use_case_models (use_case, model_id, rank)
    select 'casual_chat', id, 0 from api_models where model_version = 'chat-worker' returning 1
"""


@pytest.fixture
async def worker(house: House) -> AsyncIterator[Simulator]:
    """A chat worker that wants a token, and the house told where it is."""
    async with running(create_worker(seed=1, token="t-1")) as url, httpx.AsyncClient(base_url=url) as http:
        use_worker(house, url)
        yield Simulator(url, http)


def use_worker(house: House, url: str, **more: str) -> None:
    """Tell the house where its worker is."""
    before = house.services.settings
    told = {"OPENROUTER_API_KEY": "sk-or-v1-test", "CHAT_WORKER_URL": url, "CHAT_WORKER_TOKEN": "t-1", **more}
    house.services.settings = replace(
        Settings.from_environment(told),
        openrouter_base_url=before.openrouter_base_url,
        database_url=before.database_url,
        supabase_jwt_secret=before.supabase_jwt_secret,
        webhook_secret=before.webhook_secret,
        spool_path=before.spool_path,
    )


async def told(worker: Simulator) -> list[dict[str, Any]]:
    """The chats that reached the worker."""
    return [seen for seen in await worker.requests() if seen["path"] != "/health"]


def tries(reply: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(attempt["provider"], attempt["model"], attempt["code"]) for attempt in reply["attempts"]]


async def test_the_worker_takes_over_when_openrouter_fails(house: House, worker: Simulator) -> None:
    """Every OpenRouter model once, then the worker once; the reply says so, and what it cost."""
    await house.simulator.fault("*", "no_endpoints")
    answer = await house.http.post("/casual-chat", json=WITH_WORKER)
    reply = answer.json()

    assert answer.status_code == 200
    assert reply["content"]
    assert (reply["provider"], reply["model"], reply["used_fallback"]) == ("Chat worker", "chat-worker", True)
    assert tries(reply) == [
        *(("OpenRouter", slug, "MODEL_NOT_FOUND") for slug in CASUAL),
        ("Chat worker", "chat-worker", None),
    ]
    assert reply["params"] == {"temperature": 0.7, "top_p": 0.9, "max_tokens": 500, "dropped": []}
    assert (reply["cost_usd"], reply["cost_source"]) == (0, "estimated")
    [seen] = await told(worker)
    assert seen["path"] == "/chat"
    assert seen["body"] == {
        "messages": [{"role": "user", "content": HELLO["message"]}],
        "max_tokens": 500,
        "temperature": 0.7,
        "top_p": 0.9,
    }
    used = reply["usage"]
    assert await house.ledger(
        "select provider, model, outcome, used_fallback, cost_usd, cost_source, unpriced_attempts, input_tokens,"
        " output_tokens from openrouter.completions"
    ) == [
        (
            *("Chat worker", "chat-worker", "complete", True, Decimal(0), "estimated", 0),
            *(used["input_tokens"], used["output_tokens"]),
        )
    ]


async def test_one_dead_provider_is_not_asked_model_by_model(house: House, worker: Simulator) -> None:
    """OpenRouter cannot be reached at all: the worker is next, not the other three models."""
    house.services.settings = replace(house.services.settings, openrouter_base_url=f"{DEAD}/api/v1")
    reply = (await house.http.post("/casual-chat", json=WITH_WORKER)).json()

    assert reply["provider"] == "Chat worker"
    assert {attempt["model"] for attempt in reply["attempts"]} == {CASUAL[0], "chat-worker"}


async def test_openrouter_takes_over_when_the_worker_fails(house: House, worker: Simulator) -> None:
    """An admin ranks the worker first; without a model it cannot answer, and OpenRouter does."""
    await house.ledger(RANK_FIRST)
    first = (await house.http.post("/casual-chat", json=HELLO)).json()
    await worker.http.post("/_sim/worker", json={"model_loaded": False})
    second = (await house.http.post("/casual-chat", json=WITH_WORKER)).json()

    assert (first["provider"], first["used_fallback"], tries(first)) == (
        "Chat worker",
        False,
        [("Chat worker", "chat-worker", None)],
    )
    assert (second["provider"], second["model"], second["used_fallback"]) == ("OpenRouter", CASUAL[0], True)
    assert tries(second) == [("Chat worker", "chat-worker", "UNAVAILABLE"), ("OpenRouter", CASUAL[0], None)]
    assert second["cost_source"] == "provider"


@pytest.mark.parametrize("first", [True, False], ids=["worker first", "OpenRouter first"])
async def test_each_is_asked_once(house: House, worker: Simulator, first: bool) -> None:
    """Both fail, and both back each other up: it ends, with the text that names what happened."""
    if first:
        await house.ledger(RANK_FIRST)
    await house.simulator.fault("*", "no_endpoints")
    await worker.http.post("/_sim/worker", json={"model_loaded": False})
    answer = await house.http.post("/casual-chat", json=WITH_WORKER)
    error = answer.json()["error"]

    assert (answer.status_code, error["code"], error["fallback"]) == (503, "ALL_ROUTES_FAILED", True)
    asked = [("Chat worker", "chat-worker", "UNAVAILABLE")]
    openrouter = [("OpenRouter", slug, "MODEL_NOT_FOUND") for slug in CASUAL]
    assert tries(error) == (asked + openrouter if first else openrouter + asked)
    assert len(await told(worker)) == 1


async def test_two_models_of_the_worker_are_one_worker(house: House, worker: Simulator) -> None:
    """However many rows it has, it is asked once per request."""
    await house.ledger(
        "insert into api_models (provider_id, model_name, model_version) select provider_id, 'other', 'other-worker'"
        " from api_models where model_version = 'chat-worker' returning 1"
    )
    await worker.http.post("/_sim/worker", json={"model_loaded": False})
    answer = await house.http.post("/casual-chat", json={**HELLO, "models": ["chat-worker", "other-worker"]})

    assert answer.json()["error"]["code"] == "UNAVAILABLE"
    assert len(await told(worker)) == 1


async def test_the_common_failure_keeps_the_manuals_text(house: House, worker: Simulator) -> None:
    """OpenRouter and the worker are both unavailable: that code, that sentence, and eligible for a fallback."""
    await house.simulator.fault("*", "service_unavailable")
    await worker.http.post("/_sim/worker", json={"model_loaded": False})
    body = {**WITH_WORKER, "models": [CASUAL[0]]}
    answer = await house.http.post("/casual-chat", json=body)
    error = answer.json()["error"]

    assert (answer.status_code, error["code"], error["fallback"]) == (503, "UNAVAILABLE", True)
    assert error["message"] == "OpenRouter service temporarily unavailable"


async def test_the_workers_failure_does_not_name_openrouter(house: House, worker: Simulator) -> None:
    """Who asks for the worker alone is told about the worker, and nothing of what it said."""
    await worker.fault("/chat", "internal_error")
    answer = await house.http.post("/casual-chat", json={**HELLO, "models": ["chat-worker"]})
    error = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (502, "UPSTREAM_ERROR")
    assert error["message"] == "Unknown Chat worker API error"
    assert await house.simulator.requests() == []


async def test_a_caller_may_name_the_worker(house: House, worker: Simulator) -> None:
    """By its slug; the use case's models follow it."""
    reply = (await house.http.post("/casual-chat", json={**HELLO, "model": "chat-worker", "stop": ["END"]})).json()

    assert (reply["provider"], reply["used_fallback"]) == ("Chat worker", False)
    assert reply["params"]["dropped"] == ["stop"]
    assert await house.simulator.requests() == []


@pytest.mark.parametrize("stated", [None, False], ids=["left out", "refused"])
async def test_without_consent_the_worker_is_not_asked(house: House, worker: Simulator, stated: bool | None) -> None:
    """Only a request that wants it gets it; refused explicitly, it is the manual's sentence."""
    await house.simulator.fault("*", "no_endpoints")
    answer = await house.http.post("/casual-chat", json={**HELLO, "fallback_to_chat_worker": stated})

    assert answer.json()["error"]["code"] == ("MODEL_NOT_FOUND" if stated is None else "FALLBACK_DISABLED")
    assert await told(worker) == []


async def test_a_refused_fallback_passes_over_a_worker_that_is_ranked_behind(house: House, worker: Simulator) -> None:
    """The caller's word counts more than the rank; asked for by name, the worker is no fallback."""
    await house.ledger(RANK_FIRST.replace("id, 0", "id, 99"))
    await house.simulator.fault("*", "no_endpoints")
    refused = (await house.http.post("/casual-chat", json={**HELLO, "fallback_to_chat_worker": False})).json()
    silent = (await house.http.post("/casual-chat", json=HELLO)).json()
    named = {**HELLO, "models": [CASUAL[0], "chat-worker"], "fallback_to_chat_worker": False}
    listed = (await house.http.post("/casual-chat", json=named)).json()

    assert refused["error"]["code"] == "FALLBACK_DISABLED"
    assert (silent["provider"], listed["provider"]) == ("Chat worker", "Chat worker")
    assert len(await told(worker)) == 2


@pytest.mark.parametrize("rank", [None, 0], ids=["appended", "ranked first"])
async def test_a_worker_without_an_address_changes_nothing(house: House, rank: int | None) -> None:
    """CHAT_WORKER_URL is not set: OpenRouter answers, or its failure is told."""
    if rank is not None:
        await house.ledger(RANK_FIRST)
    reply = (await house.http.post("/casual-chat", json=WITH_WORKER)).json()
    await house.simulator.fault("*", "no_endpoints")
    error = (await house.http.post("/casual-chat", json=WITH_WORKER)).json()["error"]

    assert (reply["model"], len(reply["attempts"])) == (CASUAL[0], 1)
    assert error["code"] == "MODEL_NOT_FOUND"
    assert {attempt["provider"] for attempt in error["attempts"]} == {"OpenRouter"}


async def test_the_worker_alone_without_an_address_is_our_configuration(house: House) -> None:
    """CONFIG_ERROR names the setting; nothing is sent and nothing is written."""
    answer = await house.http.post("/casual-chat", json={**HELLO, "models": ["chat-worker"]})

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "CONFIG_ERROR")
    assert "CHAT_WORKER_URL" in answer.json()["error"]["message"]
    assert await house.ledger("select 1 from openrouter.completions") == []


async def test_an_inactive_worker_is_not_appended(house: House, worker: Simulator) -> None:
    """An admin switches it off with one row."""
    await house.ledger("update api_providers set is_active = false where provider_type = 'chat_worker' returning 1")
    await house.simulator.fault("*", "no_endpoints")
    answer = await house.http.post("/casual-chat", json=WITH_WORKER)

    assert answer.json()["error"]["code"] == "MODEL_NOT_FOUND"
    assert await told(worker) == []


async def test_without_an_openrouter_key_the_worker_serves_alone(house: House, worker: Simulator) -> None:
    """The models that cannot be asked are passed over."""
    await house.ledger("update api_providers set secret_name = 'NOT_SET' where name = 'OpenRouter' returning 1")
    reply = (await house.http.post("/casual-chat", json=WITH_WORKER)).json()

    assert (reply["provider"], len(reply["attempts"])) == ("Chat worker", 1)


async def test_a_refusal_of_the_content_does_not_fall_back(house: House, worker: Simulator) -> None:
    """What OpenRouter's moderation refuses is not tried on the worker."""
    await house.simulator.fault("*", "moderation")
    answer = await house.http.post("/casual-chat", json=WITH_WORKER)
    error = answer.json()["error"]

    assert (answer.status_code, error["code"], error["fallback"]) == (422, "CONTENT_BLOCKED", False)
    assert len(error["attempts"]) == 1
    assert await told(worker) == []


async def test_our_own_refusal_does_not_fall_back(house: House, worker: Simulator) -> None:
    """A wrong field is the caller's to mend; nobody is asked."""
    answer = await house.http.post("/casual-chat", json={**WITH_WORKER, "temperature": 3})

    assert (answer.status_code, answer.json()["error"]["fallback"]) == (400, False)
    assert (await house.simulator.requests(), await told(worker)) == ([], [])


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_time_is_left_for_the_worker(house: House, worker: Simulator, streams: bool) -> None:
    """An OpenRouter that hangs does not use up the time of who stands behind it."""
    house.services.settings = replace(house.services.settings, request_timeout_s=4.0)
    await house.simulator.fault("*", "slow_headers")
    answer = await house.http.post("/casual-chat", json={**WITH_WORKER, "stream": streams})

    assert answer.status_code == 200
    assert '"provider":"Chat worker"' in answer.text.replace(": ", ":")
    assert len(await told(worker)) == 1


async def test_an_openai_compatible_worker_needs_only_its_address(house: House, worker: Simulator) -> None:
    """A base URL that ends in /v1 says which form it speaks; the row's slug is the model's name there."""
    use_worker(house, f"{worker.url}/v1")
    reply = (await house.http.post("/casual-chat", json={**HELLO, "model": "chat-worker"})).json()

    [seen] = await told(worker)
    assert seen["path"] == "/v1/chat/completions"
    assert seen["body"]["model"] == "chat-worker"
    assert (reply["provider"], reply["cost_usd"], reply["cost_source"]) == ("Chat worker", 0, "computed")
    assert reply["usage"]["output_tokens"] > 0


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
async def test_another_provider_of_the_same_wire_is_two_rows(house: House, worker: Simulator, streams: bool) -> None:
    """vLLM, Ollama or llama.cpp beside OpenRouter: an address, a key's name, a model."""
    use_worker(house, DEAD, MY_VLLM_KEY="t-1")
    await house.ledger(
        "insert into api_providers (name, provider_type, base_url, secret_name)"
        f" values ('My vLLM', 'openai_compatible', '{worker.url}/v1', 'MY_VLLM_KEY') returning 1"
    )
    await house.ledger(
        "insert into api_models (provider_id, model_name, model_version)"
        " select id, 'llama', 'my/llama' from api_providers where name = 'My vLLM' returning 1"
    )
    answer = await house.http.post("/casual-chat", json={**HELLO, "model": "my/llama", "stream": streams})

    assert answer.status_code == 200
    [seen] = await told(worker)
    assert (seen["body"]["model"], seen["body"]["stream"]) == ("my/llama", streams)
    assert await house.ledger("select provider, model, outcome, cost_source from openrouter.completions") == [
        ("My vLLM", "my/llama", "complete", "unknown")
    ]


async def test_a_provider_without_an_address_is_our_configuration(house: House) -> None:
    """Its key must never go to OpenRouter instead."""
    await house.ledger(
        "insert into api_providers (name, provider_type) values ('Mine', 'openai_compatible') returning 1"
    )
    await house.ledger(
        "insert into api_models (provider_id, model_name, model_version)"
        " select id, 'llama', 'my/llama' from api_providers where name = 'Mine' returning 1"
    )
    answer = await house.http.post("/casual-chat", json={**HELLO, "models": ["my/llama"]})

    assert answer.json()["error"]["code"] == "CONFIG_ERROR"
    assert await house.simulator.requests() == []


async def test_health_looks_behind_the_workers_word(house: House, worker: Simulator) -> None:
    """It calls itself healthy even when no model is loaded; a dead one degrades, but OpenRouter still serves."""
    loaded = (await house.http.get("/health")).json()
    await worker.http.post("/_sim/worker", json={"model_loaded": False})
    empty = (await house.http.get("/health")).json()
    use_worker(house, DEAD)
    dead = await house.http.get("/health")

    assert (loaded["worker"], loaded["status"]) == ("ok", "ok")
    assert (empty["worker"], empty["status"]) == ("no_model", "degraded")
    assert (dead.status_code, dead.json()["worker"], dead.json()["status"]) == (200, "down", "degraded")


async def test_without_a_key_a_working_worker_keeps_the_server_up(house: House, worker: Simulator) -> None:
    """Degraded, not gone; without the worker's model it cannot serve."""
    house.services.settings = replace(house.services.settings, openrouter_api_key=None)
    up = await house.http.get("/health")
    await worker.http.post("/_sim/worker", json={"model_loaded": False})
    down = await house.http.get("/health")

    assert (up.status_code, up.json()["status"], up.json()["openrouter_key"]) == (200, "degraded", False)
    assert (down.status_code, down.json()["status"]) == (503, "unavailable")


# A conversation that is too long, for OpenRouter and for the worker.


@pytest.mark.parametrize("stated", [None, False, True], ids=["no word of a fallback", "refused", "wanted"])
async def test_too_long_for_everybody_is_told_before_anybody_is_asked(
    house: House, worker: Simulator, stated: bool | None
) -> None:
    """422, and nothing to pay for; the caller's to mend, with a fallback or without."""
    await house.ledger("update api_models set context_length = 600 returning 1")
    body = {"message": "sea " * 1000, "fallback_to_chat_worker": stated}
    answer = await house.http.post("/casual-chat", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "CONTEXT_TOO_LONG")
    assert answer.json()["error"]["attempts"] == []
    assert (await house.simulator.requests(), await told(worker)) == ([], [])
    assert await house.ledger("select 1 from openrouter.completions") == []


async def test_too_long_for_openrouter_fits_a_larger_worker(house: House, worker: Simulator) -> None:
    """Whoever reads enough is asked; the others are not troubled."""
    await house.ledger("update api_models set context_length = 600 where model_version <> 'chat-worker' returning 1")
    reply = (await house.http.post("/casual-chat", json={**WITH_WORKER, "message": "sea " * 1000})).json()

    assert (reply["provider"], reply["used_fallback"], len(reply["attempts"])) == ("Chat worker", True, 1)
    assert await house.simulator.requests() == []


@pytest.mark.parametrize("provider", ["OpenRouter", "Chat worker"])
async def test_who_finds_it_too_long_is_asked_once_more_with_less(
    house: House, worker: Simulator, provider: str
) -> None:
    """Our count is an estimate; the model's own word makes room, once."""
    far_end, model, fault = (
        (house.simulator, CASUAL[0], CASUAL[0]) if provider == "OpenRouter" else (worker, "chat-worker", "/chat")
    )
    await house.ledger("update api_models set context_length = 1200 returning 1")
    await far_end.fault(fault, "context_overflow", times=1)
    turn = {"content": "sea " * 100}
    messages = [{"role": role, **turn} for role in ("user", "assistant", "user", "assistant", "user")]
    answer = await house.http.post("/casual-chat", json={"messages": messages, "models": [model]})
    reply = answer.json()

    assert answer.status_code == 200
    assert tries(reply) == [(provider, model, "CONTEXT_TOO_LONG"), (provider, model, None)]
    assert [len(seen["body"]["messages"]) for seen in await far_end.requests()] == [5, 3]


async def test_who_finds_it_too_long_and_cannot_be_given_less_is_passed_over(house: House, worker: Simulator) -> None:
    """One short message: asking the same again would be asking in vain."""
    await house.simulator.fault(CASUAL[0], "context_overflow")
    reply = (await house.http.post("/casual-chat", json=HELLO)).json()

    assert tries(reply) == [("OpenRouter", CASUAL[0], "CONTEXT_TOO_LONG"), ("OpenRouter", CASUAL[1], None)]


async def test_the_models_own_word_that_it_is_too_long_is_not_a_fallback_question(house: House) -> None:
    """Refusing the worker does not make the length of the conversation our failure."""
    await house.simulator.fault("*", "context_overflow")
    answer = await house.http.post("/casual-chat", json={**HELLO, "fallback_to_chat_worker": False})

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "CONTEXT_TOO_LONG")
    assert len(answer.json()["error"]["attempts"]) == len(CASUAL)


async def test_the_picker_offers_the_worker_only_where_there_is_one(house: House, worker: Simulator) -> None:
    """A model that cannot be asked is no choice; SQL does not know the deployment's address."""
    offered = (await house.http.get("/models")).json()["models"]
    house.services.settings = replace(house.services.settings, chat_worker_url=None)
    without = (await house.http.get("/models")).json()["models"]
    openai = (await house.http.get("/openai/v1/models")).json()["data"]

    assert "chat-worker" in [model["slug"] for model in offered]
    assert "needs_worker_url" not in offered[0]
    assert "chat-worker" not in [model["slug"] for model in without]
    assert "chat-worker" not in [model["id"] for model in openai]
