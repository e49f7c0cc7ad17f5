"""Which model should answer: the admins' order without a wish, else the best of what is known."""

from __future__ import annotations

import re
import uuid
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from tests.conftest import as_role
from tests.use_cases.conftest import ANN, House

SONNET, FULL, NEMO, LLAMA = (
    "anthropic/claude-sonnet-4.6",
    "openai/gpt-4.1",
    "mistralai/mistral-nemo",
    "meta-llama/llama-3.1-8b-instruct",
)
ROLEPLAY = [SONNET, FULL, NEMO, LLAMA]


async def explained(connection: asyncpg.Connection, use_case: str = "roleplay", **wishes: Any) -> Any:
    """What explain_route says; wishes are its other parameters."""
    named = ", ".join(f"{name} => ${place}" for place, name in enumerate(wishes, start=2))
    query = f"select explain_route($1{', ' + named if named else ''})"
    return await connection.fetchval(query, use_case, *wishes.values())


def candidate(route: Any, model: str) -> Any:
    [found] = [one for one in route["candidates"] if one["model"] == model]
    return found


async def replied(
    connection: asyncpg.Connection,
    model: str,
    times: int,
    *,
    use_case: str = "roleplay",
    issue: str | None = None,
    tokens: tuple[int, int] = (1000, 200),
    **changes: Any,
) -> None:
    """Write so many completions of a model that have just been answered."""
    model_id = await connection.fetchval("select id::text from api_models where model_version = $1", model)
    now = await connection.fetchval("select now()::text")
    for _ in range(times):
        attempt = {
            "provider": "OpenRouter",
            "model_id": model_id,
            "model": model,
            "status": 200,
            "duration_ms": 900,
            "code": None,
            "billing": "tokens",
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            **changes.get("attempt", {}),
        }
        await connection.execute(
            "select record_completion($1)",
            {
                "completion_id": str(uuid.uuid4()),
                "request_id": "r",
                "user_id": ANN,
                "caller": "user",
                "use_case": use_case,
                "provider": "OpenRouter",
                "model_id": model_id,
                "model": model,
                "outcome": "complete",
                "response_time_ms": 1000,
                "started_at": now,
                **{name: value for name, value in changes.items() if name != "attempt"},
                "attempts": [attempt],
                "quality_issues": [{"code": issue, "detail": None}] if issue else [],
            },
        )


@pytest.mark.parametrize(
    ("use_case", "model"),
    [
        ("roleplay", SONNET),
        ("storytelling", FULL),
        ("prompt_enhancement", "anthropic/claude-haiku-4.5"),
        ("casual_chat", "openai/gpt-4o-mini"),
        ("creative_writing", FULL),
    ],
)
async def test_without_a_wish_it_is_the_first_candidate_of_the_plan(house: House, use_case: str, model: str) -> None:
    """The manual's own choice is retired; the first live model after it answers, here and in the plan."""
    route = (await house.http.get("/select-model", params={"use_case": use_case})).json()
    reply = await house.http.post("/chat", json={"use_case": use_case, "messages": [{"role": "user", "content": "Hi"}]})

    assert route["model"] == model == reply.json()["model"]
    assert re.fullmatch(
        r"It is the first candidate for \w+ in the order that admins set \(rank 20\)\.", route["reason"]
    )


async def test_every_candidate_is_listed_with_its_figures_or_why_not(house: House) -> None:
    """Camel case is heard; the retired model is there, excluded, at the end."""
    route = (await house.http.get("/select-model", params={"useCase": "roleplay"})).json()

    assert [one["model"] for one in route["candidates"]] == [*ROLEPLAY, "anthropic/claude-3.5-sonnet"]
    assert [one["excluded"] for one in route["candidates"]] == [None] * 4 + ["It is retired"]
    assert [one["score"] for one in route["candidates"]] == [1, 0.5, 0.3333, 0.25, None]
    assert route["typical_message"] == {
        "input_tokens": 500,
        "output_tokens": 150,
        "source": "default",
        "completions": 0,
    }
    # 500 tokens in at 3 USD and 150 out at 15 USD per million.
    assert candidate(route, SONNET)["expected_cost_usd"] == 0.00375
    assert candidate(route, LLAMA)["expected_latency_ms"] == 8000
    assert candidate(route, LLAMA)["latency_source"] == "expected"
    assert candidate(route, SONNET)["expected_latency_ms"] is None


