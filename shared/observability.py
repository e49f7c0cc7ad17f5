"""What this process says about itself: one JSON line per request, without anybody's words or keys."""

from __future__ import annotations

import hashlib
import json
import math
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, Final

from shared.errors import Failure

if TYPE_CHECKING:
    from aws_lambda_powertools.logging import Logger

SERVICE: Final = "openrouter-functions"
TEXT_MAX_CHARS: Final = 200
# The end of a traceback is where it happened. A record must stay whole: it is replayed from its log line.
LONGER_TEXTS: Final[Mapping[str, int | None]] = {"traceback": 8_000, "record": None}
LIST_MAX_ITEMS: Final = 20
STRUCK_OUT: Final = "[redacted]"

_KEY_SHAPES: Final = (
    r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{6,}",  # OpenRouter and others
    r"eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)*",  # JWT
    r"sb_secret_[A-Za-z0-9_-]+",
    r"(?<![A-Za-z0-9])AKIA[A-Z0-9]{12,}",
    r"[Bb][Ee][Aa][Rr][Ee][Rr]\s+[^\s\"',;]+",
    r"(?<=postgres://)[^\s\"']*@",
    r"(?<=postgresql://)[^\s\"']*@",
    r"(?<=://)[^\s/@\"'<>]+@",
    r"(?i:api[_-]?key|token|password|secret)[\"']?\s*[=:]\s*[\"']?[^\s\"',;&]+",
)

# One of these stands in every text that a shape above matches, in lower case.
_KEY_MARKS: Final = (
    "sk-", "eyj", "sb_secret_", "akia", "bearer", "://", "apikey", "api_key", "api-key", "token", "password", "secret",
)  # fmt: skip

# Made once: json.dumps makes a new one for every call that is not plain.
_to_json: Final = json.JSONEncoder(separators=(",", ":")).encode

# One per process, like standard output: what has no request still writes to the same log.
_opened: Logger | None = None


@dataclass(slots=True)
class RequestLine:
    """What the log will say of one request. The edge fills it; a door adds to `fields`, never message text.

    `status` is what was answered, 499 when the client left before the end. `duration_ms` runs to the last byte.
    """

    request_id: str
    method: str
    route: str
    door: str | None = None
    status: int = 499
    duration_ms: int = 0
    code: str | None = None
    caller: str = "anonymous"
    user_id: str | None = None
    message: str | None = None
    error: BaseException | None = None
    fields: dict[str, Any] = field(default_factory=dict)


def open_log(
    level: str = "INFO", *, secrets: Iterable[str] = (), stream: IO[str] | None = None, service: str = SERVICE
) -> Logger:
    """The log of this process, on standard output unless `stream` is given. Every line passes one redaction.

    `secrets` are texts that must never be written, whatever they look like.
    """
    # Imported on first use: 20 ms of CPU that an import of a door need not pay.
    from aws_lambda_powertools.logging import Logger

    log = Logger(
        service=service,
        level=level,
        stream=stream,
        utc=True,
        use_rfc3339=True,
        serialize_stacktrace=False,
        json_serializer=_serializer(redaction(secrets)),
        # Our messages are words; Powertools would try to read each as JSON first.
        json_deserializer=str,
        # Every line is written by this file; where in it, nobody needs to know.
        location=None,
    )
    if service == SERVICE:
        global _opened
        _opened = log
    return log


def log_request(log: Logger, line: RequestLine) -> None:
    """Write the one line of a request. An unexpected error brings its traceback, without the values in it."""
    said: dict[str, Any] = {
        # First, so that a door cannot rewrite what the edge knows better.
        **line.fields,
        "request_id": line.request_id,
        "door": line.door,
        "method": line.method,
        "route": line.route,
        "status": line.status,
        "duration_ms": line.duration_ms,
        "code": line.code,
        "caller": line.caller,
        "user": None if line.user_id is None else pseudonym(line.user_id),
    }
    if line.message is not None:
        said["error"] = line.message
    if line.error is not None:
        said["traceback"] = traceback_of(line.error)
    # One extra key instead of many: names that the logging module reserves stay free for doors.
    if line.status >= 500 or line.error is not None:
        log.error("request", extra={"said": said})
    else:
        log.info("request", extra={"said": said})


