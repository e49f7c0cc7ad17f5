"""A text that is too long for one completion: outlined, then told in parts under one request and one bill."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared import completion
from shared.completion import Ask
from shared.conversation import Prompt
from shared.edge import Event
from shared.errors import Failure
from shared.seam import Continuation, WholeSentences

if TYPE_CHECKING:
    from shared.services import Services

# The outline may use this share of the request's time; the rest belongs to the text.
OUTLINE_SHARE = 0.25
# What of a bill is least certain decides how the whole is known.
_SOURCES = ("provider", "computed", "estimated", "unknown")


@dataclass(frozen=True, slots=True)
class Told:
    """How far the text is when a part is asked for: `text` ends with what stands before the part."""

    outline: str
    text: str
    part: int
    parts: int


@dataclass(frozen=True, slots=True)
class Serial:
    """How a text is outlined, how its parts are asked for, and how many tokens each of them may have.

    `before` is the caller's own text that the first part continues.
    """

    outline: Prompt
    outline_tokens: int
    part: Callable[[Told], Prompt]
    part_tokens: tuple[int, ...]
    before: str = ""


async def answer(ask: Ask, serial: Serial, services: Services) -> dict[str, Any]:
    """The whole text with one reply for all its completions; `ask` gives all but prompt and token limit.

    Raises what stopped the first part. When a later one fails the reply has the text so far and is truncated.
    """
    text: list[str] = []
    reply: dict[str, Any] = {}
    async with aclosing(_tell(ask, serial, services, streamed=False)) as events:
        async for event in events:
            data: Any = event.data
            if event.name == "delta":
                text.append(data["text"])
            elif event.name == "done":
                reply = data
    return {**reply, "content": "".join(text)}


def stream(ask: Ask, serial: Serial, services: Services) -> AsyncGenerator[Event, None]:
    """The same text as it is written: one start, the deltas of all parts, one terminal event."""
    return _tell(ask, serial, services, streamed=True)


async def _tell(ask: Ask, serial: Serial, services: Services, *, streamed: bool) -> AsyncGenerator[Event, None]:
    """Each part is a completion of its own in the ledger; the model that answered first is asked for the rest."""
    bill = _Bill(ask, services)
    try:
        outline = await _outline(bill, serial, services)
        text = ""
        for number, limit in enumerate(serial.part_tokens, start=1):
            is_last = number == len(serial.part_tokens)
            told = Told(outline, serial.before + text, number, len(serial.part_tokens))
            part = bill.asks(serial.part(told), limit)
            seam, sentences = Continuation(told.text, joined=bool(text)), WholeSentences()
            asked = completion.stream(part, services) if streamed else _whole(part, services, is_first=number == 1)
            try:
                async with aclosing(asked) as events:
                    async for event in events:
                        data: Any = event.data
                        if event.name == "start" and number == 1:
                            bill.first_text()
                            yield event
                        elif event.name == "delta":
                            shown = seam.feed(data["text"])
                            # The end of the last part is shown as it comes: nothing is joined to it.
                            shown = shown if is_last else sentences.feed(shown)
                            if shown:
                                text += shown
                                yield Event("delta", {"text": shown})
                        elif event.name == "done":
                            bill.told(data)
            except Failure as failure:
                bill.failed(failure)
                if number == 1:
                    failure.attempts = tuple(bill.attempts)
                    raise
                yield Event("done", bill.reply(failure=failure))
                return
            rest = sentences.feed(seam.finish()) + sentences.finish(cut_off=not is_last and bill.was_cut_off)
            # The next part brings the break between them.
            rest = rest if is_last else rest.rstrip()
            if rest:
                text += rest
                yield Event("delta", {"text": rest})
            if bill.is_over:
                break
        yield Event("done", bill.reply(streamed=streamed))
    finally:
        bill.write_log()


async def _outline(bill: _Bill, serial: Serial, services: Services) -> str:
    """What is to happen, never shown. A provider that fails here costs the text its outline, not its life."""
    asked = bill.asks(serial.outline, serial.outline_tokens)
    now = services.monotonic()
    asked = replace(
        asked,
        deadline=now + (asked.deadline - now) * OUTLINE_SHARE,
        # What may not stand in the text may stand in the outline.
        params={name: value for name, value in asked.params.items() if name != "stop"},
    )
    try:
        reply = await completion.answer(asked, services)
    except Failure as failure:
        bill.failed(failure)
        if not failure.fallback:
            raise
        return ""
    bill.outlined(reply)
    return "" if "refusal" in reply else str(reply["content"]).strip()


async def _whole(ask: Ask, services: Services, *, is_first: bool) -> AsyncGenerator[Event, None]:
    """An answer in one piece, told like a stream."""
    reply = await completion.answer(ask, services)
    yield Event("start", {name: reply[name] for name in ("request_id", "model", "provider")})
    # A model that declines to go on says so in words that do not belong into the text.
    if is_first or "refusal" not in reply:
        yield Event("delta", {"text": reply["content"]})
    yield Event("done", reply)


class _Bill:
    """What all completions of one request were, together."""

    def __init__(self, ask: Ask, services: Services) -> None:
        self._ask = ask
        self._monotonic = services.monotonic
        self._began = services.monotonic()
        self._first_token_ms: int | None = None
        self._logs: list[dict[str, Any]] = []
        self._replies: list[dict[str, Any]] = []
        self._parts: list[dict[str, Any]] = []
        self.attempts: list[dict[str, Any]] = []

    def asks(self, prompt: Prompt, max_tokens: int) -> Ask:
        """The next completion. Its figures are written to a log of its own, where even a failure leaves its cost."""
        self._logs.append({})
        return replace(
            self._ask,
            prompt=prompt,
            params={**self._ask.params, "max_tokens": max_tokens},
            # One voice: models of equal rank are drawn anew by every plan.
            model=self._replies[0]["model"] if self._replies else self._ask.model,
            log=self._logs[-1],
        )

    def outlined(self, reply: dict[str, Any]) -> None:
        self._replies.append(reply)
        self.attempts += reply["attempts"]

    def told(self, reply: dict[str, Any]) -> None:
        self.outlined(reply)
        self._parts.append(reply)

    def failed(self, failure: Failure) -> None:
        self.attempts += failure.attempts

    def first_text(self) -> None:
        self._first_token_ms = self._elapsed_ms()

    @property
    def was_cut_off(self) -> bool:
        """The part ended at its limit, not at its end."""
        return bool(self._parts[-1]["finish_reason"] == "length")

    @property
    def is_over(self) -> bool:
        """Nothing can follow this part: it broke off, or the model will not go on."""
        last = self._parts[-1]
        return last["outcome"] != "complete" or last["finish_reason"] not in ("stop", "length")

    def reply(self, *, streamed: bool = True, failure: Failure | None = None) -> dict[str, Any]:
        """One reply for all, without the text. `failure` is what stopped a part after others were told."""
        first, last = self._parts[0], self._parts[-1]
        cost_usd, cost_source = self._cost()
        issues = {issue["code"]: issue for part in self._parts for issue in part["quality_issues"]}
        dropped = [name for part in self._parts for name in part["params"]["dropped"]]
        limits = [part["params"]["max_tokens"] for part in self._parts]
        refusal = {name: last[name] for name in ("refusal",) if name in last}
        return {
            **{name: value for name, value in first.items() if name != "content"},
            **refusal,
            "finish_reason": None if failure else last["finish_reason"],
            "outcome": "truncated" if failure else last["outcome"],
            "usage": {name: _sum([reply["usage"][name] for reply in self._replies]) for name in first["usage"]},
            "cost_usd": cost_usd,
            "cost_source": cost_source,
            "response_time_ms": self._elapsed_ms(),
            "first_token_ms": self._first_token_ms if streamed else None,
            "used_fallback": any(reply["used_fallback"] for reply in self._replies),
            "attempts": self.attempts,
            "params": {**first["params"], "max_tokens": _sum(limits), "dropped": list(dict.fromkeys(dropped))},
            "quality_issues": list(issues.values()),
        }

    def write_log(self) -> None:
        """One log line for the request, with the figures of all its completions."""
        written = [log for log in self._logs if log]
        if written:
            cost_usd, cost_source = self._cost()
            attempts = sum(log.get("attempts", 0) for log in written)
            self._ask.log.update(written[-1])
            self._ask.log.update(attempts=attempts, cost_usd=cost_usd, cost_source=cost_source)

    def _cost(self) -> tuple[Decimal | None, str]:
        """The sum; unknown as soon as one completion's cost is. What asked nobody cost nothing."""
        costs = [(log["cost_usd"], log["cost_source"]) for log in self._logs if "cost_source" in log]
        source = max((source for _, source in costs), key=_SOURCES.index, default="provider")
        return _sum([cost for cost, _ in costs]), source

    def _elapsed_ms(self) -> int:
        return round((self._monotonic() - self._began) * 1000)


def _sum(figures: list[Any]) -> Any:
    """The sum, or None where one of them is not known."""
    return None if any(figure is None for figure in figures) else sum(figures)
