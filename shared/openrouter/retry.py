"""What to do about each failure: one table, and the decision that reads it; pure, nothing here waits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from shared.openrouter import errors, wire
from shared.openrouter.errors import CallFailed, CannotAfford, Disposition, ParameterRefused

# before trying again: wait as told, else with backoff · leave out the refused parameter · lower the token limit
Remedy = Literal["wait", "drop", "lower"]


@dataclass(frozen=True, slots=True)
class Row:
    """`retries` more tries here at most (and never more than the policy allows in all), then `then`."""

    retries: int
    then: Disposition
    remedy: Remedy = "wait"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Two bounds on every request: tries, and the caller's deadline. Seconds; the seed's 3 retries and 60 s a try.

    `longest_wait_s`: a provider that asks for more is left at once for the next candidate.
    """

    retries: int = 3
    attempt_s: float = 60.0
    connect_s: float = 5.0
    backoff_s: float = 0.5
    longest_backoff_s: float = 8.0
    longest_wait_s: float = 10.0


POLICY: Mapping[type[CallFailed], Row] = {
    errors.Throttled: Row(3, "next_model"),
    errors.Overloaded: Row(3, "next_model"),
    errors.ServerFault: Row(3, "next_model"),
    errors.TimedOut: Row(3, "next_model"),
    # A minute is gone: what is left of the deadline is better spent on another model than on the one that hangs.
    errors.TooSlow: Row(0, "next_model"),
    errors.OutOfTime: Row(0, "end"),
    errors.Unreachable: Row(3, "next_provider"),
    errors.ConnectionLost: Row(3, "next_model"),
    # What cannot be read was paid for, and tends to be as unreadable the next time.
    errors.UnreadableAnswer: Row(1, "next_model"),
    errors.EmptyAnswer: Row(1, "next_model"),
    # The same limit would be eaten, and the same arguments cut, again.
    errors.ReasoningAteBudget: Row(0, "next_model"),
    errors.ToolCallCut: Row(0, "next_model"),
    errors.UnknownModel: Row(0, "next_model"),
    errors.NoEndpoints: Row(0, "next_model"),
    errors.PromptTooLong: Row(0, "next_model"),
    errors.ParameterRefused: Row(3, "next_model", "drop"),
    errors.ReasoningMandatory: Row(1, "next_model", "drop"),
    errors.BadRequest: Row(0, "next_model"),
    errors.Misdirected: Row(0, "next_provider"),
    errors.KeyRejected: Row(0, "next_provider"),
    errors.NotPermitted: Row(0, "next_model"),
    errors.Moderated: Row(0, "end"),
    errors.InFlightBudget: Row(3, "next_provider"),
    errors.RequestTooHeavy: Row(1, "next_model", "lower"),
    # A cheaper model of the same provider may still fit the balance.
    errors.CannotAfford: Row(1, "next_model", "lower"),
    errors.PromptTooCostly: Row(0, "next_model"),
    errors.KeyLimit: Row(0, "next_provider"),
    errors.OutOfCredit: Row(0, "next_provider"),
}


@dataclass(frozen=True, slots=True)
class Course:
    """What one request has been through so far, towards one model: failures of each class, and what they taught."""

    failures: Mapping[type[CallFailed], int]
    adjustments: wire.Adjustments = wire.UNADJUSTED

    @property
    def tries(self) -> int:
        return sum(self.failures.values())

    def after(self, failure: CallFailed, adjustments: wire.Adjustments) -> Course:
        """The course with one more failure behind it."""
        kind = type(failure)
        return Course({**self.failures, kind: self.failures.get(kind, 0) + 1}, adjustments)


@dataclass(frozen=True, slots=True)
class Decision:
    """`disposition` retry: wait `wait_s`, then ask again with `adjustments`. Anything else: give up here."""

    disposition: Disposition
    wait_s: float = 0.0
    adjustments: wire.Adjustments = wire.UNADJUSTED


def row_for(failure: CallFailed) -> Row:
    """The row of the failure's class, or of its nearest parent that has one."""
    return next((POLICY[kind] for kind in type(failure).__mro__ if kind in POLICY), Row(0, "next_model"))


def decide(
    failure: CallFailed,
    course: Course,
    question: wire.Question,
    *,
    policy: RetryPolicy,
    remaining_s: float,
    random: Callable[[], float],
) -> Decision:
    """What to do after `failure`, given what came before it and the seconds left until the deadline.

    A wait that would pass the deadline, or that is longer than the policy bears, is not begun. `random` gives numbers
    from 0 up to 1.
    """
    row = row_for(failure)
    give_up = Decision(row.then, adjustments=course.adjustments)
    if course.failures.get(type(failure), 0) >= row.retries or course.tries >= policy.retries:
        return give_up
    if row.remedy == "wait":
        wait_s = _wait(failure.retry_after_s, course.tries, policy, random)
        # Strictly less: a try that begins at the deadline cannot answer.
        fits = wait_s is not None and wait_s < remaining_s
        return Decision("retry", wait_s or 0.0, course.adjustments) if fits else give_up
    adjustments = _adjusted(failure, course.adjustments, question)
    if adjustments is None or remaining_s <= 0:
        return give_up
    return Decision("retry", 0.0, adjustments)


def _wait(told: float | None, tries: int, policy: RetryPolicy, random: Callable[[], float]) -> float | None:
    if told is None:
        # Full jitter: those who failed together must not come back together.
        return random() * min(policy.longest_backoff_s, policy.backoff_s * 2.0**tries)
    if told > policy.longest_wait_s:
        return None
    return told + random() * 0.1 * told


def _adjusted(failure: CallFailed, so_far: wire.Adjustments, question: wire.Question) -> wire.Adjustments | None:
    """What to change before the next try, or None when a change would change nothing."""
    if isinstance(failure, ParameterRefused):
        if failure.instead is not None:
            known = failure.parameter in question.body and so_far.limit_name is None
            return _with(so_far, limit_name=failure.instead) if known else None
        name = failure.parameter
        sent = name in question.body or (name == "reasoning" and "reasoning_effort" in question.body)
        if not sent or name in so_far.dropped or name in ("model", "messages", "stream"):
            return None
        return _with(so_far, dropped=(*so_far.dropped, name))
    limit = question.parameters["max_tokens"]
    affordable = failure.affordable if isinstance(failure, CannotAfford) else math.floor(limit / 2)
    if affordable is None or not wire.LEAST_MAX_TOKENS <= affordable < limit:
        return None
    return _with(so_far, max_tokens=affordable)


def _with(
    so_far: wire.Adjustments,
    *,
    dropped: tuple[str, ...] | None = None,
    max_tokens: int | None = None,
    limit_name: str | None = None,
) -> wire.Adjustments:
    return wire.Adjustments(
        dropped=so_far.dropped if dropped is None else dropped,
        max_tokens=so_far.max_tokens if max_tokens is None else max_tokens,
        limit_name=so_far.limit_name if limit_name is None else limit_name,
    )
