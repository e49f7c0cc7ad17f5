"""Every failure has a row in the table of statuses, and the table is the contract's."""

from __future__ import annotations

from collections.abc import Iterator

from shared import errors
from shared.edge.status import STATUS, status_of
from shared.errors import Failure

# DESIGN, HTTP contract: codes and status.
CONTRACT = {
    "VALIDATION_ERROR": 400,
    "UNAUTHENTICATED": 401,
    "PAYMENT_REQUIRED": 402,
    "BUDGET_EXCEEDED": 402,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "MODEL_NOT_FOUND": 404,
    "METHOD_NOT_ALLOWED": 405,
    "CONFLICT": 409,
    "PAYLOAD_TOO_LARGE": 413,
    "CONTENT_BLOCKED": 422,
    "CONTEXT_TOO_LONG": 422,
    "RATE_LIMITED": 429,
    "INTERNAL": 500,
    "UPSTREAM_ERROR": 502,
    "EMPTY_RESPONSE": 502,
    "CONFIG_ERROR": 503,
    "UNAVAILABLE": 503,
    "FALLBACK_DISABLED": 503,
    "ALL_ROUTES_FAILED": 503,
    "TIMEOUT": 504,
}


def descendants(kind: type[Failure]) -> Iterator[type[Failure]]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


def test_every_failure_has_a_row() -> None:
    """Its own, or that of a parent other than the root."""
    for kind in descendants(Failure):
        assert any(parent in STATUS for parent in kind.__mro__ if parent is not Failure)
    own = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Failure)}
    assert own == set(STATUS)


def test_every_code_has_the_status_of_the_contract() -> None:
    """Code and status go together, for each failure and for each code that callers know."""
    for kind in descendants(Failure):
        assert status_of(kind) == CONTRACT[kind.code]
    assert {kind.code for kind in descendants(Failure)} == set(CONTRACT)
