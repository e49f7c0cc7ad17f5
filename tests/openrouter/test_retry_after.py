"""How long to wait, wherever a provider says it and however badly."""

from __future__ import annotations

from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.openrouter import retry_after

NOW = 1_795_000_000.0
AVAILABILITY = {"availability": {"retry_after": 3}}
METADATA = {"metadata": {"retry_after_seconds": 4}}
INNER = {"metadata": {"headers": {"Retry-After": "5"}}}


def reset(value: Any) -> dict[str, Any]:
    return {"metadata": {"headers": {"X-RateLimit-Reset": value}}}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 1.0),
        ("1.5", 1.5),
        (" 2 ", 2.0),
        ("0", 0.0),
        ("", None),
        ("-1", None),
        ("inf", None),
        ("nan", None),
        ("1e9", None),
        ("soon", None),
        ("1_000", None),
        ("99999999999999999999", 1e9),
        ("9" * 400, 1e9),
        (formatdate(NOW + 7, usegmt=True), 7.0),
        (formatdate(NOW + 7), 7.0),
        (formatdate(NOW - 7, usegmt=True), None),
        ("Mon, 99 Foo 2026 00:00:00 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9),
    ],
)
def test_the_http_header_is_read_in_every_form(text: str, seconds: float | None) -> None:
    """Seconds and dates count; what is negative, infinite, past or broken is no hint at all."""
    assert retry_after.read({"Retry-After": text}, {}, now=NOW) == seconds


@pytest.mark.parametrize(
    ("headers", "error", "seconds"),
    [
        ({"retry-after": "1", "retry-after-ms": "2000"}, AVAILABILITY | METADATA, 1.0),
        ({"retry-after-ms": "2000"}, AVAILABILITY | METADATA, 2.0),
        ({}, AVAILABILITY | METADATA, 3.0),
        ({}, METADATA, 4.0),
        ({}, INNER, 5.0),
        ({}, {"metadata": {**INNER["metadata"], "retry_after_seconds": 4}}, 4.0),
        ({}, reset(str(int((NOW + 6) * 1000))), 6.0),
        ({}, reset(int((NOW + 6) * 1000)), 6.0),
        ({}, reset(int(NOW + 8)), 8.0),
        ({}, reset("9"), 9.0),
        ({"X-RateLimit-Reset": str(int((NOW + 6) * 1000))}, {}, 6.0),
        ({}, reset(int((NOW - 6) * 1000)), None),
        ({}, reset("never"), None),
        ({}, reset(True), None),
        ({"retry-after": "broken"}, AVAILABILITY, 3.0),
        ({}, {"availability": {"retry_after": Decimal("0.25")}}, 0.25),
        ({}, {"availability": {"retry_after": -1}}, None),
        ({}, {"availability": {"retry_after": True}}, None),
        ({}, {"availability": "none", "metadata": []}, None),
        ({}, {}, None),
        ({}, "a text", None),
    ],
)
def test_the_places_are_read_in_the_documented_order(
    headers: dict[str, str], error: object, seconds: float | None
) -> None:
    """The first usable place wins, and a broken one gives way to the next."""
    assert retry_after.read(headers, error, now=NOW) == seconds


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.decimals() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=6,
)


@given(header=st.text(max_size=30), value=anything)
def test_no_value_in_any_place_breaks_the_reading(header: str, value: Any) -> None:
    """Whatever stands there, the result is nothing or a finite wait that is not negative."""
    errors = (
        {"availability": {"retry_after": value}},
        {"metadata": {"retry_after_seconds": value}},
        reset(value),
        value,
    )
    for error in errors:
        wait = retry_after.read({"retry-after": header}, error, now=NOW)

        assert wait is None or 0 <= wait <= 1e9
