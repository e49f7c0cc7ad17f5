"""A stream is cut by its reader; what it cost is learnt later, from OpenRouter's books or from its traces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from functions.openrouter_broadcast.contract import Traces, booking
from local.tokens import token
from shared.reconciliation import Booking
from tests.use_cases.conftest import JWT_SECRET, House, signed_in

STORY = {"message": "Tell me a long story about the sea.", "stream": True}
SERVER = {"authorization": f"Bearer {token(JWT_SECRET, sub=None, role='service_role')}"}
WEBHOOK = {"x-webhook-secret": "a-webhook-secret"}
CHECKED_ONE = {"spooled_replayed": 0, "generations_checked": 1, "generations_reconciled": 1}
COSTS = "select cost_usd, cost_source, output_tokens from openrouter.completions order by started_at"


@pytest.fixture
async def stranger(house: House) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a token of its own."""
    async with httpx.AsyncClient(base_url=house.http.base_url, timeout=30) as http:
        yield http


async def cut(house: House) -> dict[str, Any]:
    """Leave in the middle of a stream; what OpenRouter charged for it, once our ledger has its row."""
    before = len(await house.ledger(COSTS))
    await steer(house, "defaults", tokens_per_second=50)
    async with house.http.stream("POST", "/casual-chat", json=STORY) as answer:
        async for line in answer.aiter_lines():
            if line == "event: delta":
                break
    (await house.simulator.http.get("/_sim/idle")).raise_for_status()
    async with asyncio.timeout(10):
        while len(await house.ledger(COSTS)) == before:
            pass
    entry: dict[str, Any] = (await house.simulator.bill())["entries"][-1]
    return entry


async def steer(house: House, what: str, **wanted: Any) -> None:
    (await house.simulator.http.post(f"/_sim/{what}", json=wanted)).raise_for_status()


async def make_due(house: House) -> None:
    """The time of the next check has come."""
    await house.ledger("update openrouter.completion_attempts set next_check_at = now() returning 1")


async def sweep(stranger: httpx.AsyncClient) -> dict[str, int]:
    answer = await stranger.post("/sweep", headers=SERVER)
    assert answer.status_code == 200
    counts: dict[str, int] = answer.json()
    return counts


async def asked_for(house: House) -> int:
    """How often the simulator was asked for a booking."""
    return sum(request["path"] == "/api/v1/generation" for request in await house.simulator.requests())


def traces(*spans: dict[str, Any], resource: dict[str, Any] | None = None) -> dict[str, Any]:
    """An OTLP export as OpenRouter sends it."""
    attributes = {"service.name": {"stringValue": "openrouter"}, **(resource or {})}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": listed(attributes)},
                "scopeSpans": [
                    {
                        "scope": {"name": "openrouter"},
                        "spans": [
                            {
                                "traceId": "5b8efff798038103d269b633813fc60c",
                                "spanId": "eee19b7ec3c1b174",
                                "name": "LLM Generation",
                                "startTimeUnixNano": "1705312800000000000",
                                "attributes": listed(span),
                            }
                            for span in spans
                        ],
                    }
                ],
            }
        ]
    }


async def broadcast(stranger: httpx.AsyncClient, told: dict[str, Any]) -> httpx.Response:
    """Deliver as JavaScript writes it: half of a surrogate pair goes out as an escape."""
    return await stranger.post("/openrouter-broadcast", content=json.dumps(told), headers=WEBHOOK)


def listed(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in attributes.items()]


def span_of(entry: dict[str, Any]) -> dict[str, Any]:
    """What a trace tells of a generation."""
    return {
        "gen_ai.operation.name": {"stringValue": "chat"},
        "gen_ai.response.id": {"stringValue": entry["generation_id"]},
        "gen_ai.usage.input_tokens": {"intValue": str(entry["prompt_tokens"])},
        "gen_ai.usage.output_tokens": {"intValue": entry["completion_tokens"]},
        "gen_ai.usage.total_cost": {"doubleValue": float(entry["cost"])},
        "gen_ai.prompt": {"stringValue": "Half of a pair: \ud83d, and a NUL: \x00"},
    }


