"""What the log may and may not say."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from shared import observability
from shared.errors import Conflict
from shared.observability import RequestLine, log_request, open_log, pseudonym
from tests.edge.conftest import token


def logged(secrets: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    """The one line that these fields of a door make."""
    stream = io.StringIO()
    line = RequestLine(request_id="r-1", method="POST", route="/chat", door="chat", status=200, fields=fields)
    log_request(open_log(stream=stream, service=f"test-{uuid4()}", secrets=secrets), line)
    (written,) = stream.getvalue().splitlines()
    parsed: dict[str, Any] = json.loads(written)
    return parsed


def test_a_line_has_what_happened() -> None:
    """Door, route, status and the door's own fields; numbers stay numbers."""
    line = logged(use_case="roleplay", model="a/b", cost_usd=Decimal("0.00123"), tokens={"input": 1}, attempts=0)

    assert (line["request_id"], line["door"], line["method"], line["route"]) == ("r-1", "chat", "POST", "/chat")
    assert (line["status"], line["duration_ms"], line["caller"]) == (200, 0, "anonymous")
    assert (line["cost_usd"], line["tokens"], line["attempts"]) == (0.00123, {"input": 1}, 0)
    assert line["timestamp"].endswith("+00:00")


@pytest.mark.parametrize(
    "secret",
    [
        "sk-or-v1-0123456789abcdef",
        "sk-proj-abcdef",
        token(),
        "sb_secret_abcdef",
        "Bearer abc.def",
        "bearer\tabc",
        "postgres://user:pa/ss@host/db",
        "postgresql://user:p@ss@host/db",
        "redis://user:pass@host",
        "apikey=abcdef",
        'api_key: "abcdef"',
        "Password = hunter2",
        "AKIAABCDEFGHIJKLMNOP",
        "a known secret",
    ],
)
@pytest.mark.parametrize("place", ["plain", "nested", "name", "request id"])
def test_anything_like_a_key_is_struck_out(secret: str, place: str) -> None:
    """Wherever a key gets into a line, and however it is surrounded, it is not written."""
    text = f"before {secret} after"
    places: dict[str, dict[str, Any]] = {
        "plain": {"model": text},
        "nested": {"attempts": [{"model": text}]},
        "name": {"attempts": {text: 1}},
        "request id": {"provider": text.replace(" ", "_") if secret[0] == "s" else text},
    }

    written = json.dumps(logged(("a known secret",), **places[place]))

    assert "[redacted]" in written
    for part in ("0123456789abcdef", "abcdef", "eyJ", "abc.def", "\\tabc", "pass", "p@ss", "pa/ss", "hunter2", "AKIA"):
        if part in secret:
            assert part not in written
    assert "a known secret" not in written


@pytest.mark.parametrize("innocent", ["anthropic/claude", "task-force", "tokens", "https://host/path", "a@b.example"])
def test_innocent_words_stay(innocent: str) -> None:
    """Slugs, names and addresses are not mistaken for keys."""
    assert logged(model=innocent)["model"] == innocent


def test_a_line_stays_one_line() -> None:
    """Newlines, terminal codes, separators and broken characters cannot start another line."""
    nasty = 'a\nb\r\nc\u2028d\x1b[31m\ud800\0"}{'

    assert logged(model=nasty)["model"] == nasty


def test_long_and_strange_values_are_bounded() -> None:
    """A value is at most two hundred characters, a list twenty items; numbers that JSON lacks become text."""
    line = logged(model="x" * 10_000, attempts=list(range(1_000)), cost_usd=float("nan"), tokens=object())

    assert len(line["model"]) == 201
    assert len(line["attempts"]) == 20
    assert line["cost_usd"] == "nan"
    assert line["tokens"].startswith("<object")


def test_a_user_has_the_same_name_in_every_line() -> None:
    """A pseudonym is short, stable and not the id."""
    assert pseudonym("user-1") == pseudonym("user-1") != pseudonym("user-2")
    assert len(pseudonym("user-1")) == 12


def test_a_traceback_tells_causes_and_no_quoted_values() -> None:
    """Only the first line of a message is kept: below it, pydantic and Postgres quote what they refused."""
    message = "inner\nDETAIL: the user's words"
    try:
        try:
            raise ValueError(message)
        except ValueError as inner:
            raise ExceptionGroup("outer", [KeyError("member")]) from inner
    except ExceptionGroup as outer:
        told = observability.traceback_of(outer)

    assert told.index("ValueError: inner") < told.index("ExceptionGroup: outer")
    assert "KeyError: 'member'" in told
    assert "words" not in told


def test_problems_and_records_share_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no request is written too; a record is kept whole, because it will be replayed from there."""
    stream = io.StringIO()
    monkeypatch.setattr(observability, "_opened", open_log(stream=stream, service=f"test-{uuid4()}"))
    record = json.dumps({"completion_id": "c-1", "attempts": ["x" * 5_000]})

    observability.log_problem("the ledger refused a record", Conflict())
    observability.log_record(record)

    problem, kept = map(json.loads, stream.getvalue().splitlines())
    assert (problem["problem"], problem["code"]) == ("the ledger refused a record", "CONFLICT")
    assert "Conflict: This idempotency key" in problem["traceback"]
    assert kept["record"] == record
