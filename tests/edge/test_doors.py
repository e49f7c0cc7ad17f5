"""How doors are found, who may use them, and what every answer carries."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from pydantic import ConfigDict, Field

import shared
from shared.edge import Call, Contract, Reply
from shared.errors import ConfigError, Detail, LimitExceeded, RateLimited
from shared.settings import Settings
from tests.edge.conftest import (
    NOW,
    SERVICE_KEY,
    SETTINGS,
    USER_ID,
    WEBHOOK_SECRET,
    Application,
    Ask,
    FakeServices,
    Log,
    Talk,
    bearer,
    connected,
    door,
    refusal,
    serving,
    token,
)

HELLO = {"messages": [{"role": "user", "content": "hello"}]}
ADMIN = token(app_metadata={"role": "admin"})


class Page(Contract):
    """A query with a number, a list and a switch; strict, as contracts of bodies are."""

    model_config = ConfigDict(strict=True)

    limit: int = 10
    models: list[str] = Field(default_factory=list)
    newest_first: bool = False


@pytest.mark.parametrize("path", ["/talk", "/functions/v1/talk", "/talk/"], ids=["plain", "as on Supabase", "slash"])
async def test_a_door_has_two_addresses(path: str, ask: Ask, log: Log) -> None:
    """A door answers at its name and at Supabase's address for functions."""
    response = await ask(door(contract=Talk), "POST", path, json=HELLO)

    assert response.status_code == 200
    assert response.json()["body"]["messages"] == HELLO["messages"]
    assert (log.line["door"], log.line["route"], log.line["status"]) == ("talk", "/talk", 200)


async def test_path_parameters_reach_the_door(ask: Ask, log: Log) -> None:
    """`jobs/{id}` matches one part of a path; the log shows the pattern, not the part."""
    doors = [
        door("jobs/{id}", methods=("GET",)),
        door("jobs/{id}/cancel"),
        door("openai/v1/chat/completions"),
    ]

    response = await ask(doors, "POST", "/functions/v1/jobs/a-1/cancel")

    assert response.json()["path_params"] == {"id": "a-1"}
    assert log.line["route"] == "/jobs/{id}/cancel"


async def test_two_doors_may_share_a_name(ask: Ask) -> None:
    """One name, two methods, two doors; the third method hears of both."""
    doors = [door("jobs", methods=("GET",), contract=Page), door("jobs", methods=("POST",), contract=Talk)]

    assert (await ask(doors, "GET", "/jobs?limit=0")).json()["body"]["limit"] == 0
    assert (await ask(doors, "POST", "/jobs", json=HELLO)).json()["body"]["messages"] == HELLO["messages"]
    assert (await ask(doors, "PATCH", "/jobs")).headers["allow"] == "GET, POST, HEAD, OPTIONS"


def test_two_doors_for_one_method_are_a_mistake(app: Application) -> None:
    """An application whose doors collide does not start."""
    with pytest.raises(ValueError, match="Two doors answer POST /talk"):
        app(door(), door())


async def test_the_query_of_a_get_is_its_contract(ask: Ask) -> None:
    """Numbers and switches are read from text; lists are repeated or separated by commas."""
    response = await ask(
        door("find", methods=("GET",), contract=Page), "GET", "/find?limit=0&models=a,b&models=c&newestFirst=true"
    )

    assert response.json()["body"] == {"limit": 0, "models": ["a", "b", "c"], "newest_first": True}


async def test_a_contract_that_needs_nothing_takes_an_empty_body(ask: Ask) -> None:
    """`curl -X POST` of a door whose fields are all optional is enough."""
    response = await ask(door("sweep", contract=Page), "POST", "/sweep")

    assert response.json()["body"] == {"limit": 10, "models": [], "newest_first": False}


async def test_head_is_get_without_a_body(app: Application) -> None:
    """Whoever can GET can ask for the headers alone, over a real socket."""
    async with connected(app(door("models", methods=("GET",)))) as client:
        got = await client.get("/models")
        head = await client.head("/models")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(got.content))


async def test_the_root_says_what_runs(ask: Ask) -> None:
    """`GET /` lists every door with its method, who may use it and what it is for."""
    response = await ask([door(caller="user"), door("jobs/{id}", methods=("GET",), caller="admin")], "GET", "/")

    assert response.json() == {
        "name": "openrouter-functions",
        "version": shared.__version__,
        "doors": [
            {"method": "POST", "path": "/talk", "who": "user", "summary": "The door talk."},
            {"method": "GET", "path": "/jobs/{id}", "who": "admin", "summary": "The door jobs/{id}."},
        ],
    }