async def test_a_stream_that_was_cut_is_estimated_then_billed_as_the_provider_billed_it(
    house: House, stranger: httpx.AsyncClient
) -> None:
    """Cancelled, estimated, and after a sweep exactly the provider's own cost and tokens."""
    entry = await cut(house)
    assert await house.ledger("select outcome, cost_source, cost_usd > 0 from openrouter.completions") == [
        ("cancelled", "estimated", True)
    ]

    await steer(house, "generations")
    await make_due(house)
    counts = await sweep(stranger)

    assert counts == CHECKED_ONE
    assert await house.ledger(COSTS) == [(Decimal(entry["cost"]), "provider", entry["completion_tokens"])]
    mine = json.loads((await house.http.get("/my-usage")).text, parse_float=Decimal)
    assert mine["totals"]["cost_usd"] == Decimal((await house.simulator.bill())["total_cost"])


async def test_a_check_before_its_time_asks_nobody(house: House, stranger: httpx.AsyncClient) -> None:
    """Twenty seconds are given to the books."""
    await cut(house)

    assert await sweep(stranger) == {"spooled_replayed": 0, "generations_checked": 0, "generations_reconciled": 0}
    assert await asked_for(house) == 0


async def test_what_is_not_in_the_books_yet_stays_estimated_and_is_asked_again(
    house: House, stranger: httpx.AsyncClient
) -> None:
    """A 404 is no answer: the next check is forty seconds away, and that one finds it."""
    await steer(house, "defaults", generation_lag_ms=3_600_000)
    entry = await cut(house)
    await make_due(house)
    first = await sweep(stranger)
    [(source, checks, due)] = await house.ledger(
        "select cost_source, checks, next_check_at > now() + interval '30 seconds' from openrouter.completion_attempts"
    )
    early = await sweep(stranger)

    await steer(house, "generations", id=entry["generation_id"])
    await make_due(house)
    second = await sweep(stranger)

    assert (first["generations_checked"], first["generations_reconciled"]) == (1, 0)
    assert (source, checks, due) == ("estimated", 1, True)
    assert early["generations_checked"] == 0
    assert second == CHECKED_ONE
    assert (await house.ledger(COSTS))[0][:2] == (Decimal(entry["cost"]), "provider")


async def test_two_sweeps_at_once_ask_once(house: House, stranger: httpx.AsyncClient) -> None:
    """Whoever comes second finds it claimed."""
    await cut(house)
    await steer(house, "generations")
    await make_due(house)

    counts = await asyncio.gather(*(sweep(stranger) for _ in range(4)))

    assert sum(count["generations_checked"] for count in counts) == 1
    assert sum(count["generations_reconciled"] for count in counts) == 1
    assert await asked_for(house) == 1


@pytest.mark.parametrize("fault", ["internal_error", "auth_unknown_user", "html_200", "close_mid_body"])
async def test_a_provider_that_fails_costs_a_check_and_nothing_else(
    house: House, stranger: httpx.AsyncClient, fault: str
) -> None:
    """The sweep goes on, the estimate stays, the next check finds the cost."""
    entries = [await cut(house), await cut(house)]
    await steer(house, "generations")
    await make_due(house)
    await house.simulator.fault("/generation", fault, times=1)

    assert await sweep(stranger) == {"spooled_replayed": 0, "generations_checked": 2, "generations_reconciled": 1}
    await make_due(house)
    assert await sweep(stranger) == CHECKED_ONE
    assert [row[:2] for row in await house.ledger(COSTS)] == [(Decimal(entry["cost"]), "provider") for entry in entries]


