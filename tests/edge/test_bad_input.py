"""Whatever is sent, the answer is the contract's error, names the field, echoes nothing and leaves one log line."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import Field

from tests.edge.conftest import NOW, USER_ID, Application, Ask, Log, Talk, bearer, door, refusal, serving, token

# Stands in every wrong value, so that any echo of it is seen.
CANARY = "canary7f3a"

TALK = door(contract=Talk, caller="user")
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


def said(**fields: Any) -> bytes:
    return json.dumps({**HELLO, **fields}).encode()


@pytest.mark.parametrize(
    ("body", "details"),
    [
        pytest.param(CANARY.encode(), {"body": "not valid JSON"}, id="not JSON"),
        pytest.param(b'{"messages": [', {"body": "not valid JSON"}, id="cut off"),
        pytest.param(f'["{CANARY}"]'.encode(), {"body": "should be an object"}, id="an array"),
        pytest.param(f'"{CANARY}"'.encode(), {"body": "should be an object"}, id="a string"),
        pytest.param(b"null", {"body": "should be an object"}, id="null"),
        pytest.param(b"", {"body": "is empty"}, id="empty"),
        pytest.param(b" \r\n", {"body": "is empty"}, id="blank"),
        pytest.param(b"{}", {"messages": "required"}, id="nothing given"),
        pytest.param(b'{"messages": "%s"}' % CANARY.encode(), {"messages": "valid array"}, id="wrong type"),
        pytest.param(
            said(messages=[{"role": CANARY, "content": "x"}, {"role": "user"}]),
            {"messages.0.role": "'user' or 'assistant'", "messages.1.content": "required"},
            id="wrong inside a list",
        ),
        pytest.param(said(maxTokens=CANARY), {"maxTokens": "valid integer"}, id="in the caller's spelling"),
        pytest.param(said(max_tokens=CANARY), {"max_tokens": "valid integer"}, id="in our spelling"),
        pytest.param(said(wrong_name=CANARY), {"wrong_name": "no such field"}, id="unknown field"),
        pytest.param(b'{"messages": [], "temperature": NaN}', {"temperature": "finite"}, id="NaN"),
        pytest.param(b'{"messages": [], "temperature": 1e999}', {"temperature": "finite"}, id="infinity"),
        pytest.param(b'{"messages": [], "metadata": {"a": [NaN]}}', {"metadata": "finite"}, id="NaN in free JSON"),
        pytest.param(said(character=f"{CANARY}\0"), {"character": "U+0000"}, id="NUL"),
        pytest.param(
            said(messages=[{"role": "user", "content": f"{CANARY}\0"}]),
            {"messages.0.content": "U+0000"},
            id="NUL inside",
        ),
        pytest.param(said(metadata={f"{CANARY}\0": 1}), {"metadata": "U+0000"}, id="NUL in a free name"),
        pytest.param(said(character="\ud800"), {"body": "not valid JSON"}, id="half a surrogate pair"),
        pytest.param(b'{"messages": "\xff\xfe"}', {"body": "not valid JSON"}, id="not UTF-8"),
        pytest.param(b"[" * 10_000, {"body": "not valid JSON"}, id="10,000 brackets"),
        pytest.param(b'{"a":' * 10_000, {"body": "not valid JSON"}, id="10,000 objects"),
        pytest.param(b'{"messages": [], "max_tokens": 1%s}' % (b"0" * 5_000), {"body": "not valid JSON"}, id="huge"),
        pytest.param(said(max_tokens=1.5), {"max_tokens": "valid integer"}, id="a fraction"),
        pytest.param(
            said(character={"age": CANARY}),
            {"character.first_name": "required", "character.age": "valid integer"},
            id="the branch of a union that was meant",
        ),
        pytest.param(said(character=5), {"character": "valid string; or: Input should be"}, id="no branch of a union"),
    ],
)
async def test_a_wrong_body_is_refused_by_the_name_of_its_field(
    body: bytes, details: dict[str, str], ask: Ask, log: Log
) -> None:
    """A wrong body is a VALIDATION_ERROR that names each wrong field and says what is wrong, never what was sent."""
    response = await ask(TALK, "POST", "/talk", content=body, headers=bearer(token()))

    error = refusal(response)
    assert (response.status_code, error["code"]) == (400, "VALIDATION_ERROR")
    assert {detail["field"] for detail in error["details"]} == set(details)
    for detail in error["details"]:
        assert details[detail["field"]] in detail["message"]
    assert CANARY not in response.text
    assert CANARY not in log.text
    assert (log.line["status"], log.line["code"], log.line["door"]) == (400, "VALIDATION_ERROR", "talk")


async def test_details_are_bounded(ask: Ask) -> None:
    """A hundred mistakes are answered with twenty, and an absurd name with its beginning."""
    wrong = {f"{number}\n{'n' * 5_000}": 1 for number in range(100)}

    response = await ask(TALK, "POST", "/talk", content=said(**wrong), headers=bearer(token()))

    details = refusal(response)["details"]
    assert len(details) == 20
    assert all(len(detail["field"]) <= 64 and detail["field"].isprintable() for detail in details)


async def test_more_mistakes_than_anyone_reads_are_not_listed(ask: Ask) -> None:
    """Listing a hundred thousand mistakes would keep everybody else waiting."""
    response = await ask(TALK, "POST", "/talk", content=said(messages=[1] * 100_000), headers=bearer(token()))

    assert [detail["field"] for detail in refusal(response)["details"]] == ["body"]


def unsigned() -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"sub": USER_ID, "role": "service_role", "exp": NOW.timestamp() + 60}
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


def signed_by_a_stranger() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return jwt.encode({"sub": USER_ID, "role": "authenticated", "exp": NOW.timestamp() + 60}, key, algorithm="RS256")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        pytest.param({}, "signed in", id="nothing"),
        pytest.param({"Authorization": f"Basic {CANARY}"}, "malformed", id="another scheme"),
        pytest.param({"Authorization": "Bearer"}, "malformed", id="no token"),
        pytest.param(bearer(CANARY), "malformed", id="no JWT"),
        pytest.param(bearer(f"{CANARY}.b.c"), "malformed", id="broken JWT"),
        pytest.param(bearer(base64.urlsafe_b64encode(b"[" * 9_000).decode() + ".b.c"), "malformed", id="deep header"),
        pytest.param(bearer("a" * 20_000), "malformed", id="far too long"),
        pytest.param(bearer(token("another secret that is long enough too")), "signature", id="another's signature"),
        pytest.param(bearer(token(exp=NOW.timestamp() - 60)), "expired", id="expired"),
        pytest.param(bearer(token(exp=None)), "no expiry", id="never expires"),
        pytest.param(bearer(token(nbf=NOW.timestamp() + 60)), "not valid yet", id="not yet"),
        pytest.param(bearer(token(sub=CANARY)), "not a user id", id="no UUID"),
        pytest.param(bearer(token(sub=None)), "not a user id", id="no subject"),
        pytest.param(bearer(token(role=None)), "no role", id="no role"),
        pytest.param(bearer(unsigned()), "wrong algorithm", id="algorithm none"),
        pytest.param(bearer(signed_by_a_stranger()), "wrong algorithm", id="another algorithm"),
        pytest.param(bearer(token(algorithm="HS512")), "wrong algorithm", id="a near algorithm"),
        pytest.param(bearer(token(role="anon", sub=None)), "signed in", id="the anon key"),
        pytest.param(bearer("sb_publishable_abc"), "signed in", id="a publishable key"),
        pytest.param(bearer(f"sb_secret_{CANARY}"), "malformed", id="another's secret key"),
    ],
)
async def test_a_bad_token_is_refused_with_its_reason(headers: dict[str, str], reason: str, ask: Ask, log: Log) -> None:
    """A caller without a valid token reads why, and never the token."""
    response = await ask(TALK, "POST", "/talk", json=HELLO, headers=headers)

    error = refusal(response)
    assert (response.status_code, error["code"]) == (401, "UNAUTHENTICATED")
    assert reason in error["message"]
    assert response.headers["www-authenticate"] == "Bearer"
    assert CANARY not in response.text + log.text
    assert (log.line["status"], log.line["code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("GET", "/talk", 405, "METHOD_NOT_ALLOWED", id="wrong method"),
        pytest.param("DELETE", "/talk", 405, "METHOD_NOT_ALLOWED", id="unused method"),
        pytest.param("MADEUP", "/talk", 405, "METHOD_NOT_ALLOWED", id="unheard-of method"),
        pytest.param("POST", f"/{CANARY}", 404, "NOT_FOUND", id="unknown path"),
        pytest.param("POST", "/functions/v1/nothing", 404, "NOT_FOUND", id="unknown function"),
        pytest.param("POST", "/functions/v1x/talk", 404, "NOT_FOUND", id="not the prefix"),
        pytest.param("POST", "/talk/more", 404, "NOT_FOUND", id="below a door"),
        pytest.param("POST", "/x//talk", 404, "NOT_FOUND", id="two slashes"),
        pytest.param("POST", "/talk%00", 404, "NOT_FOUND", id="NUL in the path"),
    ],
)
async def test_a_wrong_address_is_refused_like_everything_else(
    method: str, path: str, status: int, code: str, ask: Ask, log: Log
) -> None:
    """Unknown paths and methods get the same error shape and their own log line."""
    response = await ask(TALK, method, path, content=CANARY)

    error = refusal(response)
    assert (response.status_code, error["code"]) == (status, code)
    assert response.headers.get("allow") == ("POST, OPTIONS" if status == 405 else None)
    assert CANARY not in response.text
    assert (log.line["status"], log.line["code"]) == (status, code)


@pytest.mark.parametrize(
    ("query", "details"),
    [
        pytest.param(f"max_tokens={CANARY}", {"max_tokens": "valid integer"}, id="wrong type"),
        pytest.param(f"other={CANARY}", {"other": "no such field"}, id="unknown"),
        pytest.param("max_tokens=1&max_tokens=2", {"max_tokens": "more than once"}, id="twice"),
        pytest.param("character=%00", {"character": "U+0000"}, id="NUL"),
        pytest.param("&".join(["a=1"] * 200), {"query": "At most"}, id="too many"),
    ],
)
async def test_a_wrong_query_is_refused_by_the_name_of_its_field(
    query: str, details: dict[str, str], ask: Ask, log: Log
) -> None:
    """The query of a GET is held to its contract as a body is."""
    response = await ask(door("find", methods=("GET",), contract=Query), "GET", f"/find?{query}")

    error = refusal(response)
    assert (response.status_code, error["code"]) == (400, "VALIDATION_ERROR")
    assert {detail["field"] for detail in error["details"]} == set(details)
    assert all(details[detail["field"]] in detail["message"] for detail in error["details"])
    assert CANARY not in response.text + log.text


class Query(Talk):
    """The same fields, none of them required."""

    messages: list[Any] = Field(default_factory=list)


@pytest.mark.parametrize("size", [1_000_001, 5_000_000], ids=["one byte too many", "5 MB"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length told", "chunked"])
async def test_a_large_body_is_refused_and_the_client_can_read_that(
    size: int, chunked: bool, app: Application, log: Log
) -> None:
    """An ordinary client that sends its whole body first still receives the refusal, over a real socket."""
    async with serving(app(TALK)) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        writer.write(f"POST /talk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token()}\r\n{framing}\r\n\r\n".encode())
        for start in range(0, size, 100_000):
            chunk = CANARY.encode()[:1] * min(100_000, size - start)
            writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunked else chunk)
            await writer.drain()
        writer.write(b"0\r\n\r\n" if chunked else b"")
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()

    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" not in head
    assert (log.line["status"], log.line["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_body_without_end_is_cut_off(app: Application, log: Log) -> None:
    """Whoever keeps sending far past the limit is answered and disconnected."""
    async with serving(app(TALK)) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"POST /talk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n"
            % token().encode()
        )
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"186a0\r\n%s\r\n" % (b"x" * 100_000))
                await asyncio.wait_for(writer.drain(), 5)
                await asyncio.sleep(0)
        writer.close()

    assert (log.line["status"], log.line["code"]) == (413, "PAYLOAD_TOO_LARGE")


async def test_a_body_that_does_not_come_is_not_waited_for(app: Application, log: Log) -> None:
    """A client that stops in the middle of its body is told so after the time for bodies."""
    async with serving(app(TALK, body_timeout_s=0.05)) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"POST /talk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{"
            % token().encode()
        )
        answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"did not arrive in time" in answer
    assert (log.line["status"], log.line["code"]) == (400, "VALIDATION_ERROR")


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_noted(app: Application, log: Log) -> None:
    """There is nobody to answer; the log says 499."""
    async with serving(app(TALK)) as (host, port):
        _, writer = await asyncio.open_connection(host, port)
        writer.write(
            b"POST /talk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\n{"
            % token().encode()
        )
        await writer.drain()
        writer.close()

    assert (log.line["status"], log.line["code"]) == (499, None)