@pytest.mark.parametrize(
    ("wishes", "model", "reason"),
    [
        ({"prefer": "cost"}, LLAMA, "cheapest"),
        ({"prefer": "latency"}, LLAMA, "quickest"),
        ({"prefer": "quality"}, SONNET, "best quality"),
        ({"max_cost_usd": "0.001"}, NEMO, "first candidate"),
        ({"prefer": "quality", "max_cost_usd": "0.003"}, FULL, "costs at most 0.003 USD"),
        ({"max_cost_usd": "0"}, None, "No candidate for roleplay costs at most 0 USD"),
        ({"min_quality": "0.95"}, None, "has a quality of at least 0.95"),
    ],
    ids=["cost", "latency", "quality", "budget", "quality within a budget", "no budget", "quality nobody has"],
)
async def test_wishes_decide(house: House, wishes: dict[str, str], model: str | None, reason: str) -> None:
    """The answer is the first of the candidates, and the reason says by what."""
    route = (await house.http.get("/select-model", params={"use_case": "roleplay", **wishes})).json()

    assert route["model"] == model
    assert reason in route["reason"]
    assert route["reason"].endswith(".")
    if model is not None:
        assert (route["candidates"][0]["model"], route["candidates"][0]["excluded"]) == (model, None)
    else:
        assert all(one["excluded"] for one in route["candidates"])


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "use_case"),
        ({"use_case": "no_such"}, "use_case"),
        ({"use_case": "roleplay", "prefer": "colour"}, "prefer"),
        ({"use_case": "roleplay", "min_quality": "1.1"}, "min_quality"),
        ({"use_case": "roleplay", "min_quality": "NaN"}, "min_quality"),
        ({"use_case": "roleplay", "max_cost_usd": "-1"}, "max_cost_usd"),
        ({"use_case": "roleplay", "max_cost_usd": "1e-999999999"}, "max_cost_usd"),
        ({"use_case": "roleplay", "model": "x"}, "model"),
    ],
)
async def test_bad_input_names_the_field(house: House, query: dict[str, str], field: str) -> None:
    """400, also for a use case that nobody has set up."""
    answer = await house.http.get("/select-model", params=query)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"prefer": "colour"}, "prefer"),
        ({"min_quality": Decimal("NaN")}, "min_quality"),
        ({"max_cost_usd": Decimal("NaN")}, "max_cost_usd"),
        ({"max_cost_usd": Decimal(-1)}, "max_cost_usd"),
    ],
    ids=["prefer", "quality NaN", "cost NaN", "cost below zero"],
)
async def test_the_function_itself_refuses_nonsense(
    connection: asyncpg.Connection, wish: dict[str, Any], field: str
) -> None:
    """Users may call it without the door."""
    with pytest.raises(asyncpg.PostgresError) as refused:
        await explained(connection, **wish)
    assert (refused.value.sqlstate, refused.value.as_dict()["detail"]) == ("PT400", field)


