"""One question to several models: what each costs and says, and how little the failure of one matters."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import pytest

from tests.use_cases.conftest import House

MINI, LLAMA, NEMO, FULL = (
    "openai/gpt-4o-mini",
    "meta-llama/llama-3.1-8b-instruct",
    "mistralai/mistral-nemo",
    "openai/gpt-4.1",
)
SIX = [MINI, LLAMA, NEMO, FULL, "openai/gpt-4.1-mini", "openai/gpt-4o"]
QUESTION = {"prompt": "Tell me about the sea.", "max_tokens": 60}
# Not in the catalogue.
NOBODY = "vendor/nobody"


async def compared(house: House, models: list[str], **more: Any) -> tuple[int, Any]:
    answer = await house.http.post("/compare-models", json={**QUESTION, "models": models, **more})
    return answer.status_code, json.loads(answer.text, parse_float=Decimal)


async def events(house: House, models: list[str], **more: Any) -> list[tuple[str, Any]]:
    """The events of a streamed comparison: names and data."""
    answer = await house.http.post("/compare-models", json={**QUESTION, "models": models, "stream": True, **more})
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block.splitlines() for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: "), parse_float=Decimal))
        for name, data in blocks
    ]


def codes(report: Any) -> list[str | None]:
    """Why each model has no answer; None for those that have."""
    return [None if result["ok"] else result["error"]["code"] for result in report["results"]]


async def test_results_stand_in_the_order_of_the_request(house: House) -> None:
    """Each is that model's reply, each is a completion of its own, and the total is what the provider billed."""
    status, report = await compared(house, [NEMO, MINI, LLAMA])
    bill = await house.simulator.bill()

    assert status == 200
    assert [(result["model"], result["ok"]) for result in report["results"]] == [
        (NEMO, True),
        (MINI, True),
        (LLAMA, True),
    ]
    for result in report["results"]:
        assert result["content"]
        assert {"usage", "cost_usd", "response_time_ms", "attempts", "quality_issues"} <= set(result)
        assert result["cost_usd"] <= result["estimated_cost_usd"]
    assert report["total_cost_usd"] == Decimal(bill["total_cost"])
    assert report["unpriced_results"] == 0
    rows = await house.ledger("select model, request_id, used_fallback from openrouter.completions order by model")
    assert rows == [(model, report["request_id"], False) for model in sorted((NEMO, MINI, LLAMA))]


async def test_the_summary_names_the_fastest_cheapest_and_longest(house: House) -> None:
    """By the figures of the results themselves."""
    _, report = await compared(house, [FULL, MINI, NEMO])
    by_model = {result["model"]: result for result in report["results"]}

    def ordered(figure: Any) -> list[str]:
        return sorted(by_model, key=lambda model: figure(by_model[model]))

    assert by_model[report["summary"]["fastest"]]["response_time_ms"] == min(
        result["response_time_ms"] for result in report["results"]
    )
    assert report["summary"]["cheapest"] == ordered(lambda result: result["cost_usd"])[0]
    assert len(by_model[report["summary"]["longest"]]["content"]) == max(
        len(result["content"]) for result in report["results"]
    )


async def test_an_unknown_cost_is_never_the_cheapest(house: House) -> None:
    """A model without a price, whose provider does not say what it charged."""
    await house.ledger(f"delete from api_model_prices where model_id = {row(NEMO)} returning 1")
    await house.simulator.fault(NEMO, "ok_cost_missing")
    _, report = await compared(house, [NEMO, FULL])

    assert [result["cost_usd"] is None for result in report["results"]] == [True, False]
    assert report["summary"]["cheapest"] == FULL
    assert (report["total_cost_usd"], report["unpriced_results"]) == (report["results"][1]["cost_usd"], 1)


async def test_one_failure_does_not_sink_the_rest(house: House) -> None:
    """Unknown, broken and well: each has its own end, in its own place."""
    await house.simulator.fault(LLAMA, "no_endpoints")
    status, report = await compared(house, [NOBODY, LLAMA, MINI])

    assert status == 200
    assert codes(report) == ["MODEL_NOT_FOUND", "MODEL_NOT_FOUND", None]
    assert set(report["results"][0]["error"]) == {"code", "message", "retryable"}
    assert report["summary"] == {"fastest": MINI, "cheapest": MINI, "longest": MINI}