@pytest.mark.parametrize(
    ("caller", "headers", "status"),
    [
        ("anyone", {}, 200),
        ("anyone", bearer("complete nonsense"), 200),
        ("user", {}, 401),
        ("user", bearer(token(role="anon", sub=None)), 401),
        ("user", bearer(token()), 200),
        ("user", bearer(ADMIN), 200),
        ("user", bearer(SERVICE_KEY), 200),
        ("user", {"apikey": SERVICE_KEY}, 200),
        ("user", {"apikey": "sb_publishable_x", **bearer(token())}, 200),
        ("admin", {}, 401),
        ("admin", bearer(token()), 403),
        ("admin", bearer(token(user_metadata={"role": "admin"})), 403),
        ("admin", bearer(ADMIN), 200),
        ("admin", bearer(SERVICE_KEY), 200),
        ("service", bearer(token()), 403),
        ("service", bearer(ADMIN), 403),
        ("service", bearer(SERVICE_KEY), 200),
        ("service", bearer(token(role="service_role", sub=None)), 200),
        ("user", bearer(token(role="postgres")), 403),
        ("webhook", {}, 401),
        ("webhook", bearer(SERVICE_KEY), 401),
        ("webhook", {"x-webhook-secret": "wrong"}, 401),
        ("webhook", {"x-webhook-secret": "wröng".encode("latin-1")}, 401),
        ("webhook", {"x-webhook-secret": WEBHOOK_SECRET}, 200),
    ],
)
async def test_a_door_is_open_to_its_callers(caller: Any, headers: Any, status: int, ask: Ask) -> None:
    """Each kind of caller passes the doors meant for it: 401 for nobody, 403 for the wrong one."""
    response = await ask(door(caller=caller), "POST", "/talk", headers=headers)

    assert response.status_code == status
    if status != 200:
        assert refusal(response)["code"] == {401: "UNAUTHENTICATED", 403: "FORBIDDEN"}[status]


async def test_a_webhook_without_a_secret_to_compare_is_our_mistake(ask: Ask) -> None:
    """An unset WEBHOOK_SECRET never means that everyone may call."""
    services = FakeServices(replace(SETTINGS, webhook_secret=None))

    response = await ask(door(caller="webhook"), "POST", "/talk", services=services, headers={"x-webhook-secret": "x"})

    assert (response.status_code, refusal(response)["code"]) == (503, "CONFIG_ERROR")
    assert "WEBHOOK_SECRET" in refusal(response)["message"]


async def test_the_caller_reaches_the_door_and_its_pseudonym_the_log(ask: Ask, log: Log) -> None:
    """The door knows the user; the log only that it was the same one as before."""
    response = await ask(door(caller="user"), "POST", "/talk", headers=bearer(token()))

    assert (response.json()["caller"], response.json()["user_id"]) == ("user", USER_ID)
    assert log.line["caller"] == "user"
    assert len(log.line["user"]) == 12
    assert USER_ID not in log.text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.b_c:d-1", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("a b", False),
        ("a\tb", False),
        ("<script>", False),
        ("", False),
    ],
)
async def test_a_request_id_is_honoured_when_it_is_a_plain_name(given: str, kept: bool, ask: Ask, log: Log) -> None:
    """The same id stands in the header, the error and the log; a strange one is replaced."""
    response = await ask(door(), "POST", "/nothing", headers={"X-Request-Id": given})

    request_id = response.headers["x-request-id"]
    assert (request_id == given) is kept
    assert len(request_id) == (len(given) if kept else 36)
    assert refusal(response)["request_id"] == log.line["request_id"] == request_id


@pytest.mark.parametrize(("key", "status"), [("order-1", 200), ("a" * 256, 400), ("a b", 400), (b"\xe4", 400)])
async def test_an_idempotency_key_is_visible_ascii(key: Any, status: int, ask: Ask) -> None:
    """A key that cannot be compared reliably is refused, by the name of its header."""
    response = await ask(door(), "POST", "/talk", headers={"Idempotency-Key": key})

    assert response.status_code == status
    if status == 200:
        assert response.json()["idempotency_key"] == key
    else:
        assert refusal(response)["details"][0]["field"] == "Idempotency-Key"


PREFLIGHT = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}