async def test_users_may_ask_and_see_no_secret(connection: asyncpg.Connection) -> None:
    """By RPC, as somebody who is signed in; a stranger may not."""
    async with as_role(connection, "authenticated", sub=ANN):
        shown = await explained(connection)
    assert not re.search("secret|api_key|base_url", str(shown), re.IGNORECASE)
    async with as_role(connection, "anon"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await explained(connection)


async def test_the_ledger_tells_what_a_message_usually_is(connection: asyncpg.Connection) -> None:
    """Average tokens of this use case; the cost is for those, and old or failed completions say nothing."""
    await replied(connection, SONNET, 1, tokens=(1000, 100))
    await replied(connection, FULL, 1, tokens=(3000, 300))
    await replied(connection, FULL, 1, tokens=(9000, 900), started_at="2020-01-01T00:00:00Z")
    await replied(connection, FULL, 1, tokens=(9000, 900), outcome="failed", error_code="UPSTREAM_ERROR")
    await replied(connection, FULL, 1, tokens=(9000, 900), use_case="storytelling")
    route = await explained(connection)

    assert route["typical_message"] == {
        "input_tokens": 2000,
        "output_tokens": 200,
        "source": "last_30_days",
        "completions": 2,
    }
    assert candidate(route, SONNET)["expected_cost_usd"] == Decimal("0.009")


async def test_measured_latency_wins_over_the_row(connection: asyncpg.Connection) -> None:
    """The median of what the model took in this use case."""
    for response_time_ms in (400, 9000, 600):
        await replied(connection, LLAMA, 1, response_time_ms=response_time_ms)
    route = await explained(connection, prefer="latency")

    assert (candidate(route, LLAMA)["expected_latency_ms"], candidate(route, LLAMA)["latency_source"]) == (
        600,
        "measured",
    )
    assert route["reason"] == "It is the quickest candidate for roleplay: 600 ms, measured."


async def test_quality_is_the_share_of_replies_without_an_issue(connection: asyncpg.Connection) -> None:
    """It starts from 18 of 20, so that one bad reply does not condemn a model."""
    await replied(connection, SONNET, 1, issue="short_openrouter_response")
    await replied(connection, FULL, 20)
    route = await explained(connection, prefer="quality")

    assert candidate(route, SONNET)["quality"] == Decimal("0.8571")
    assert candidate(route, FULL)["quality"] == Decimal("0.95")
    assert (candidate(route, FULL)["replies"], candidate(route, NEMO)["quality"]) == (20, Decimal("0.9"))
    assert route["model"] == FULL
    bounded = await explained(connection, min_quality=Decimal("0.9"))
    assert bounded["model"] == FULL
    assert candidate(bounded, SONNET)["excluded"] == "Its quality of 0.8571 is below min_quality"


async def test_who_prefers_something_is_not_sent_to_a_failing_model(connection: asyncpg.Connection) -> None:
    """The plan asks it in its turn and moves on; a preference looks past it."""
    failed: dict[str, Any] = {
        "outcome": "failed",
        "error_code": "UPSTREAM_ERROR",
        "attempt": {"code": "UPSTREAM_ERROR"},
    }
    await replied(connection, LLAMA, 5, **failed)
    route = await explained(connection, prefer="cost")

    assert (candidate(route, LLAMA)["health"], candidate(route, LLAMA)["score"]) == ("failing", 0)
    assert route["model"] == NEMO


async def test_who_left_says_nothing_about_health(connection: asyncpg.Connection) -> None:
    """Cancelled attempts are the callers' doing."""
    await replied(connection, LLAMA, 5, outcome="cancelled", attempt={"code": "CANCELLED"})

    assert candidate(await explained(connection), LLAMA)["health"] == "unknown"


async def test_an_unknown_price_cannot_be_held_to_a_budget(connection: asyncpg.Connection) -> None:
    """Nor is it the cheapest; without a budget it stays a candidate."""
    await connection.execute(
        "delete from api_model_prices where model_id in (select id from api_models where model_version = $1)", LLAMA
    )
    budget, cheap = await explained(connection, max_cost_usd=Decimal(1)), await explained(connection, prefer="cost")

    assert candidate(budget, LLAMA)["excluded"] == "Its price is unknown, so it cannot be held to max_cost_usd"
    assert cheap["model"] == NEMO
    assert [one["score"] for one in cheap["candidates"] if one["model"] == LLAMA] == [None]


async def test_a_free_model_is_the_cheapest(connection: asyncpg.Connection) -> None:
    """Zero is a price."""
    await connection.execute(
        "insert into api_model_prices (model_id, input_per_token, output_per_token) "
        "select id, 0, 0 from api_models where model_version = $1",
        FULL,
    )
    route = await explained(connection, prefer="cost")

    assert (route["model"], candidate(route, FULL)["score"]) == (FULL, 1)
    assert route["reason"].endswith("a typical message costs 0 USD.")


async def test_when_every_model_is_off_the_model_of_last_resort_answers(connection: asyncpg.Connection) -> None:
    """As in the plan; every other one says why it does not."""
    await connection.execute(
        "update api_models set is_active = false where id in "
        "(select model_id from use_case_models where use_case = 'casual_chat')"
    )
    route = await explained(connection, "casual_chat")

    assert (route["model"], candidate(route, SONNET)["rank"]) == (SONNET, None)
    assert route["reason"] == "No model of casual_chat is active, so the model of last resort answers."
    assert candidate(route, NEMO)["excluded"] == "It is switched off"


async def test_when_nothing_is_left_the_reason_says_so(connection: asyncpg.Connection) -> None:
    """A provider that is off takes its models with it."""
    await connection.execute("update api_providers set is_active = false")
    route = await explained(connection)

    assert (route["model"], route["reason"]) == (None, "No model is active for roleplay.")
    assert candidate(route, SONNET)["excluded"] == "Its provider is switched off"
