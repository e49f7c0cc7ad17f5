"""The one table from failures to HTTP status codes."""

from __future__ import annotations

from typing import Final

from shared import errors

STATUS: Final[dict[type[errors.Failure], int]] = {
    errors.Failure: 500,
    errors.Refused: 400,
    errors.InvalidRequest: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.ModelNotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.Conflict: 409,
    errors.PayloadTooLarge: 413,
    errors.BudgetExceeded: 402,
    errors.LimitExceeded: 429,
    errors.ContentBlocked: 422,
    errors.Upstream: 502,
    errors.RateLimited: 429,
    errors.PaymentRequired: 402,
    errors.UpstreamUnavailable: 503,
    errors.UpstreamError: 502,
    errors.UpstreamTimeout: 504,
    errors.EmptyResponse: 502,
    errors.ModelGone: 404,
    errors.ContextTooLong: 422,
    errors.AllRoutesFailed: 503,
    errors.FallbackDisabled: 503,
    errors.ConfigError: 503,
    errors.Unavailable: 503,
    errors.Internal: 500,
}


def status_of(failure: type[errors.Failure]) -> int:
    """The status of a failure: its own row, or that of the nearest parent with one."""
    return next(STATUS[kind] for kind in failure.__mro__ if kind in STATUS)
