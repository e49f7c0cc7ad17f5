"""THE STORY of one request: plan, ask, fall back, observe, record. Read this first."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared import quality, routing, usage
from shared.edge import Event
from shared.errors import AllRoutesFailed, ConfigError, Failure, FallbackDisabled, Upstream, UpstreamTimeout
from shared.openrouter import Attempt, ChatRequest, Completion, Endpoint, Finished, TextDelta
from shared.routing import Candidate, Plan, Preset
from shared.usage import Cost, Try

if TYPE_CHECKING:
    from shared.identity import Caller
    from shared.services import Services

# What is kept of the request's time for writing the record and answering.
RESERVE_S = 1.0


@dataclass(frozen=True, slots=True)
class Ask:
    """What a door wants: who asks, for what, with what words. `deadline` is on the services' monotonic clock."""

    request_id: str
    caller: Caller
    use_case: str
    prompt: Callable[[Preset], list[dict[str, Any]]]
    deadline: float
    model: str | None = None
    models: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    fallback_to_chat_worker: bool | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    log: dict[str, Any] = field(default_factory=dict)


async def answer(ask: Ask, services: Services) -> dict[str, Any]:
    """The whole reply at once. Raises what stopped it: a refusal, or the failure of the candidates."""
    story = await _Story.begin(ask, services, streamed=False)
    async with story:
        for turn in story.turns():
            try:
                completion = await services.openrouter.complete(
                    turn.endpoint, turn.request, deadline=story.deadline, attempts=turn.attempts
                )
            except Upstream as failure:
                story.failed(failure)
                continue
            return await story.answered(completion)
        raise await story.gave_up()


async def stream(ask: Ask, services: Services) -> AsyncGenerator[Event, None]:
    """The reply as it is written: start, deltas, and one terminal event.

    Until the first visible text a fallback is invisible, because nothing was sent; a failure before it is raised.
    """
    story = await _Story.begin(ask, services, streamed=True)
    async with story:
        for turn in story.turns():
            spoken = services.openrouter.stream(
                turn.endpoint, turn.request, deadline=story.deadline, attempts=turn.attempts
            )
            started = False
            try:
                async with aclosing(spoken):
                    async for piece in spoken:
                        if isinstance(piece, TextDelta):
                            if not started:
                                started = True
                                yield Event("start", story.headline())
                            yield Event("delta", {"text": piece.text})
                        elif isinstance(piece, Finished):
                            finished = piece.completion
            except Upstream as failure:
                story.failed(failure)
                continue
            reply = await story.answered(finished)
            if not started:
                yield Event("start", story.headline())
            del reply["content"]
            yield Event("done", reply)
            return
        raise await story.gave_up()


@dataclass(frozen=True, slots=True)
class _Turn:
    """One candidate's chance to answer."""

    candidate: Candidate
    endpoint: Endpoint
    request: ChatRequest
    attempts: list[Attempt] = field(default_factory=list)


