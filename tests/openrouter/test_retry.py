"""The policy table row by row, and the bounds that hold over all of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.openrouter import errors, retry, wire
from shared.openrouter.errors import CallFailed, CannotAfford, ParameterRefused
from shared.openrouter.retry import Course, Decision, RetryPolicy
from shared.openrouter.wire import Adjustments, ChatRequest, Sampling

ASKED = ChatRequest("maker/model", [{"role": "user", "content": "Hello"}], Sampling(max_tokens=400))


def decide(
    failure: CallFailed,
    *,
    before: dict[type[CallFailed], int] | None = None,
    adjustments: Adjustments = wire.UNADJUSTED,
    remaining_s: float = 60,
    policy: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
    random: Callable[[], float] = lambda: 1.0,
    request: ChatRequest = ASKED,
) -> Decision:
    question = wire.build(request, adjustments=adjustments)
    return retry.decide(
        failure, Course(before or {}, adjustments), question, policy=policy, remaining_s=remaining_s, random=random
    )


def every_kind(parent: type[CallFailed] = CallFailed) -> list[type[CallFailed]]:
    children = [child for child in parent.__subclasses__() if child.__module__ == errors.__name__]
    return [kind for child in children for kind in (child, *every_kind(child))]


EXPECTED = {
    errors.Throttled: (3, "next_model"),
    errors.Overloaded: (3, "next_model"),
    errors.ServerFault: (3, "next_model"),
    errors.TimedOut: (3, "next_model"),
    errors.TooSlow: (0, "next_model"),
    errors.OutOfTime: (0, "end"),
    errors.Unreachable: (3, "next_provider"),
    errors.ConnectionLost: (3, "next_model"),
    errors.UnreadableAnswer: (1, "next_model"),
    errors.EmptyAnswer: (1, "next_model"),
    errors.ReasoningAteBudget: (0, "next_model"),
    errors.ToolCallCut: (0, "next_model"),
    errors.UnknownModel: (0, "next_model"),
    errors.NoEndpoints: (0, "next_model"),
    errors.PromptTooLong: (0, "next_model"),
    errors.BadRequest: (0, "next_model"),
    errors.Misdirected: (0, "next_provider"),
    errors.KeyRejected: (0, "next_provider"),
    errors.NotPermitted: (0, "next_model"),
    errors.Moderated: (0, "end"),
    errors.InFlightBudget: (3, "next_provider"),
    errors.PromptTooCostly: (0, "next_model"),
    errors.KeyLimit: (0, "next_provider"),
    errors.OutOfCredit: (0, "next_provider"),
}
CHANGING = {errors.ParameterRefused, errors.ReasoningMandatory, errors.RequestTooHeavy, errors.CannotAfford}


def test_every_failure_has_a_row_of_its_own() -> None:
    """A new kind of failure cannot inherit its treatment by accident."""
    assert set(retry.POLICY) == set(every_kind())
    assert set(EXPECTED) | CHANGING == set(retry.POLICY)


@pytest.mark.parametrize(
    ("kind", "retries", "then"), [(k, *v) for k, v in EXPECTED.items()], ids=lambda v: str(getattr(v, "__name__", v))
)
def test_a_row_retries_as_often_as_it_says_and_then_moves_on(kind: type[CallFailed], retries: int, then: str) -> None:
    """The table: so many more tries here, then the next candidate, the next provider, or the end."""
    seen = [decide(kind(), before={kind: count}).disposition for count in range(retries + 1)]

    assert seen == ["retry"] * retries + [then]


def test_all_failures_together_are_bounded_by_the_policy() -> None:
    """Three retries after the first try, whatever mixture of failures used them up."""
    mixture: dict[type[CallFailed], int] = {errors.Overloaded: 1, errors.ServerFault: 1, errors.EmptyAnswer: 1}

    assert decide(errors.Throttled(), before=mixture).disposition == "next_model"


@pytest.mark.parametrize(
    ("told", "remaining_s", "decision"),
    [
        (2.0, 60.0, ("retry", 2.2)),
        (0.0, 60.0, ("retry", 0.0)),
        (10.0, 60.0, ("retry", 11.0)),
        (10.1, 60.0, ("next_model", 0.0)),
        (1e9, 60.0, ("next_model", 0.0)),
        (5.0, 5.0, ("next_model", 0.0)),
        (None, 60.0, ("retry", 0.5)),
        (None, 0.5, ("next_model", 0.0)),
        (0.0, 0.0, ("next_model", 0.0)),
    ],
    ids=[
        "as told",
        "at once",
        "the longest",
        "above the cap",
        "absurd",
        "past the deadline",
        "backoff",
        "no time",
        "late",
    ],
)
def test_a_wait_is_only_begun_when_it_is_short_and_fits_the_deadline(
    told: float | None, remaining_s: float, decision: tuple[str, float]
) -> None:
    """Waiting in vain is worse than asking the next candidate at once."""
    decided = decide(errors.Throttled(retry_after_s=told), remaining_s=remaining_s)

    assert decided.disposition == decision[0]
    assert decided.wait_s == pytest.approx(decision[1])


def test_the_backoff_doubles_and_is_capped() -> None:
    """Half a second, one, two, and never more than the cap."""
    policy = RetryPolicy(retries=9, longest_backoff_s=3.0)
    table_allows_three = [
        decide(errors.Throttled(), before={errors.Throttled: n}, policy=policy).wait_s for n in range(3)
    ]
    after_others = decide(errors.Throttled(), before={errors.ServerFault: 3}, policy=policy).wait_s

    assert [*table_allows_three, after_others] == [0.5, 1.0, 2.0, 3.0]


@given(random=st.floats(0, 1), tries=st.integers(0, 2))
def test_the_jitter_is_full(random: float, tries: int) -> None:
    """A wait lies anywhere between nothing and the backoff of that try."""
    wait_s = decide(errors.ServerFault(), before={errors.ServerFault: tries}, random=lambda: random).wait_s

    assert wait_s == pytest.approx(random * 0.5 * 2**tries)


def refused(parameter: str, instead: str | None = None) -> ParameterRefused:
    failure = ParameterRefused()
    failure.parameter, failure.instead = parameter, instead
    return failure


def test_a_refused_parameter_is_left_out_and_the_call_repeated_at_once() -> None:
    """Dropping it is the cure, so nothing is waited for."""
    assert decide(refused("top_p")) == Decision("retry", 0.0, Adjustments(dropped=("top_p",)))


def test_two_refused_parameters_are_both_left_out() -> None:
    """A model that refuses temperature often refuses top_p as well."""
    first = decide(refused("temperature"))
    second = decide(refused("top_p"), before={ParameterRefused: 1}, adjustments=first.adjustments)

    assert second.adjustments.dropped == ("temperature", "top_p")


@pytest.mark.parametrize(
    "parameter", ["min_p", "messages", "model", ""], ids=["never sent", "messages", "model", "none"]
)
def test_a_parameter_that_cannot_be_left_out_ends_the_tries_here(parameter: str) -> None:
    """What was not sent, or cannot be missing, is not cured by another try."""
    assert decide(refused(parameter)).disposition == "next_model"


def test_a_limit_under_the_wrong_name_changes_its_name_once() -> None:
    """A limit is always sent, so it is renamed and not dropped; the second time it is hopeless."""
    first = decide(refused("max_tokens", "max_completion_tokens"))
    again = decide(
        refused("max_completion_tokens", "max_tokens"), before={ParameterRefused: 1}, adjustments=first.adjustments
    )

    assert first.adjustments == Adjustments(limit_name="max_completion_tokens")
    assert again.disposition == "next_model"


def test_mandatory_reasoning_is_cured_by_not_switching_it_off() -> None:
    """The request that disabled reasoning is repeated without that wish."""
    request = ChatRequest("m", [], Sampling(extra={"reasoning": {"effort": "none"}}))

    assert decide(errors.ReasoningMandatory(), request=request).adjustments.dropped == ("reasoning",)
    assert decide(errors.ReasoningMandatory()).disposition == "next_model"


@pytest.mark.parametrize(
    ("affordable", "limit"),
    [(100, 100), (16, 16), (15, None), (0, None), (400, None), (5000, None), (None, None)],
    ids=["lower", "the least", "useless", "nothing", "no change", "more than asked", "not told"],
)
def test_an_affordable_limit_is_tried_once_when_it_is_of_use(affordable: int | None, limit: int | None) -> None:
    """ "Can only afford M" is answered with a limit of M, if M lowers it and still buys an answer."""
    failure = CannotAfford()
    failure.affordable = affordable

    decided = decide(failure)

    assert decided.adjustments.max_tokens == limit
    assert decided.disposition == ("next_model" if limit is None else "retry")
    assert decide(failure, before={CannotAfford: 1}).disposition == "next_model"


def test_a_request_too_heavy_for_the_budget_is_halved_once() -> None:
    """The request alone is too big, so its limit is lowered, once."""
    assert decide(errors.RequestTooHeavy()).adjustments.max_tokens == 200
    assert decide(errors.RequestTooHeavy(), before={errors.RequestTooHeavy: 1}).disposition == "next_model"


def test_a_change_without_time_left_is_not_tried() -> None:
    """The deadline bounds the cures as well."""
    assert decide(refused("top_p"), remaining_s=0).disposition == "next_model"


def test_an_unknown_child_is_treated_like_its_parent() -> None:
    """A subclass made elsewhere has the row of its nearest parent, and the root is harmless."""

    class Special(errors.Throttled):
        pass

    assert retry.row_for(Special()) == retry.POLICY[errors.Throttled]
    assert retry.row_for(CallFailed()) == retry.Row(0, "next_model")
