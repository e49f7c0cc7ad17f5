"""How answers are written: JSON with exact numbers, error bodies and server-sent events."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from shared.errors import Failure

KEEP_ALIVE: Final = b": keep-alive\n\n"

# Beyond this a number is written with an exponent instead of a row of zeros.
_MAX_ZEROS: Final = 30


def encode_json(value: Any) -> bytes:
    """A value as JSON. Decimals become numbers with exactly their digits; what JSON cannot hold (NaN) becomes null."""
    pieces: list[str] = []
    _write(value, pieces)
    # A lone surrogate cannot be UTF-8; backslashreplace turns it into the escape that JSON knows.
    return "".join(pieces).encode("utf-8", "backslashreplace")


def encode_event(name: str, data: Any) -> bytes:
    """One server-sent event. JSON holds no line breaks, so one data line is always enough."""
    return b"event: " + name.encode() + b"\ndata: " + encode_json(data) + b"\n\n"


def failure_body(failure: Failure, request_id: str) -> dict[str, Any]:
    """The error object of the HTTP contract (DESIGN, HTTP contract, Error); every key is always there."""
    return {
        "error": {
            "code": failure.code,
            "message": failure.message,
            "request_id": request_id,
            "retryable": failure.retryable,
            "retry_after_s": retry_after_s(failure),
            "fallback": failure.fallback,
            "details": [{"field": detail.field, "message": detail.message} for detail in failure.details],
            "attempts": list(failure.attempts),
        }
    }


def retry_after_s(failure: Failure) -> float | None:
    """The wait that a failure asks for; None when it asks for none, or for one that is no time at all."""
    wait = failure.retry_after_s
    return wait if wait is not None and math.isfinite(wait) and wait >= 0 else None


def _write(value: Any, pieces: list[str]) -> None:
    if value is None:
        pieces.append("null")
    elif value is True:
        pieces.append("true")
    elif value is False:
        pieces.append("false")
    elif isinstance(value, str):
        pieces.append(encode_basestring(value))
    elif isinstance(value, int):
        pieces.append(int.__repr__(value))
    elif isinstance(value, float):
        pieces.append(float.__repr__(value) if math.isfinite(value) else "null")
    elif isinstance(value, Decimal):
        pieces.append(_number(value))
    elif isinstance(value, BaseModel):
        _write(value.model_dump(by_alias=False), pieces)
    elif isinstance(value, Mapping):
        _write_object(value.items(), pieces)
    elif isinstance(value, list | tuple | set | frozenset):
        pieces.append("[")
        for index, held in enumerate(value):
            if index:
                pieces.append(",")
            _write(held, pieces)
        pieces.append("]")
    elif is_dataclass(value) and not isinstance(value, type):
        _write_object(((known.name, getattr(value, known.name)) for known in fields(value)), pieces)
    else:
        # Times, UUIDs, enums and secrets: pydantic writes them as everywhere else.
        _write(to_jsonable_python(value), pieces)


def _write_object(items: Iterable[tuple[Any, Any]], pieces: list[str]) -> None:
    pieces.append("{")
    for index, (name, held) in enumerate(items):
        if index:
            pieces.append(",")
        if not isinstance(name, str):
            raise TypeError(f"A JSON object has names, not {type(name).__name__} keys")
        pieces.append(encode_basestring(name))
        pieces.append(":")
        _write(held, pieces)
    pieces.append("}")


def _number(value: Decimal) -> str:
    if not value.is_finite():
        return "null"
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and -_MAX_ZEROS <= exponent <= _MAX_ZEROS:
        return format(value, "f")
    return str(value)