class _Story:
    """What happened so far. Entered once; left with exactly one record, however it ends."""

    def __init__(self, ask: Ask, plan: Plan, services: Services, *, streamed: bool) -> None:
        self._ask = ask
        self._plan = plan
        self._services = services
        self._streamed = streamed
        self._id = str(uuid.uuid4())
        self._began = services.monotonic()
        self._started_at = services.now()
        self._messages = ask.prompt(plan.preset)
        self._turns: list[_Turn] = []
        self._failures: list[Failure] = []
        self._recorded = False
        self.deadline = ask.deadline - RESERVE_S

    @classmethod
    async def begin(cls, ask: Ask, services: Services, *, streamed: bool) -> _Story:
        """Make the plan. Nothing is paid for before this returns."""
        plan = await routing.plan(
            {
                "request_id": ask.request_id,
                "user_id": ask.caller.user_id,
                "caller": ask.caller.kind,
                "use_case": ask.use_case,
                "model": ask.model,
                "models": list(ask.models),
                "params": dict(ask.params),
                "stream": streamed,
                "fallback_to_chat_worker": ask.fallback_to_chat_worker,
            },
            services.database,
        )
        return cls(ask, plan, services, streamed=streamed)

    async def __aenter__(self) -> _Story:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._recorded or not any(turn.attempts for turn in self._turns):
            return
        # The caller left, the server stops, or we have a bug: what was paid for is written all the same.
        left = isinstance(error, asyncio.CancelledError | GeneratorExit)
        outcome = {"outcome": "cancelled"} if left else {"outcome": "failed", "error_code": "INTERNAL"}
        await self._record(outcome)

    def turns(self) -> Iterator[_Turn]:
        """The candidates in order, as long as there is time and the last failure leaves hope."""
        unusable: set[str] = set()
        for candidate in self._plan.candidates:
            if candidate.provider in unusable or self._services.monotonic() >= self.deadline:
                continue
            try:
                turn = _Turn(candidate, self._endpoint(candidate), self._request(candidate))
            except ConfigError as missing:
                self._failures.append(missing)
                unusable.add(candidate.provider)
                continue
            self._turns.append(turn)
            before = len(self._failures)
            yield turn
            for failure in self._failures[before:]:
                disposition = getattr(failure, "disposition", "next_model")
                if disposition == "end":
                    return
                if disposition == "next_provider":
                    unusable.add(candidate.provider)

    def failed(self, failure: Upstream) -> None:
        """This candidate did not answer."""
        self._failures.append(failure)

    def headline(self) -> dict[str, Any]:
        """What is known when the first text arrives."""
        candidate = self._turns[-1].candidate
        return {
            "request_id": self._ask.request_id,
            "model": candidate.model,
            "provider": candidate.provider,
        }

    async def answered(self, completion: Completion) -> dict[str, Any]:
        """Observe and record; the reply as the caller gets it."""
        turn = self._turns[-1]
        response_time_ms = self._elapsed_ms()
        issues = quality.issues(completion.content, response_time_ms, self._plan.preset)
        params = {
            "temperature": turn.request.sampling.temperature,
            "top_p": turn.request.sampling.top_p,
            "max_tokens": turn.request.sampling.max_tokens,
            "dropped": list(completion.dropped),
        }
        for name in completion.dropped:
            if name in params:
                params[name] = None
        cost = await self._record(
            {
                "outcome": completion.outcome,
                "finish_reason": completion.finish_reason,
                "upstream_model": usage.printable(completion.model),
                "first_token_ms": completion.first_token_ms,
                "params": params,
                "reply_chars": len(completion.content),
                "quality_issues": [{"code": issue.code, "detail": issue.detail} for issue in issues],
            },
            response_time_ms,
        )
        used = completion.usage
        return {
            "request_id": self._ask.request_id,
            "content": completion.content,
            "use_case": self._ask.use_case,
            "model": turn.candidate.model,
            "provider": turn.candidate.provider,
            "finish_reason": completion.finish_reason,
            "outcome": completion.outcome,
            "usage": {
                "input_tokens": used.prompt_tokens if used else None,
                "output_tokens": used.completion_tokens if used else None,
                "total_tokens": used.total_tokens if used else None,
                "cached_tokens": used.cached_tokens if used else None,
                "reasoning_tokens": used.reasoning_tokens if used else None,
            },
            "cost_usd": cost.cost_usd,
            "cost_source": cost.source,
            "response_time_ms": response_time_ms,
            "first_token_ms": completion.first_token_ms,
            "used_fallback": self._used_fallback(),
            "attempts": self._attempts(),
            "params": params,
            "quality_issues": [{"code": issue.code, "detail": issue.detail} for issue in issues],
        }

    async def gave_up(self) -> Failure:
        """Record that nobody answered; the failure to raise."""
        failure = self._verdict()
        if any(turn.attempts for turn in self._turns):
            await self._record({"outcome": "failed", "error_code": failure.code})
        failure.attempts = tuple(self._attempts())
        return failure

    def _verdict(self) -> Failure:
        """One failure for all: the common one, else that every route failed.

        With `fallback_to_chat_worker` set to false it is the seed's "fallback disabled" (Fallback strategy).
        """
        asked = [failure for failure in self._failures if not isinstance(failure, ConfigError)]
        if not asked:
            return self._failures[-1] if self._failures else UpstreamTimeout()
        last = asked[-1]
        if not last.fallback:
            return last
        waits = [failure.retry_after_s for failure in asked if failure.retry_after_s is not None]
        retry_after_s = min(waits) if waits else None
        if self._ask.fallback_to_chat_worker is False:
            return FallbackDisabled(retry_after_s=retry_after_s)
        if {failure.code for failure in asked} == {last.code}:
            last.retry_after_s = retry_after_s
            return last
        return AllRoutesFailed(retry_after_s=retry_after_s)

    def _endpoint(self, candidate: Candidate) -> Endpoint:
        settings = self._services.settings
        base_url = candidate.base_url or settings.openrouter_base_url
        key = settings.secret(candidate.secret_name) if candidate.secret_name else None
        if key is None and candidate.provider_type == "openrouter":
            raise ConfigError(f"{candidate.secret_name or 'OPENROUTER_API_KEY'} is not set: its models cannot be asked")
        return Endpoint(
            base_url=base_url,
            api_key=key or "",
            kind="openrouter" if candidate.provider_type == "openrouter" else "openai_compatible",
        )

    def _request(self, candidate: Candidate) -> ChatRequest:
        return ChatRequest(
            model=candidate.model,
            messages=self._messages,
            sampling=routing.sampling(candidate.params),
            supported_parameters=candidate.supported_parameters,
            exclusive_parameters=candidate.exclusive_parameters,
            max_output_tokens=candidate.max_output_tokens,
            context_length=candidate.context_length,
        )

    def _attempts(self) -> list[dict[str, Any]]:
        return [
            {
                "provider": turn.candidate.provider,
                "model": turn.candidate.model,
                "status": attempt.status,
                "code": attempt.code,
                "duration_ms": attempt.duration_ms,
            }
            for turn in self._turns
            for attempt in turn.attempts
        ]

    def _used_fallback(self) -> bool:
        return self._turns[-1].candidate is not self._plan.candidates[0]

    def _elapsed_ms(self) -> int:
        return round((self._services.monotonic() - self._began) * 1000)

    async def _record(self, ending: Mapping[str, Any], response_time_ms: int | None = None) -> Cost:
        """Write the one record. Shielded: a caller who leaves now must not tear it."""
        self._recorded = True
        ask, turn = self._ask, self._turns[-1]
        entry = {
            "completion_id": self._id,
            "request_id": ask.request_id,
            "user_id": ask.caller.user_id,
            "caller": ask.caller.kind,
            "use_case": ask.use_case,
            "requested_model": ask.model,
            "provider": turn.candidate.provider,
            "model_id": turn.candidate.model_id,
            "model": turn.candidate.model,
            "streamed": self._streamed,
            "used_fallback": self._used_fallback(),
            "response_time_ms": self._elapsed_ms() if response_time_ms is None else response_time_ms,
            "started_at": self._started_at.isoformat(),
            **usage.prompt_figures(self._messages),
            **ending,
        }
        tries = [
            # An answer's slug is known where the attempt has no error.
            Try(turn.candidate, attempt, None if attempt.code else ending.get("upstream_model"))
            for turn in self._turns
            for attempt in turn.attempts
        ]
        cost = await asyncio.shield(usage.record(entry, tries, self._services.database, self._services.spool))
        ask.log.update(
            use_case=ask.use_case,
            model=turn.candidate.model,
            provider=turn.candidate.provider,
            outcome=ending["outcome"],
            attempts=len(tries),
            cost_usd=cost.cost_usd,
            cost_source=cost.source,
        )
        return cost
