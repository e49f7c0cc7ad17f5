"""What can go wrong with a call to OpenRouter, as one tree.

CallFailed (an Upstream)            what every failure of this room is
├── Throttled                       RateLimited           429
├── Overloaded                      UpstreamUnavailable   503, 529
├── ServerFault                     UpstreamError         500, 502, and an error nobody explains
├── TimedOut                        UpstreamTimeout       408, 504, 524: they say so
├── TooSlow                         UpstreamTimeout       our own timer: ceiling, first token, gap
├── OutOfTime                       UpstreamTimeout       the deadline of the whole request
├── Unreachable                     UpstreamUnavailable   nothing was sent: no connection
├── ConnectionLost                  UpstreamError         sent, but the answer broke off
├── UnreadableAnswer                UpstreamError         HTML, cut JSON, too large, malformed event
├── EmptyAnswer                     EmptyResponse         200 with nothing in it
│   └── ReasoningAteBudget                                the token limit went to reasoning
├── ToolCallCut                     UpstreamError         tool arguments that end too early
├── UnknownModel                    ModelGone             400, 404
│   └── NoEndpoints                                       404 because of our own wishes
├── PromptTooLong                   ContextTooLong
├── ParameterRefused                UpstreamError         400 that names a parameter
│   └── ReasoningMandatory
├── BadRequest                      UpstreamError         400, 409, 413, 422 and other 4xx
├── Misdirected                     UpstreamError         a redirect or a broken address: our setting is wrong
├── KeyRejected                     UpstreamError         401: our key; page someone
├── NotPermitted                    UpstreamError         403: region, guardrail, permission
├── Moderated                       ContentBlocked        400 policy, 403 moderation: ends the request
├── InFlightBudget                  PaymentRequired       402: too much at once, passes by itself
├── RequestTooHeavy                 PaymentRequired       402: this request alone is too big
├── CannotAfford                    PaymentRequired       402: "can only afford M"
├── PromptTooCostly                 PaymentRequired       402: the prompt alone is too dear
├── KeyLimit                        PaymentRequired       402, 403: limit of the key; page someone
└── OutOfCredit                     PaymentRequired       402: the account is empty; page someone

classification.py says which answer is which failure; retry.py, in one table, what to do about each. The provider's
words are in `cause_text`, for the log only; callers read `message`, which is ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from shared.errors import (
    ContentBlocked,
    ContextTooLong,
    EmptyResponse,
    ModelGone,
    PaymentRequired,
    RateLimited,
    Upstream,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)

if TYPE_CHECKING:
    from shared.openrouter.wire import Usage

# retry: the same call may be made again · next_model: another candidate may answer · next_provider: another provider
# may, this one will not · end: nobody will, tell the caller.
Disposition = Literal["retry", "next_model", "next_provider", "end"]

_CAUSE_LENGTH = 600


class CallFailed(Upstream):
    """One HTTP call brought no answer. `cause_text` is redacted and bounded, and meant for the log alone."""

    # An operator must act: no later request will fare better by itself.
    page: ClassVar[bool] = False

    def __init__(
        self,
        cause_text: str = "",
        *,
        status: int | None = None,
        error_type: str | None = None,
        retry_after_s: float | None = None,
        generation_id: str | None = None,
        upstream_provider: str | None = None,
        usage: Usage | None = None,
        told: bool = False,
        billed_unknown: bool | None = None,
    ) -> None:
        super().__init__(retry_after_s=retry_after_s)
        self.cause_text = cause_text[:_CAUSE_LENGTH]
        self.status = status
        self.error_type = error_type
        self.generation_id = generation_id
        self.upstream_provider = upstream_provider
        self.usage = usage
        # The provider itself said that it failed, so an answer without a token is not billed (insurance).
        self.told = told
        self.billed_unknown = billed_unknown
        # Written by the policy (retry.py) before anyone outside this room sees the failure.
        self.disposition: Disposition = "next_model"


class Throttled(RateLimited, CallFailed):
    pass


class Overloaded(UpstreamUnavailable, CallFailed):
    pass


class ServerFault(UpstreamError, CallFailed):
    pass


class TimedOut(UpstreamTimeout, CallFailed):
    pass


class TooSlow(UpstreamTimeout, CallFailed):
    pass


class OutOfTime(UpstreamTimeout, CallFailed):
    pass


class Unreachable(UpstreamUnavailable, CallFailed):
    pass


class ConnectionLost(UpstreamError, CallFailed):
    pass


class UnreadableAnswer(UpstreamError, CallFailed):
    pass


class EmptyAnswer(EmptyResponse, CallFailed):
    pass


class ReasoningAteBudget(EmptyAnswer):
    pass


class ToolCallCut(UpstreamError, CallFailed):
    pass


class UnknownModel(ModelGone, CallFailed):
    pass


class NoEndpoints(UnknownModel):
    pass


class PromptTooLong(ContextTooLong, CallFailed):
    pass


class ParameterRefused(UpstreamError, CallFailed):
    """`parameter` is the name on the wire; `instead` the name the provider wants in its place, if it said one."""

    retryable = False
    parameter: str = ""
    instead: str | None = None


class ReasoningMandatory(ParameterRefused):
    parameter = "reasoning"


class BadRequest(UpstreamError, CallFailed):
    retryable = False


class Misdirected(UpstreamError, CallFailed):
    retryable = False
    page = True


class KeyRejected(UpstreamError, CallFailed):
    retryable = False
    page = True


class NotPermitted(UpstreamError, CallFailed):
    retryable = False


# ContentBlocked first: its code and its status are the ones that count, and a refusal never falls back.
class Moderated(ContentBlocked, CallFailed):
    fallback = False


class InFlightBudget(PaymentRequired, CallFailed):
    retryable = True


class RequestTooHeavy(PaymentRequired, CallFailed):
    pass


class CannotAfford(PaymentRequired, CallFailed):
    """`affordable` is the greatest token limit the balance still covers, None when the text names none."""

    affordable: int | None = None


class PromptTooCostly(PaymentRequired, CallFailed):
    pass


class KeyLimit(PaymentRequired, CallFailed):
    page = True


class OutOfCredit(PaymentRequired, CallFailed):
    page = True