async def test_a_provider_without_its_key_does_not_stop_the_others(house: House, stranger: httpx.AsyncClient) -> None:
    """One is asked, the other one is due again later."""
    await cut(house)
    await cut(house)
    await house.ledger(
        "with other as (insert into api_providers (name, provider_type, secret_name) "
        "values ('Other account', 'openrouter', 'OTHER_OPENROUTER_KEY') returning name) "
        "update openrouter.completion_attempts a set provider = other.name, model_id = null from other "
        "where a.completion_id = (select id from openrouter.completions order by started_at limit 1) returning 1"
    )
    await steer(house, "generations")
    await make_due(house)

    assert await sweep(stranger) == {"spooled_replayed": 0, "generations_checked": 2, "generations_reconciled": 1}
    assert [row[1] for row in await house.ledger(COSTS)] == ["estimated", "provider"]


async def test_a_sweep_replays_the_spool(house: House, stranger: httpx.AsyncClient, tmp_path: Path) -> None:
    """What the ledger could not take is written without waiting for the next request."""
    owner = await asyncpg.connect(house.database_url)
    await owner.execute("alter function public.record_completion(jsonb) rename to away")
    await house.http.post("/casual-chat", json={"message": "Hi"})
    await owner.execute("alter function public.away(jsonb) rename to record_completion")
    await owner.close()
    assert await house.ledger(COSTS) == []

    counts = await sweep(stranger)

    assert counts["spooled_replayed"] == 1
    assert not (tmp_path / "spool.jsonl").exists()
    assert (await house.ledger(COSTS))[0][1] == "provider"


async def test_a_trace_tells_the_cost_without_a_check(house: House, stranger: httpx.AsyncClient) -> None:
    """Told once it corrects the ledger, told again it changes nothing, and nobody is asked any more."""
    entry = await cut(house)
    told = traces(span_of(entry), {"gen_ai.response.id": {"stringValue": "gen-of-somebody-else"}})

    first = await broadcast(stranger, told)
    again = await broadcast(stranger, told)
    await make_due(house)

    assert (first.status_code, first.json()) == (200, {"received": 2, "reconciled": 1})
    assert (again.status_code, again.json()) == (200, {"received": 2, "reconciled": 0})
    assert await house.ledger(COSTS) == [(Decimal(entry["cost"]), "provider", entry["completion_tokens"])]
    assert (await sweep(stranger))["generations_checked"] == 0
    assert await asked_for(house) == 0


async def test_a_trace_of_a_known_cost_changes_nothing(house: House, stranger: httpx.AsyncClient) -> None:
    """Traces come for every request; the answer's own cost stands."""
    await house.http.post("/casual-chat", json={"message": "Hi"})
    [entry] = (await house.simulator.bill())["entries"]

    told = await broadcast(stranger, traces(span_of({**entry, "cost": "9"})))

    assert told.json() == {"received": 1, "reconciled": 0}
    assert (await house.ledger(COSTS))[0][:2] == (Decimal(entry["cost"]), "provider")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"resourceSpans": []}', b'{"resourceSpans": null}', b'{"resourceSpans": [7, {"scopeSpans": "x"}]}'],
    ids=["nothing", "empty object", "no spans", "null", "odd values"],
)
async def test_the_test_of_the_connection_succeeds(stranger: httpx.AsyncClient, body: bytes) -> None:
    """OpenRouter saves the destination only if its empty export is answered with 2xx."""
    headers = {**WEBHOOK, "x-test-connection": "true", "content-type": "application/json"}
    answer = await stranger.post("/openrouter-broadcast", content=body, headers=headers)

    assert (answer.status_code, answer.json()) == (200, {"received": 0, "reconciled": 0})


async def test_a_large_export_is_taken_and_a_huge_one_is_not(stranger: httpx.AsyncClient) -> None:
    """Whole conversations come along; five megabytes are the limit."""
    for size, status in ((4_500_000, 200), (5_500_000, 413)):
        told = traces({"gen_ai.prompt": {"stringValue": "x" * size}})
        assert (await stranger.post("/openrouter-broadcast", json=told, headers=WEBHOOK)).status_code == status


