"""THE STORY of one request: plan, ask, fall back, observe, record. Read this first."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from shared import context, quality, routing, usage
from shared.conversation import Conversation, Editor, Prompt, Unedited
from shared.edge import Event
from shared.errors import (
    AllRoutesFailed,
    ConfigError,
    ContextTooLong,
    Failure,
    FallbackDisabled,
    Upstream,
    UpstreamTimeout,
)
from shared.openrouter import Attempt, CallFailed, ChatRequest, Completion, Endpoint, Finished, StreamEvent, TextDelta
from shared.routing import Candidate, Plan
from shared.usage import Cost, Try

if TYPE_CHECKING:
    from shared.identity import Caller
    from shared.services import Services

# What is kept of the request's time for writing the record and answering.
RESERVE_S = 1.0
# How much of the time the candidates of one provider may use up while another provider stands behind them.
FIRST_SHARE = 2 / 3
# How much of its context a model is given when it found the conversation too long: our count is an estimate.
TIGHTER = 0.7
# A reply limit above this part of a model's context does not push the conversation out of it.
REPLY_PART = 2


@dataclass(frozen=True, slots=True)
class Ask:
    """What a door wants: who asks, for what, with what words. `deadline` is on the services' monotonic clock.

    `editor` makes a fresh editor for each reply; `dress` adds the door's own fields to the reply.
    """

    request_id: str
    caller: Caller
    use_case: str
    prompt: Prompt
    deadline: float
    model: str | None = None
    models: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    session_id: str | None = None
    # OpenRouter's routing preferences (order, data_collection, …), as the caller wrote them.
    provider_preferences: Mapping[str, Any] | None = None
    fallback_to_chat_worker: bool | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    itemize: bool = False
    editor: Callable[[], Editor] = Unedited
    dress: Callable[[dict[str, Any]], dict[str, Any]] = lambda reply: reply
    log: dict[str, Any] = field(default_factory=dict)


async def answer(ask: Ask, services: Services) -> dict[str, Any]:
    """The whole reply at once. Raises what stopped it: a refusal, or the failure of the candidates."""
    story = await _Story.begin(ask, services, streamed=False)
    async with story:
        for turn in story.turns():
            try:
                completion = await turn.voice.complete(
                    turn.endpoint, turn.request, deadline=turn.deadline, attempts=turn.attempts
                )
            except Upstream as failure:
                story.failed(failure)
                continue
            shown = turn.editor.feed(completion.content)
            return await story.answered(completion, shown + turn.editor.finish())
        raise await story.gave_up()


async def stream(ask: Ask, services: Services) -> AsyncGenerator[Event, None]:
    """The reply as it is written: start, deltas, and one terminal event.

    Until the first visible text a fallback is invisible, because nothing was sent; a failure before it is raised.
    """
    story = await _Story.begin(ask, services, streamed=True)
    async with story:
        for turn in story.turns():
            spoken = turn.voice.stream(turn.endpoint, turn.request, deadline=story.deadline, attempts=turn.attempts)
            finished: Finished | None = None
            shown: list[str] = []
            try:
                async with aclosing(spoken):
                    while (piece := await story.heard(spoken, turn, bound=not shown)) is not None:
                        if isinstance(piece, TextDelta):
                            text = turn.editor.feed(piece.text)
                            if text:
                                if not shown:
                                    yield Event("start", story.headline())
                                shown.append(text)
                                yield Event("delta", {"text": text})
                        elif isinstance(piece, Finished):
                            finished = piece
            except Upstream as failure:
                story.failed(failure)
                continue
            assert finished is not None  # a voice ends with it, or raises
            if finished.failure is not None and not shown:
                # What came was held back by the editor, or was no text: nobody saw it, so another model may answer.
                story.failed(finished.failure, unseen=True)
                continue
            rest = turn.editor.finish()
            if not shown:
                yield Event("start", story.headline())
            if rest:
                shown.append(rest)
                yield Event("delta", {"text": rest})
            reply = await story.answered(finished.completion, "".join(shown))
            yield Event("done", {name: value for name, value in reply.items() if name != "content"})
            return
        raise await story.gave_up()


class Voice(Protocol):
    """Who can be asked: OpenRouter and what speaks like it, or the chat worker."""

    async def complete(
        self, endpoint: Endpoint, request: ChatRequest, *, deadline: float, attempts: list[Attempt]
    ) -> Completion: ...

    def stream(
        self, endpoint: Endpoint, request: ChatRequest, *, deadline: float, attempts: list[Attempt]
    ) -> AsyncGenerator[StreamEvent, None]: ...


@dataclass(frozen=True, slots=True)
class _Turn:
    """One candidate's chance to answer, until its own deadline."""

    candidate: Candidate
    voice: Voice
    endpoint: Endpoint
    deadline: float
    request: ChatRequest
    conversation: Conversation
    editor: Editor
    turns_dropped: int
    # Estimated, once: the count by which the conversation was fitted.
    prompt_tokens: int
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
        self._turns: list[_Turn] = []
        self._failures: list[Upstream] = []
        # Candidates that could not even be asked, and why.
        self._impossible: list[ConfigError | ContextTooLong] = []
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
        """The candidates in order, as long as there is time and the last failure leaves hope.

        A model that finds the conversation too long is asked once more with less of it, where turns can be left out.
        The chat worker gets one turn, whatever the plan says: it and OpenRouter back each other up, but never twice.
        """
        unusable: set[str] = set()
        for candidate, endpoint, deadline in self._reachable():
            if candidate.provider_type == "chat_worker" and self._was_asked(candidate.provider):
                continue
            for share in (1.0, TIGHTER):
                if candidate.provider in unusable or self._services.monotonic() >= deadline:
                    break
                try:
                    turn = self._turn(candidate, endpoint, deadline, share)
                except ContextTooLong as impossible:
                    self._impossible.append(impossible)
                    break
                if share < 1 and turn.turns_dropped == self._turns[-1].turns_dropped:
                    break
                self._turns.append(turn)
                yield turn
                failure = self._failures[-1]
                disposition = getattr(failure, "disposition", "next_model")
                # Whose own time is over leaves time for whoever stands behind.
                late = isinstance(failure, UpstreamTimeout) and self._services.monotonic() < self.deadline
                if disposition == "end" and not late:
                    return
                if disposition == "next_provider":
                    unusable.add(candidate.provider)
                if not isinstance(failure, ContextTooLong):
                    break

    async def heard(self, spoken: AsyncGenerator[StreamEvent, None], turn: _Turn, *, bound: bool) -> StreamEvent | None:
        """The next piece, None at the end. `bound`: nothing was shown yet, so the turn's own deadline holds."""
        if not bound or turn.deadline >= self.deadline:
            return await anext(spoken, None)
        try:
            async with asyncio.timeout(max(turn.deadline - self._services.monotonic(), 0)):
                return await anext(spoken, None)
        except TimeoutError:
            raise UpstreamTimeout from None

    def failed(self, failure: Upstream, *, unseen: bool = False) -> None:
        """This candidate did not answer. `unseen`: it broke off after its first words, but nobody saw them."""
        provider = self._turns[-1].candidate
        if provider.provider_type != "openrouter":
            # The texts name OpenRouter; it was somebody else who failed.
            failure.message = failure.message.replace("OpenRouter", provider.provider)
        if unseen and isinstance(failure, CallFailed):
            failure.disposition = "next_model"
        self._failures.append(failure)

    def headline(self) -> dict[str, Any]:
        """What is known when the first text arrives."""
        candidate = self._turns[-1].candidate
        return {
            "request_id": self._ask.request_id,
            "model": candidate.model,
            "provider": candidate.provider,
        }

    async def answered(self, completion: Completion, shown: str) -> dict[str, Any]:
        """Observe and record; the reply as the caller gets it. `shown` is the text after the editor."""
        turn = self._turns[-1]
        # A refusal is an answer too: its words are what there is to show.
        content = shown or completion.refusal or ""
        response_time_ms = self._elapsed_ms()
        issues = [
            *quality.issues(content, response_time_ms, self._plan.preset),
            *turn.editor.issues(),
        ]
        sent = completion.parameters
        params = {
            "temperature": sent.get("temperature"),
            "top_p": sent.get("top_p"),
            "max_tokens": sent.get("max_tokens"),
            "dropped": list(completion.dropped),
        }
        cost = await self._record(
            {
                "outcome": completion.outcome,
                "finish_reason": completion.finish_reason,
                "upstream_model": usage.printable(completion.model),
                "first_token_ms": completion.first_token_ms,
                "params": params,
                "reply_chars": len(content),
                "quality_issues": [{"code": issue.code, "detail": issue.detail} for issue in issues],
            },
            response_time_ms,
        )
        used = completion.usage
        reply = {
            "request_id": self._ask.request_id,
            "content": content,
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
        if completion.tool_calls:
            reply["tool_calls"] = [dict(call) for call in completion.tool_calls]
        if completion.refusal:
            # On a stream these words were no delta: they are told here.
            reply["refusal"] = completion.refusal
        if self._ask.itemize:
            reply["itemized"] = self._itemized(turn)
        return self._ask.dress(reply)

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
        asked = self._failures
        if not asked:
            too_long = [failure for failure in self._impossible if isinstance(failure, ContextTooLong)]
            return (too_long or self._impossible or [UpstreamTimeout()])[-1]
        last = asked[-1]
        codes = {failure.code for failure in asked}
        if not last.fallback:
            return last
        waits = [failure.retry_after_s for failure in asked if failure.retry_after_s is not None]
        retry_after_s = min(waits) if waits else None
        # Too long a conversation is the caller's own to mend, with a fallback or without.
        if self._ask.fallback_to_chat_worker is False and codes != {ContextTooLong.code}:
            return FallbackDisabled(retry_after_s=retry_after_s)
        if codes == {last.code}:
            # The manual's texts are OpenRouter's.
            common = next((failure for failure in reversed(asked) if failure.message == failure.default_message), last)
            common.retry_after_s = retry_after_s
            return common
        return AllRoutesFailed(retry_after_s=retry_after_s)

    def _reachable(self) -> list[tuple[Candidate, Endpoint, float]]:
        """The candidates that can be asked, where, and until when: none may leave no time for another provider."""
        reachable: list[tuple[Candidate, Endpoint]] = []
        for candidate in self._plan.candidates:
            try:
                reachable.append((candidate, routing.endpoint(candidate, self._services.settings)))
            except ConfigError as impossible:
                self._impossible.append(impossible)
        hand_over = self._began + (self.deadline - self._began) * FIRST_SHARE
        return [
            (
                candidate,
                endpoint,
                hand_over
                if any(behind.provider != candidate.provider for behind, _ in reachable[place + 1 :])
                else self.deadline,
            )
            for place, (candidate, endpoint) in enumerate(reachable)
        ]

    def _turn(self, candidate: Candidate, endpoint: Endpoint, deadline: float, share: float) -> _Turn:
        """Prepare a candidate's turn within this share of its context. Raises ContextTooLong."""
        conversation = self._ask.prompt(self._plan.preset, candidate.context_length)
        sampling = routing.sampling(candidate.params)
        room = candidate.context_length and int(candidate.context_length * share)
        limits = (sampling.max_tokens, candidate.max_output_tokens, room and room // REPLY_PART)
        fitted = context.fit(
            conversation.messages,
            context_length=room,
            max_tokens=min((limit for limit in limits if limit is not None), default=0),
            family=candidate.model,
        )
        request = ChatRequest(
            model=candidate.model,
            messages=fitted.messages,
            sampling=sampling,
            tools=self._ask.tools,
            tool_choice=self._ask.tool_choice,
            response_format=self._ask.response_format,
            session_id=self._ask.session_id,
            provider=self._ask.provider_preferences,
            supported_parameters=candidate.supported_parameters,
            exclusive_parameters=candidate.exclusive_parameters,
            max_output_tokens=candidate.max_output_tokens,
            context_length=candidate.context_length,
        )
        return _Turn(
            candidate=candidate,
            voice=self._voice(candidate),
            endpoint=endpoint,
            deadline=deadline,
            request=request,
            conversation=conversation,
            editor=self._ask.editor(),
            turns_dropped=fitted.dropped,
            prompt_tokens=fitted.tokens["prompt"] or 0,
        )

    def _was_asked(self, provider: str) -> bool:
        return any(turn.candidate.provider == provider for turn in self._turns)

    def _voice(self, candidate: Candidate) -> Voice:
        services = self._services
        return services.chat_worker if candidate.provider_type == "chat_worker" else services.openrouter

    def _itemized(self, turn: _Turn) -> dict[str, Any]:
        """Where the tokens of the prompt went (estimated), and what the prompt decided on the way."""
        return {
            "sections": context.itemize(turn.conversation.sections, turn.candidate.model),
            "prompt_tokens": turn.prompt_tokens,
            "turns_dropped": turn.turns_dropped,
            "context_length": turn.candidate.context_length,
            **turn.conversation.notes,
        }

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
            **usage.prompt_figures(turn.request.messages),
            "prompt_tokens": turn.prompt_tokens,
            **ending,
        }
        tries = [
            # An answer's slug is known where the attempt has no error.
            Try(turn.candidate, attempt, None if attempt.code else ending.get("upstream_model"))
            for turn in self._turns
            for attempt in turn.attempts
        ]
        writing = asyncio.ensure_future(usage.record(entry, tries, self._services.database, self._services.spool))
        try:
            cost = await asyncio.shield(writing)
        except asyncio.CancelledError:
            # Waited for all the same: where this process is frozen after the answer, nothing is written later.
            await asyncio.wait((writing,))
            raise
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
