"""The description of the API: every door is in it, and what it says can be believed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from functions import all_doors
from functions.openapi.descriptions import DESCRIPTIONS
from functions.openapi.handler import document
from functions.openapi.handler import door as openapi_door
from shared import errors, openapi
from shared.edge import Door
from shared.edge.body import parse_body, parse_query
from shared.edge.contract import Contract
from shared.edge.encoding import encode_json
from shared.edge.status import STATUS, status_of
from shared.generation import GenerationRequest
from shared.openapi import Description
from tests.edge.conftest import Ask, door

DOORS = all_doors()
OPERATIONS = [pytest.param(one, method, id=f"{method} {one.name}") for one in DOORS for method in one.methods]
BODY = ("POST", "PATCH", "PUT")


class Wish(Contract):
    """What a made-up door takes."""

    first_name: str
    how_many: int = 3


def nodes(value: Any) -> Iterator[Mapping[str, Any]]:
    """Every object within."""
    if isinstance(value, dict):
        yield value
        for held in value.values():
            yield from nodes(held)
    elif isinstance(value, list):
        for held in value:
            yield from nodes(held)


def operation(name: str, method: str) -> Any:
    return document()["paths"][f"/{name}"][method.lower()]


@pytest.mark.parametrize("path", ["/openapi.json", "/functions/v1/openapi.json"])
async def test_anybody_may_read_it_at_both_paths(ask: Ask, path: str) -> None:
    """The name of this door has a dot; the answer says that both forms of a path exist."""
    answer = await ask(openapi_door, "GET", path)

    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "public, max-age=300"
    assert answer.json()["openapi"] == "3.1.0"
    assert [server["url"] for server in answer.json()["servers"]] == ["/", "/functions/v1"]


def test_it_is_made_once() -> None:
    """The first request pays for it."""
    assert document() is document()


def test_every_door_is_described_and_nothing_else() -> None:
    """By method and path."""
    found = {(path, method) for path, methods in document()["paths"].items() for method in methods}

    assert found == {(f"/{one.name}", method.lower()) for one in DOORS for method in one.methods}
    assert {f"{method} {one.name}" for one in DOORS for method in one.methods} >= set(DESCRIPTIONS)


def test_every_reference_leads_somewhere() -> None:
    """To a schema, parameter or header of the same document; and nothing is listed for nobody."""
    whole = document()
    wanted = {node["$ref"] for node in nodes(whole) if isinstance(node.get("$ref"), str)}
    for reference in wanted:
        place = whole
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]

    assert {f"#/components/schemas/{name}" for name in whole["components"]["schemas"]} <= wanted | unasked()


def unasked() -> set[str]:
    """Contracts of queries: their fields are parameters."""
    queries = {one.contract.__name__ for one in DOORS if one.contract and not set(one.methods) & set(BODY)}
    return {f"#/components/schemas/{name}" for name in queries}


@pytest.mark.parametrize(("one", "method"), OPERATIONS)
def test_the_example_is_accepted(one: Door, method: str) -> None:
    """A door that needs something shows what; its own contract takes it."""
    described = operation(one.name, method)
    if one.contract is None:
        return
    if method in BODY:
        shown = described["requestBody"]["content"]["application/json"].get("examples")
        assert shown or not described["requestBody"]["required"], "add an example to functions/openapi/descriptions.py"
        for example in (shown or {}).values():
            parse_body(one.contract, encode_json(example["value"]))
    else:
        shown = {known["name"]: known["example"] for known in described["parameters"] if "example" in known}
        assert {known["name"] for known in described["parameters"] if known.get("required")} <= set(shown)
        parse_query(one.contract, "&".join(f"{name}={value}" for name, value in shown.items()).encode())


@pytest.mark.parametrize(("one", "method"), OPERATIONS)
def test_the_lock_and_the_refusals_fit_the_door(one: Door, method: str) -> None:
    """Who may come in, and every status with its codes, in the one shape of errors."""
    described = operation(one.name, method)
    locked: list[Any] = {"anyone": [], "webhook": [{"webhook": []}]}.get(one.caller, [{"user": []}])
    expected = {"400", "500"}
    expected |= {"401"} if one.caller != "anyone" else set()
    expected |= {"403"} if one.caller in ("user", "admin", "service") else set()
    expected |= {"413"} if method in BODY else set()

    assert described["security"] == locked
    assert expected <= set(described["responses"])
    for status, answer in described["responses"].items():
        codes = re.findall(r"^- `([A-Z_]+)`", answer["description"], re.MULTILINE)
        assert bool(codes) == (status != "200" and "HealthReport" not in str(answer))
        for code in codes:
            assert int(status) in {status_of(kind) for kind in STATUS if kind.code == code}
            assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Error")


@pytest.mark.parametrize(("one", "method"), OPERATIONS)
def test_a_stream_is_described_by_its_events(one: Door, method: str) -> None:
    """Where `stream: true` can be asked for, each event has a name and a schema; `error` is always one of them."""
    content = operation(one.name, method)["responses"]["200"]["content"]
    streams = one.contract is not None and issubclass(one.contract, GenerationRequest)

    assert ("text/event-stream" in content) == streams
    if streams and "oneOf" in content["text/event-stream"]["schema"]:
        events = [event["properties"]["event"]["const"] for event in content["text/event-stream"]["schema"]["oneOf"]]
        assert events == ["start", "delta", "done", "error"]


def test_every_code_is_listed() -> None:
    """A client can tell them all beforehand."""
    codes = document()["components"]["schemas"]["ErrorObject"]["properties"]["code"]["enum"]

    assert set(codes) == {kind.code for kind in STATUS}
    assert errors.BudgetExceeded.code in codes


def test_our_names_are_snake_case() -> None:
    """camelCase is heard but not taught; a foreign format keeps its own names."""
    schemas = document()["components"]["schemas"]
    names = {
        name
        for one in DOORS
        if one.contract is not None and issubclass(one.contract, Contract)
        for name in schemas.get(one.contract.__name__, {}).get("properties", {})
    }

    assert {"max_tokens", "use_case", "max_cost_usd"} <= names
    assert [name for name in names if name != name.lower()] == []
    assert "resourceSpans" in schemas["Traces"]["properties"]


def test_a_query_is_described_as_parameters() -> None:
    """Null has no spelling in a query, and a number one kind."""
    parameters = {known.get("name"): known for known in operation("select-model", "GET")["parameters"]}

    assert parameters["use_case"]["required"] is True
    assert (parameters["max_cost_usd"]["required"], parameters["max_cost_usd"]["schema"]["type"]) == (False, "number")
    assert parameters["prefer"]["schema"]["enum"] == ["cost", "quality", "latency"]


def test_a_door_that_nobody_described_is_there_all_the_same() -> None:
    """Its contract, its parameters and its own lock are known without a word."""
    made = openapi.document(
        [door("wishes/{id}", methods=("PATCH",), caller="admin", contract=Wish), door("list", methods=("GET",))],
        {},
        Description(),
        title="Doors",
        version="1",
    )
    wish = made["paths"]["/wishes/{id}"]["patch"]

    assert wish["parameters"][0]["name"] == "id"
    assert wish["requestBody"]["required"] is True
    assert made["components"]["schemas"]["Wish"]["required"] == ["first_name"]
    assert wish["responses"]["200"]["content"]["application/json"]["schema"] == {"type": "object"}
    assert "requestBody" not in made["paths"]["/list"]["get"]