@pytest.mark.parametrize("door", ["sweep", "openrouter-broadcast"])
@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({}, {"sweep": 401, "openrouter-broadcast": 401}),
        (signed_in(), {"sweep": 403, "openrouter-broadcast": 401}),
        (signed_in(admin=True), {"sweep": 403, "openrouter-broadcast": 401}),
        ({"x-webhook-secret": "wrong"}, {"sweep": 401, "openrouter-broadcast": 401}),
    ],
    ids=["nobody", "user", "admin", "wrong secret"],
)
async def test_neither_door_is_for_users(
    stranger: httpx.AsyncClient, door: str, headers: dict[str, str], statuses: dict[str, int]
) -> None:
    """Who could tell costs could make the own use free."""
    answer = await stranger.post(f"/{door}", json={}, headers=headers)

    assert answer.status_code == statuses[door]


ID = {"gen_ai.response.id": {"stringValue": "gen-1"}}
COST = {"gen_ai.usage.total_cost": {"doubleValue": 0.00125}}


@pytest.mark.parametrize(
    ("span", "told"),
    [
        ({**ID, **COST}, Booking("gen-1", Decimal("0.00125"), "broadcast")),
        ({**ID, "gen_ai.usage.total_cost": {"doubleValue": 0}}, Booking("gen-1", Decimal(0), "broadcast")),
        ({**ID, "gen_ai.usage.total_cost": {"intValue": "0"}}, Booking("gen-1", Decimal(0), "broadcast")),
        ({**ID, "gen_ai.usage.cost": {"stringValue": "1.5e-05"}}, Booking("gen-1", Decimal("0.000015"), "broadcast")),
        (
            {
                **ID,
                **COST,
                "gen_ai.usage.prompt_tokens": {"intValue": "100"},
                "gen_ai.usage.completion_tokens": {"intValue": 50},
                "gen_ai.usage.input_tokens.cached": {"doubleValue": 7.0},
                "gen_ai.usage.input_tokens.cache_write": {"intValue": "0"},
                "gen_ai.usage.output_tokens.reasoning": {"intValue": "5"},
            },
            Booking("gen-1", Decimal("0.00125"), "broadcast", 100, 50, 7, 0, 5),
        ),
        (
            {**ID, **COST, "gen_ai.usage.input_tokens": {"doubleValue": 1.5}},
            Booking("gen-1", Decimal("0.00125"), "broadcast"),
        ),
        (COST, Booking("gen-of-the-resource", Decimal("0.00125"), "broadcast")),
        (
            {**COST, "gen_ai.response.id": {"intValue": 7}},
            Booking("gen-of-the-resource", Decimal("0.00125"), "broadcast"),
        ),
        (
            {**COST, "gen_ai.response.id": {"stringValue": "a b"}},
            Booking("gen-of-the-resource", Decimal("0.00125"), "broadcast"),
        ),
        (ID, None),
        ({**ID, "gen_ai.usage.total_cost": {"doubleValue": -1}}, None),
        ({**ID, "gen_ai.usage.total_cost": {"doubleValue": "NaN"}}, None),
        ({**ID, "gen_ai.usage.total_cost": {"stringValue": "free"}}, None),
        ({**ID, "gen_ai.usage.total_cost": {"stringValue": "1e99"}}, None),
        ({**ID, "gen_ai.usage.total_cost": {"stringValue": "1e-99999"}}, None),
        ({**ID, "gen_ai.usage.total_cost": {"boolValue": True}}, None),
        ({**ID, "gen_ai.usage.total_cost": {"doubleValue": True}}, None),
        ({**ID, "gen_ai.usage.total_cost": None}, None),
    ],
    ids=[
        *("a cost", "free", "free as a whole number", "another name, as text", "all tokens", "half a token"),
        *("id of the resource", "id that is a number", "id with a space", "no cost", "negative", "NaN", "a word"),
        *("too much", "too little", "a flag", "a flag as a number", "null"),
    ],
)
def test_a_span_is_read_with_tolerance(span: dict[str, Any], told: Booking | None) -> None:
    """Numbers come as text, names differ, values are odd; what cannot be read is no news."""
    resource = {"openrouter.trace.id": {"stringValue": "gen-of-the-resource"}}
    [read] = Traces.model_validate_json(json.dumps(traces(span, resource=resource))).spans()

    assert booking(read) == told
