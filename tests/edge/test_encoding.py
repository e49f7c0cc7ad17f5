"""How numbers, texts and events are written."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from shared.edge.encoding import encode_event, encode_json
from shared.errors import Detail


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Bill(BaseModel):
    """A reply with money in it."""

    cost_usd: Decimal = Field(alias="costUsd")
    parts: list[Decimal]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Decimal("0.00123"), "0.00123"),
        (Decimal("0.1") + Decimal("0.2"), "0.3"),
        (Decimal("1E-9"), "0.000000001"),
        (Decimal("0.30000000000000004441"), "0.30000000000000004441"),
        (Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789"),
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0"), "0"),
        (Decimal("-0.5"), "-0.5"),
        (Decimal("1E-400"), "1E-400"),
        (Decimal("NaN"), "null"),
        (Decimal("Infinity"), "null"),
        (float("nan"), "null"),
        (0.1, "0.1"),
        (1e300, "1e+300"),
        (0, "0"),
        (False, "false"),
        (10**30, "1" + "0" * 30),
        ('a"\\\n\u2028é\0', '"a\\"\\\\\\n\u2028é\\u0000"'),
        ("\ud800", '"\\ud800"'),
        (Colour.RED, '"red"'),
        (Level.HIGH, "3"),
        (datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00Z"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (SecretStr("secret"), '"**********"'),
        (Detail("a", "b"), '{"field":"a","message":"b"}'),
        (Bill(costUsd=Decimal("1.5"), parts=[Decimal("1E-9")]), '{"cost_usd":1.5,"parts":[0.000000001]}'),
        ({"a": [1, (2,), {}], "b": None}, '{"a":[1,[2],{}],"b":null}'),
    ],
    ids=str,
)
def test_values_are_written_exactly(value: Any, written: str) -> None:
    """Money keeps its digits, models are snake_case, secrets stay secret, and the result is JSON."""
    encoded = encode_json(value).decode()

    assert encoded == written
    json.loads(encoded)


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_every_decimal_comes_back_as_it_was(value: Decimal) -> None:
    """Whatever a price is, reading the answer gives the same number."""
    assert json.loads(encode_json(value), parse_float=Decimal, parse_int=Decimal) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda of: st.lists(of) | st.dictionaries(st.text(), of)
    )
)
def test_every_json_value_comes_back_as_it_was(value: Any) -> None:
    """The encoder is JSON for everything that JSON has."""
    assert json.loads(encode_json(value)) == value


@pytest.mark.parametrize(
    "value", [{1: "a"}, object(), {"a": {"b": object()}}], ids=["number as name", "object", "deep"]
)
def test_what_is_no_json_is_refused(value: Any) -> None:
    """A mistake in an answer is an error here, not half an answer there."""
    with pytest.raises((TypeError, ValueError)):
        encode_json(value)


def test_an_event_cannot_be_broken_by_its_text() -> None:
    """Line breaks in a text stay inside its data line."""
    encoded = encode_event("delta", {"text": "a\n\nevent: done\ndata: {}\r\r"})

    assert encoded.count(b"\n\n") == 1
    assert encoded.count(b"\n") == 3
    assert b"\r" not in encoded
