"""One HTTP call while it runs: what is learnt about it, until it is written down as an Attempt."""

from __future__ import annotations

from collections.abc import Callable

from shared.openrouter import cancellation, wire
from shared.openrouter.errors import CallFailed, Misdirected, Unreachable
from shared.openrouter.stream import Delta, StreamReader, TextDelta, ToolDelta
from shared.openrouter.wire import Action, Attempt


class Call:
    """`begun` is set when the request goes out; `reader` when an answer is read piece by piece."""

    def __init__(self, model: str, monotonic: Callable[[], float], *, billing_stops: bool | None = None) -> None:
        self._model = model
        self._monotonic = monotonic
        # A call that does not stream bills to its end wherever it runs; for a stream the upstream decides.
        self._billing_stops = billing_stops
        self.started = monotonic()
        self.begun = False
        self.status: int | None = None
        self.generation_id: str | None = None
        self.reader: StreamReader | None = None
        self.first_token_ms: int | None = None
        self._provider: str | None = None
        self._usage: wire.Usage | None = None
        self._recorded = False

    def learn(self, id: str | None, provider: str | None, usage: wire.Usage | None) -> None:
        self.generation_id = id or self.generation_id
        self._provider = provider or self._provider
        self._usage = usage or self._usage

    def first_token(self, event: Delta) -> None:
        if self.first_token_ms is None and isinstance(event, TextDelta | ToolDelta):
            self.first_token_ms = self._elapsed_ms()

    def _elapsed_ms(self) -> int:
        return max(0, round((self._monotonic() - self.started) * 1000))

    def record(
        self,
        attempts: list[Attempt],
        action: Action,
        *,
        code: str | None = None,
        failure: CallFailed | None = None,
    ) -> None:
        """Append the Attempt, once; a call that was never begun leaves none."""
        if self._recorded or not self.begun:
            return
        self._recorded = True
        seen = self.reader.seen if self.reader is not None else None
        if seen is not None:
            self.learn(seen.id, seen.provider, seen.usage)
        if failure is not None:
            self.learn(failure.generation_id, failure.upstream_provider, failure.usage)
        characters = seen.characters if seen is not None else 0
        billing_stops = self._billing_stops
        if billing_stops is None and action == "cancelled":
            billing_stops = cancellation.billing_stops(self._provider)
        attempts.append(
            Attempt(
                model=self._model,
                status=self.status,
                code=code,
                duration_ms=self._elapsed_ms(),
                action=action,
                first_token_ms=self.first_token_ms,
                generation_id=self.generation_id,
                upstream_provider=self._provider,
                usage=self._usage,
                retry_after_s=failure.retry_after_s if failure is not None else None,
                billed_unknown=self._usage is None and self._may_be_billed(failure, characters),
                characters=characters,
                billing_stops=billing_stops,
                cause_text=failure.cause_text if failure is not None else "",
            )
        )

    def _may_be_billed(self, failure: CallFailed | None, characters: int) -> bool:
        if isinstance(failure, Unreachable | Misdirected):
            return False
        if self.status is not None and self.status != 200:
            return False
        # A provider that says it failed before the first token charges nothing; one that fell silent may.
        return not (failure is not None and failure.told and characters == 0)