async def test_when_all_fail_nothing_is_fastest(house: House) -> None:
    """The answer is still the answer to the comparison."""
    await house.simulator.fault("*", "no_endpoints")
    status, report = await compared(house, [MINI, NEMO])

    assert (status, codes(report)) == (200, ["MODEL_NOT_FOUND", "MODEL_NOT_FOUND"])
    assert report["summary"] == {"fastest": None, "cheapest": None, "longest": None}
    assert report["total_cost_usd"] == 0


async def test_nobody_answers_in_a_models_place(house: House) -> None:
    """Neither the use case's models nor the chat worker."""
    await house.simulator.fault(MINI, "no_endpoints")
    await compared(house, [MINI, NEMO], use_case="roleplay")

    assert {request["body"]["model"] for request in await house.simulator.requests()} == {MINI, NEMO}
    assert await house.ledger(
        f"select outcome, attempt_count from openrouter.completions order by model = '{NEMO}'"
    ) == [
        ("failed", 1),
        ("complete", 1),
    ]


async def test_a_retired_name_is_answered_by_its_successor_and_says_so(house: House) -> None:
    """The result stands under the name that was asked for."""
    _, report = await compared(house, ["openai/gpt-4", MINI])

    assert [(result["model"], result["answered_by"]) for result in report["results"]] == [
        ("openai/gpt-4", FULL),
        (MINI, MINI),
    ]


@pytest.mark.parametrize(
    ("cap", "field"),
    [({"max_cost_usd": 0.0001}, "max_cost_usd"), ({"maxCostUsd": 0}, "max_cost_usd")],
    ids=["a little", "an explicit zero"],
)
async def test_too_dear_together_is_refused_before_anything_is_sent(
    house: House, cap: dict[str, Any], field: str
) -> None:
    """The estimate is the whole prompt and as many tokens as allowed, at the listed prices."""
    status, report = await compared(house, [FULL, "openai/gpt-4o"], **cap)
    error = report["error"]

    assert (status, error["code"]) == (402, "BUDGET_EXCEEDED")
    assert [detail["field"] for detail in error["details"]] == [field]
    # 60 tokens out at 8 and 10 USD per million are more than a thousandth of a dollar.
    assert "0.0011" in error["message"]
    assert await house.simulator.requests() == []
    assert await house.ledger("select 1 from openrouter.completions") == []


async def test_a_model_above_the_cap_of_each_is_not_asked(house: House) -> None:
    """The others are, and what is not asked does not count against the cap of all."""
    status, report = await compared(house, [FULL, NEMO], max_cost_usd_per_model=0.0001, max_cost_usd=0.0001)

    assert (status, codes(report)) == (200, ["BUDGET_EXCEEDED", None])
    assert FULL in report["results"][0]["error"]["message"]
    assert [request["body"]["model"] for request in await house.simulator.requests()] == [NEMO]