@pytest.mark.parametrize("path", ["/talk", "/functions/v1/talk", "/nothing"])
async def test_a_preflight_is_answered_anywhere(path: str, ask: Ask, log: Log) -> None:
    """A browser learns what it may send, even to an address that does not exist: its real request gets the error."""
    response = await ask(door(), "OPTIONS", path, headers=PREFLIGHT)

    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["access-control-allow-origin"] == "*"
    assert "POST" in response.headers["access-control-allow-methods"]
    assert response.headers["access-control-allow-headers"] == (
        "authorization, x-client-info, apikey, content-type, x-region, idempotency-key, x-request-id"
    )
    assert int(response.headers["access-control-max-age"]) > 0
    assert log.line["status"] == 204


@pytest.mark.parametrize("path", ["/talk", "/nothing"])
@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("https://app.example", "https://app.example"), ("https://evil.example", None), (None, None)],
)
async def test_only_allowed_origins_are_echoed(path: str, origin: str | None, allowed: str | None, ask: Ask) -> None:
    """With a list of origins the answer depends on who asks, and says so to caches."""
    services = FakeServices(replace(SETTINGS, allowed_origins=("https://app.example",)))

    response = await ask(door(), "POST", path, services=services, headers={"Origin": origin} if origin else {})

    assert response.headers.get("access-control-allow-origin") == allowed
    assert response.headers["vary"] == "Origin"


async def test_answers_expose_their_headers_to_browsers(ask: Ask) -> None:
    """A web page can read the request id and when to come again."""
    response = await ask(door(), "POST", "/talk")

    assert response.headers["access-control-expose-headers"] == "x-request-id, retry-after"


async def test_a_failure_of_a_door_becomes_the_error_of_the_contract(ask: Ask, log: Log) -> None:
    """Everything a Failure knows is in the answer; Retry-After is rounded up to whole seconds."""

    async def fail(call: Call[Any, Any]) -> Reply:
        raise RateLimited(retry_after_s=1.2, details=[Detail("model", "busy")], attempts=[{"model": "a/b"}])

    response = await ask(door(handle=fail), "POST", "/talk")

    error = refusal(response)
    del error["request_id"]  # type: ignore[attr-defined]  # a fresh dict, parsed above
    assert (response.status_code, response.headers["retry-after"]) == (429, "2")
    assert error == {
        "code": "RATE_LIMITED",
        "message": "Rate limit exceeded, please try again later",
        "retryable": True,
        "retry_after_s": 1.2,
        "fallback": True,
        "details": [{"field": "model", "message": "busy"}],
        "attempts": [{"model": "a/b"}],
    }
    assert (log.line["status"], log.line["code"]) == (429, "RATE_LIMITED")


@pytest.mark.parametrize(
    ("wait", "header", "field"),
    [(0, "0", 0), (0.0, "0", 0.0), (None, None, None), (-1, None, None), (float("nan"), None, None)],
)
async def test_a_wait_of_zero_survives_and_nonsense_does_not(wait: Any, header: Any, field: Any, ask: Ask) -> None:
    """Zero seconds is an answer; a wait that is no time is none."""

    async def fail(call: Call[Any, Any]) -> Reply:
        raise LimitExceeded(retry_after_s=wait)

    response = await ask(door(handle=fail), "POST", "/talk")

    assert response.headers.get("retry-after") == header
    assert refusal(response)["retry_after_s"] == field


async def test_a_missing_setting_is_named_in_the_log(ask: Ask, log: Log) -> None:
    """Whoever runs the server reads which setting a 503 was about."""

    async def fail(call: Call[Any, Any]) -> Reply:
        raise ConfigError("OPENROUTER_API_KEY is not set")

    await ask(door(handle=fail), "POST", "/talk")

    assert (log.line["level"], log.line["error"]) == ("ERROR", "OPENROUTER_API_KEY is not set")


@pytest.mark.parametrize("error", [ValueError, OSError, TimeoutError, RecursionError])
async def test_an_unexpected_error_is_ours_alone(error: type[Exception], ask: Ask, log: Log) -> None:
    """The caller reads INTERNAL; the log has the traceback, without keys and without quoted values."""

    message = "first sk-or-v1-abcdefgh line\nthe user's words"

    async def fail(call: Call[Any, Any]) -> Reply:
        raise error(message)

    response = await ask(door(handle=fail), "POST", "/talk")

    assert (response.status_code, refusal(response)["code"]) == (500, "INTERNAL")
    assert "line" not in response.text
    assert (log.line["status"], log.line["code"], log.line["level"]) == (500, "INTERNAL", "ERROR")
    assert "in fail" in log.line["traceback"]
    assert f"{error.__name__}: first [redacted] line" in log.line["traceback"]
    assert "sk-or" not in log.text
    assert "words" not in log.text


