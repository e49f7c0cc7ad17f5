"""Every failure this project raises, as one tree.

Failure
├── Refused                 our own answer to a bad request; never falls back
│   ├── InvalidRequest      VALIDATION_ERROR
│   ├── Unauthenticated     UNAUTHENTICATED
│   ├── Forbidden           FORBIDDEN
│   ├── NotFound            NOT_FOUND
│   ├── ModelNotFound       MODEL_NOT_FOUND
│   ├── MethodNotAllowed    METHOD_NOT_ALLOWED
│   ├── Conflict            CONFLICT
│   ├── PayloadTooLarge     PAYLOAD_TOO_LARGE
│   ├── BudgetExceeded      BUDGET_EXCEEDED
│   ├── LimitExceeded       RATE_LIMITED (a limit of ours, not of a provider)
│   └── ContentBlocked      CONTENT_BLOCKED
├── Upstream                a provider failed; another candidate may still answer
│   ├── RateLimited         RATE_LIMITED
│   ├── PaymentRequired     PAYMENT_REQUIRED
│   ├── UpstreamUnavailable UNAVAILABLE
│   ├── UpstreamError       UPSTREAM_ERROR
│   ├── UpstreamTimeout     TIMEOUT
│   ├── EmptyResponse       EMPTY_RESPONSE
│   ├── ModelGone           MODEL_NOT_FOUND
│   └── ContextTooLong      CONTEXT_TOO_LONG
├── AllRoutesFailed         ALL_ROUTES_FAILED
├── FallbackDisabled        FALLBACK_DISABLED
├── ConfigError             CONFIG_ERROR
├── Unavailable             UNAVAILABLE (the database, or this process, cannot serve)
└── Internal                INTERNAL

What a caller may do next is data on the class. HTTP status codes are not: they are in shared/edge/status.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Detail:
    """One wrong field: its dotted path as the caller wrote it, and what is wrong with it (never its value)."""

    field: str
    message: str


class Failure(Exception):
    """Root of the tree. The class docstring of a subclass is never shown; `default_message` is."""

    code: ClassVar[str] = "INTERNAL"
    default_message: ClassVar[str] = "Something went wrong on our side"
    retryable: ClassVar[bool] = False
    # True for upstream errors: eligible for the chat worker when the caller asked for it (seed, Error handling).
    fallback: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        details: Sequence[Detail] = (),
        retry_after_s: float | None = None,
        attempts: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.message = message if message is not None else self.default_message
        self.details = tuple(details)
        self.retry_after_s = retry_after_s
        self.attempts = tuple(attempts)
        super().__init__(self.message)


class Refused(Failure):
    code = "VALIDATION_ERROR"
    default_message = "The request was refused"


class InvalidRequest(Refused):
    code = "VALIDATION_ERROR"
    default_message = "The request is not valid"


class Unauthenticated(Refused):
    code = "UNAUTHENTICATED"
    default_message = "A valid access token is required"


class Forbidden(Refused):
    code = "FORBIDDEN"
    default_message = "This caller may not do that"


class NotFound(Refused):
    code = "NOT_FOUND"
    default_message = "There is nothing at this address"


class ModelNotFound(Refused):
    code = "MODEL_NOT_FOUND"
    default_message = "There is no such model"


class MethodNotAllowed(Refused):
    code = "METHOD_NOT_ALLOWED"
    default_message = "This method is not allowed here"


class Conflict(Refused):
    code = "CONFLICT"
    default_message = "This idempotency key was used for another request"


class PayloadTooLarge(Refused):
    code = "PAYLOAD_TOO_LARGE"
    default_message = "The request body is too large"


class BudgetExceeded(Refused):
    code = "BUDGET_EXCEEDED"
    default_message = "The budget for this period is used up"


class LimitExceeded(Refused):
    code = "RATE_LIMITED"
    default_message = "Rate limit exceeded, please try again later"
    retryable = True


class ContentBlocked(Refused):
    code = "CONTENT_BLOCKED"
    default_message = "This content is not allowed"


class Upstream(Failure):
    """A provider failed. The messages of its children are the seed's texts (Error handling)."""

    code = "UPSTREAM_ERROR"
    default_message = "Unknown OpenRouter API error"
    fallback = True


class RateLimited(Upstream):
    code = "RATE_LIMITED"
    default_message = "Rate limit exceeded, please try again later"
    retryable = True


class PaymentRequired(Upstream):
    code = "PAYMENT_REQUIRED"
    default_message = "Payment required for OpenRouter API"


class UpstreamUnavailable(Upstream):
    code = "UNAVAILABLE"
    default_message = "OpenRouter service temporarily unavailable"
    retryable = True


class UpstreamError(Upstream):
    code = "UPSTREAM_ERROR"
    default_message = "Unknown OpenRouter API error"
    retryable = True


class UpstreamTimeout(Upstream):
    code = "TIMEOUT"
    default_message = "The model did not answer in time"
    retryable = True


class EmptyResponse(Upstream):
    code = "EMPTY_RESPONSE"
    default_message = "The model returned an empty answer"
    retryable = True


class ModelGone(Upstream):
    code = "MODEL_NOT_FOUND"
    default_message = "The provider no longer serves this model"


class ContextTooLong(Upstream):
    code = "CONTEXT_TOO_LONG"
    default_message = "The conversation is longer than the model can read"


class AllRoutesFailed(Failure):
    code = "ALL_ROUTES_FAILED"
    default_message = "Every model that may answer this request failed"
    retryable = True
    fallback = True


class FallbackDisabled(Failure):
    code = "FALLBACK_DISABLED"
    default_message = "OpenRouter generation failed and fallback disabled"
    retryable = True
    fallback = True


class ConfigError(Failure):
    code = "CONFIG_ERROR"
    default_message = "A setting of this server is missing or wrong"


class Unavailable(Failure):
    code = "UNAVAILABLE"
    default_message = "The service is temporarily unavailable"
    retryable = True


class Internal(Failure):
    code = "INTERNAL"
    default_message = "Something went wrong on our side"
