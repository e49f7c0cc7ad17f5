"""How long a provider asks us to wait: every place it may say so, read in the documented order; pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

# An absurd wait is kept as "very long" (about thirty years): it must not turn into "no hint, try again now".
_VERY_LONG_S = 1e9
_SECONDS = re.compile(r"\d+(\.\d+)?")
# X-RateLimit-Reset is epoch milliseconds at OpenRouter; other servers send epoch seconds or plain seconds.
_EPOCH_MS_FROM = 1e11
_EPOCH_S_FROM = 1e9


def read(headers: Mapping[str, str], error: object, *, now: float) -> float | None:
    """Seconds to wait, or None when nothing usable is said.

    `now` is UTC epoch seconds, for dates and epoch resets. A value that is negative, broken, infinite or a moment
    already past is no hint, and the next place is read. Zero is a hint: try at once.
    """
    outer = {name.lower(): value for name, value in headers.items()}
    body = error if isinstance(error, Mapping) else {}
    availability, metadata = _mapping(body.get("availability")), _mapping(body.get("metadata"))
    inner = {str(name).lower(): value for name, value in _mapping(metadata.get("headers")).items()}
    places = (
        _seconds_or_date(outer.get("retry-after"), now),
        _scaled(_seconds(outer.get("retry-after-ms")), 0.001),
        _seconds_or_date(availability.get("retry_after"), now),
        _seconds(metadata.get("retry_after_seconds")),
        _seconds_or_date(inner.get("retry-after"), now),
        _until_reset(inner.get("x-ratelimit-reset"), now),
        _until_reset(outer.get("x-ratelimit-reset"), now),
    )
    return next((wait for wait in places if wait is not None), None)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _seconds(value: object) -> float | None:
    if isinstance(value, str):
        text = value.strip()
        if not _SECONDS.fullmatch(text):
            return None
        return min(float(text), _VERY_LONG_S)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = _finite(value)
    return None if number is None or number < 0 else min(number, _VERY_LONG_S)


def _finite(value: int | float | Decimal) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _seconds_or_date(value: object, now: float) -> float | None:
    seconds = _seconds(value)
    if seconds is not None or not isinstance(value, str):
        return seconds
    try:
        moment = parsedate_to_datetime(value)
        wait = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return min(wait, _VERY_LONG_S) if wait >= 0 else None


def _until_reset(value: object, now: float) -> float | None:
    if isinstance(value, str):
        number = float(value) if _SECONDS.fullmatch(value.strip()) else None
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        number = _finite(value)
    else:
        return None
    if number is None or number < 0:
        return None
    if number < _EPOCH_S_FROM:
        return number
    wait = (number / 1000 if number >= _EPOCH_MS_FROM else number) - now
    return min(wait, _VERY_LONG_S) if wait >= 0 else None


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value * by