@pytest.mark.parametrize(
    "reply",
    [Reply({"object": object()}), Reply({}, headers={"x-name": "a\r\nset-cookie: b"}), Reply({}, headers={"x": "☃"})],
    ids=["no JSON", "a second header", "no header text"],
)
async def test_an_answer_that_cannot_be_sent_is_an_internal_error(reply: Reply, ask: Ask) -> None:
    """Nothing of an answer is sent before all of it can be."""

    async def answer(call: Call[Any, Any]) -> Reply:
        return reply

    response = await ask(door(handle=answer), "POST", "/talk")

    assert (response.status_code, refusal(response)["code"]) == (500, "INTERNAL")
    assert "set-cookie" not in response.headers


async def test_a_door_chooses_status_and_headers(ask: Ask) -> None:
    """A reply may say how long it can be kept; everything else about it stays ours."""

    async def answer(call: Call[Any, Any]) -> Reply:
        return Reply({"a": 1}, status=202, headers={"Cache-Control": "max-age=60"})

    response = await ask(door(handle=answer), "POST", "/talk")

    assert (response.status_code, response.headers["cache-control"]) == (202, "max-age=60")
    assert (response.headers["content-type"], response.json()) == ("application/json", {"a": 1})


async def test_a_door_adds_fields_to_the_log_line_but_rewrites_none(ask: Ask, log: Log) -> None:
    """The line of a request has what its door said, and what the edge knows better."""

    async def answer(call: Call[Any, Any]) -> Reply:
        call.log.update(use_case="roleplay", tokens=12, status=1, message="x", name="y", level="z")
        return Reply({})

    await ask(door(handle=answer), "POST", "/talk")

    assert (log.line["use_case"], log.line["tokens"]) == ("roleplay", 12)
    assert (log.line["status"], log.line["message"], log.line["level"]) == (200, "request", "INFO")


@dataclass
class LambdaContext:
    """What AWS hands over: how long this invocation may still run."""

    remaining_ms: int

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms


@pytest.mark.parametrize(
    ("context", "deadline"),
    [(None, 130.0), (LambdaContext(30_000), 129.0 - 100), (LambdaContext(900_000), 130.0)],
    ids=["no Lambda", "little time left", "much time left"],
)
async def test_the_deadline_is_the_shorter_of_ours_and_lambdas(context: Any, deadline: float, app: Application) -> None:
    """A request ends before its budget does, and before Lambda ends the process."""
    seen: list[float] = []

    async def answer(call: Call[Any, Any]) -> Reply:
        seen.append(call.deadline)
        return Reply({})

    services = FakeServices(replace(Settings(), request_timeout_s=130.0), monotonic=lambda: 0.0)
    inner = app(door(handle=answer), services=services)

    async def on_lambda(scope: Any, receive: Any, send: Any) -> None:
        await inner({**scope, "aws.context": context} if context else scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(on_lambda), base_url="http://edge") as client:
        await client.post("/talk")

    assert seen == [deadline]


async def test_a_client_that_leaves_before_its_answer_is_noted(app: Application, log: Log) -> None:
    """The door learns that the client left, may finish its work, and the log says 499."""
    began = asyncio.Event()

    async def answer(call: Call[Any, Any]) -> Reply:
        began.set()
        await call.disconnected.wait()
        return Reply({})

    async with serving(app(door(handle=answer))) as (host, port):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"POST /talk HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        await began.wait()
        writer.close()

    assert (log.line["status"], log.line["code"]) == (499, None)


async def test_cancellation_passes_and_leaves_its_line(app: Application, log: Log) -> None:
    """A server that shuts down is not answered with an error of ours."""
    began = asyncio.Event()

    async def answer(call: Call[Any, Any]) -> Reply:
        began.set()
        await asyncio.Event().wait()
        return Reply({})

    transport = httpx.ASGITransport(app(door(handle=answer)))
    async with httpx.AsyncClient(transport=transport, base_url="http://edge") as client:
        request = asyncio.create_task(client.post("/talk"))
        await began.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request

    assert log.line["status"] == 499


async def test_an_expired_token_is_refused_before_its_body_is_read(app: Application, log: Log) -> None:
    """A refused client may finish sending, but nothing it sends is kept or parsed."""
    expired = token(exp=NOW.timestamp() - 60)
    async with connected(app(door(caller="user", contract=Talk))) as client:
        response = await client.post("/talk", content=b"x" * 3_000_000, headers=bearer(expired))

    assert (response.status_code, refusal(response)["code"]) == (401, "UNAUTHENTICATED")
    assert log.line["status"] == 401