@pytest.mark.parametrize("cap", ["max_cost_usd", "max_cost_usd_per_model"])
async def test_an_unknown_price_cannot_be_held_to_a_cap(house: House, cap: str) -> None:
    """It is refused by name; without a cap it is asked."""
    await house.ledger(f"delete from api_model_prices where model_id = {row(NEMO)} returning 1")
    _, capped = await compared(house, [NEMO, MINI], **{cap: 1})
    _, free = await compared(house, [NEMO, MINI])

    assert codes(capped) == ["BUDGET_EXCEEDED", None]
    assert capped["results"][0]["error"]["message"] == f"The price of {NEMO} is unknown, so it cannot be held to {cap}"
    assert codes(free) == [None, None]
    assert free["results"][0]["estimated_cost_usd"] is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"models": [MINI]}, "models"),
        ({"models": [MINI, MINI]}, "models"),
        ({"models": [f"vendor/{number}" for number in range(9)]}, "models"),
        ({}, "models"),
        ({"models": SIX, "prompt": ""}, "prompt"),
        ({"models": SIX, "messages": [{"role": "user", "content": "Hello"}]}, "body"),
        ({"models": SIX, "prompt": None}, "body"),
        ({"models": SIX, "max_cost_usd": -1}, "max_cost_usd"),
        ({"models": SIX, "max_cost_usd": "1e-99"}, "max_cost_usd"),
        ({"models": SIX, "max_cost_usd_per_model": "NaN"}, "max_cost_usd_per_model"),
        ({"models": SIX, "model": MINI}, "model"),
        ({"models": SIX, "fallback_to_chat_worker": True}, "fallback_to_chat_worker"),
        ({"models": SIX, "use_case": "no_such"}, "use_case"),
    ],
    ids=[
        *("one model", "the same twice", "nine models", "no models", "empty prompt", "prompt and messages"),
        *("neither", "negative cap", "endless cap", "cap that is no number", "model", "chat worker", "use case"),
    ],
)
async def test_bad_input_names_the_field(house: House, body: dict[str, Any], field: str) -> None:
    """400, and nothing is sent."""
    answer = await house.http.post("/compare-models", json={**QUESTION, **body})
    error = answer.json()["error"]

    assert (answer.status_code, error["code"]) == (400, "VALIDATION_ERROR")
    assert field in [detail["field"] for detail in error["details"]]
    assert await house.simulator.requests() == []


async def test_a_stream_tells_whose_words_they_are(house: House) -> None:
    """start, the models' deltas, one of them per model with its result, and one done without the texts."""
    told = await events(house, [MINI, NOBODY, NEMO])
    names = [name for name, _ in told]
    settled = {data["model"]: data["result"] for name, data in told if name == "delta" and "result" in data}
    (_, start), *_, (_, done) = told

    assert (names[0], names[-1], names.count("done"), set(names)) == ("start", "done", 1, {"start", "delta", "done"})
    assert start == {"request_id": done["request_id"], "models": [MINI, NOBODY, NEMO]}
    assert codes(done) == [None, "MODEL_NOT_FOUND", None]
    assert [settled[model] for model in start["models"]] == done["results"]
    assert "content" not in json.dumps(done, default=str)
    assert done["summary"]["cheapest"] == NEMO
    for result in done["results"]:
        text = "".join(data["text"] for name, data in told if name == "delta" and data["model"] == result["model"])
        assert bool(text) == result["ok"]


async def test_a_stream_that_breaks_does_not_break_the_others(house: House) -> None:
    """Its error is its result; the comparison ends with done."""
    await house.simulator.fault(MINI, "stream_error_first")
    told = await events(house, [MINI, NEMO])

    assert told[-1][0] == "done"
    assert [result["ok"] for result in told[-1][1]["results"]] == [False, True]
    assert told[-1][1]["summary"]["fastest"] == NEMO


async def test_a_stream_too_dear_is_refused_as_plain_json(house: House) -> None:
    """Before the first event there is no stream."""
    answer = await house.http.post(
        "/compare-models", json={**QUESTION, "models": [MINI, NEMO], "stream": True, "max_cost_usd": 0}
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "BUDGET_EXCEEDED")


async def test_who_leaves_stops_everybody_and_all_is_recorded(house: House) -> None:
    """Four speak at a time: they are cancelled and written down; the other two were never asked."""
    await house.simulator.fault("*", "stream_stall")
    heard: set[str] = set()

    async with house.http.stream("POST", "/compare-models", json={**QUESTION, "models": SIX, "stream": True}) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: ") and "text" in line:
                heard.add(json.loads(line.removeprefix("data: "))["model"])
            if len(heard) == 4:
                break

    async with asyncio.timeout(10):
        while len(rows := await house.ledger("select model, outcome from openrouter.completions order by 1")) < 4:
            continue
    await house.simulator.http.get("/_sim/idle")
    assert rows == [(model, "cancelled") for model in sorted(heard)]
    assert sorted(request["body"]["model"] for request in await house.simulator.requests()) == sorted(heard)


def row(slug: str) -> str:
    return f"(select id from api_models where model_version = '{slug}')"
