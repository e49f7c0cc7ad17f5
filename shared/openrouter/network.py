"""What the network's own exceptions mean: whether a call was ever sent, and which failure of ours it is."""

from __future__ import annotations

from functools import cache

import httpx

from shared.openrouter import classification
from shared.openrouter.errors import CallFailed, ConnectionLost, Misdirected, Unreachable, UnreadableAnswer

Kinds = tuple[type[BaseException], ...]


@cache
def faults() -> Kinds:
    """Every exception a transport may raise. For an `except` clause, which asks for it only when one was raised."""
    # Imported here: aiohttp takes longer to load than the rest of a door, and a door may never need it.
    import aiohttp

    # The aiohttp transport lets some of its own exceptions through.
    return (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError)


@cache
def _never_sent() -> Kinds:
    import aiohttp

    ours = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
    return (*ours, httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def translated(exc: BaseException, status: int | None) -> CallFailed:
    """The failure behind a network exception; `status` is that of the answer, if one had begun."""
    import aiohttp

    if isinstance(exc, httpx.InvalidURL | httpx.UnsupportedProtocol):
        return Misdirected(_named(exc))
    if isinstance(exc, httpx.DecodingError):
        return UnreadableAnswer(_named(exc), status=status)
    # The aiohttp transport calls a lost connection a ConnectTimeout, so the cause underneath tells them apart.
    cause = exc.__cause__ if isinstance(exc.__cause__, aiohttp.ClientError) else exc
    if status is None and isinstance(cause, _never_sent()):
        return Unreachable(_named(cause))
    return ConnectionLost(_named(cause), status=status)


def _named(exc: BaseException) -> str:
    return classification.redacted(f"{type(exc).__name__}: {exc}")