def log_problem(problem: str, error: BaseException | None = None) -> None:
    """Write down something that went wrong without failing a request; `problem` is our own sentence."""
    said: dict[str, Any] = {"problem": problem}
    if isinstance(error, Failure):
        said["code"] = error.code
    if error is not None:
        said["traceback"] = traceback_of(error)
    _process_log().error("problem", extra={"said": said})


def log_record(record: str) -> None:
    """Keep a record of the ledger in the log, whole, where there is no disk to keep it on."""
    _process_log().error("record", extra={"said": {"record": record}})


def _process_log() -> Logger:
    """The log that the application opened, or one with the defaults for a process without one."""
    global _opened
    if _opened is None:
        _opened = open_log()
    return _opened


def pseudonym(user_id: str) -> str:
    """A short stable name for a user in logs; the user id cannot be read from it."""
    return hashlib.sha256(user_id.encode()).hexdigest()[:12]


def traceback_of(error: BaseException) -> str:
    """Where an error came from, causes first. Only the first line of a message is kept.

    The lines below it are where pydantic and Postgres quote the values they refuse.
    """
    told: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        first_line = str(current).partition("\n")[0][:TEXT_MAX_CHARS]
        told.append("".join(traceback.format_tb(current.__traceback__)) + f"{type(current).__name__}: {first_line}")
        if isinstance(current, BaseExceptionGroup):
            told.extend(traceback_of(member) for member in current.exceptions)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return "\n\nwhich led to:\n\n".join(reversed(told))


def redaction(secrets: Iterable[str] = ()) -> Callable[[str], str]:
    """A function that strikes out everything that looks like a key, a token or one of `secrets` from a text."""
    known = sorted({secret for secret in secrets if len(secret) >= 8}, key=len, reverse=True)
    pattern = re.compile("|".join([*map(re.escape, known), *_KEY_SHAPES]))
    marks = (*(secret.lower() for secret in known), *_KEY_MARKS)

    def redact(text: str) -> str:
        # Substring search first: the pattern costs 0.2 us per character, and nearly every text is innocent.
        lowered = text.lower()
        if not any(mark in lowered for mark in marks):
            return text
        return pattern.sub(lambda found: STRUCK_OUT + ("@" if found[0].endswith("@") else ""), text)

    return redact


def _serializer(redact: Callable[[str], str]) -> Callable[[dict[str, Any]], str]:
    def serialize(record: dict[str, Any]) -> str:
        said: Mapping[str, Any] = record.pop("said", {})
        line = {**said, **record}
        # Nearly every line is innocent, which one look at all its texts can tell.
        together = "\n".join([value for value in line.values() if isinstance(value, str)])
        strike = redact if redact(together) != together else _as_it_is
        plain = {
            key: _bounded(strike(value), key) if isinstance(value, str) else _plain(value, redact, key)
            for key, value in line.items()
        }
        # ASCII with escapes: no newline, terminal code or broken character can leave its line.
        return _to_json(plain)

    return serialize


def _plain(value: Any, redact: Callable[[str], str], key: str = "") -> Any:
    """A value as JSON can hold it: redacted, bounded in length, numbers as numbers."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _bounded(redact(value), key)
    if isinstance(value, float | Decimal):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {redact(str(name)): _plain(held, redact) for name, held in list(value.items())[:LIST_MAX_ITEMS]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(held, redact) for held in list(value)[:LIST_MAX_ITEMS]]
    return _bounded(redact(str(value)), key)


def _as_it_is(text: str) -> str:
    return text


def _bounded(text: str, key: str) -> str:
    if len(text) <= TEXT_MAX_CHARS:
        return text
    longest = LONGER_TEXTS.get(key, TEXT_MAX_CHARS)
    if longest is None or len(text) <= longest:
        return text
    return text[-longest:] if key == "traceback" else text[:longest] + "…"
