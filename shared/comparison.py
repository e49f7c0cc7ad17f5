"""One question to several models at once: each answers for itself, and its failure is its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from shared import completion, generation, tokens, usage
from shared.completion import Ask
from shared.conversation import Conversation
from shared.edge import Call, Event
from shared.errors import BudgetExceeded, Detail, Failure
from shared.routing import Preset

if TYPE_CHECKING:
    from shared.services import Services

# How many models of one comparison are asked at the same time.
AT_ONCE = 4

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Who asks which models what, and what it may cost in USD: all together, and each. None: as much as it costs."""

    call: Call[Any, Services]
    use_case: str
    messages: Sequence[Mapping[str, Any]]
    max_cost_usd: Decimal | None = None
    max_cost_usd_per_model: Decimal | None = None


@dataclass(frozen=True, slots=True)
class _Contender:
    """One model of the comparison. With a `refusal` it is not asked."""

    model: str
    ask: Ask
    estimated_cost_usd: Decimal | None
    refusal: Failure | None


async def answer(comparison: Comparison) -> Json:
    """Every model's result in the order of the request, and who was fastest, cheapest and longest.

    Raises BudgetExceeded before anything is sent when the estimate of all is above `max_cost_usd`.
    """
    contenders = await _contenders(comparison)
    at_once = asyncio.Semaphore(AT_ONCE)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_settle(one, at_once, comparison.call.services)) for one in contenders]
    return _report(comparison, contenders, [task.result() for task in tasks])


async def stream(comparison: Comparison) -> AsyncGenerator[Event, None]:
    """The same while it happens: the models' texts as they come, one delta with its `result` when a model has settled,
    and `done` with everything but the texts. Left early, it cancels who still speaks; what was paid for is recorded.
    """
    contenders = await _contenders(comparison)
    yield Event("start", {"request_id": comparison.call.request_id, "models": [one.model for one in contenders]})
    # Unbounded: a slow reader must not make a model look slow. What it can hold is bounded by the models' token limits.
    said: asyncio.Queue[tuple[int, str | None]] = asyncio.Queue()
    at_once = asyncio.Semaphore(AT_ONCE)
    tasks = [
        asyncio.create_task(_settle(one, at_once, comparison.call.services, partial(_say, said, number)))
        for number, one in enumerate(contenders)
    ]
    for number, task in enumerate(tasks):
        task.add_done_callback(partial(_say_settled, said, number))
    try:
        speaking = len(tasks)
        while speaking:
            number, text = await said.get()
            model = contenders[number].model
            if text is None:
                speaking -= 1
                yield Event("delta", {"model": model, "text": "", "result": _without_content(tasks[number].result())})
            else:
                yield Event("delta", {"model": model, "text": text})
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    report = _report(comparison, contenders, [task.result() for task in tasks])
    yield Event("done", {**report, "results": [_without_content(result) for result in report["results"]]})


async def _contenders(comparison: Comparison) -> list[_Contender]:
    """The models with what each may cost. Raises what refuses them all: an unknown use case, a total above the cap."""
    call = comparison.call
    estimates = await call.services.database.call(
        "estimate_costs",
        {
            "request": {
                "use_case": comparison.use_case,
                "caller": call.caller.kind,
                "params": call.body.params(),
                "models": [
                    {"model": model, "input_tokens": tokens.estimate_messages(comparison.messages, model)}
                    for model in call.body.models
                ],
            }
        },
    )
    contenders = [_contender(comparison, estimate) for estimate in estimates]
    total = sum((one.estimated_cost_usd or Decimal(0) for one in contenders if one.refusal is None), Decimal(0))
    if comparison.max_cost_usd is not None and total > comparison.max_cost_usd:
        message = f"These models could cost up to {_usd(total)} USD together, more than max_cost_usd"
        raise BudgetExceeded(message, details=[Detail("max_cost_usd", message)])
    return contenders


def _contender(comparison: Comparison, estimate: Mapping[str, Any]) -> _Contender:
    model, cost = estimate["model"], usage.money(estimate["cost_usd"])
    each = comparison.max_cost_usd_per_model
    refusal: Failure | None = None
    # A model that nobody knows is left to the plan, which says so.
    if cost is None and estimate["is_known"] and (each is not None or comparison.max_cost_usd is not None):
        cap = "max_cost_usd" if each is None else "max_cost_usd_per_model"
        refusal = BudgetExceeded(f"The price of {model} is unknown, so it cannot be held to {cap}")
    elif cost is not None and each is not None and cost > each:
        refusal = BudgetExceeded(f"{model} could cost up to {_usd(cost)} USD, more than max_cost_usd_per_model")
    return _Contender(model, _ask(comparison, model), cost, refusal)


def _ask(comparison: Comparison, model: str) -> Ask:
    """This model and no other; a log of its own, because the log line of the request is for all of them."""

    def prompt(preset: Preset, context_length: int | None) -> Conversation:
        return Conversation(comparison.messages)

    return generation.ask(
        comparison.call,
        comparison.use_case,
        prompt,
        model=None,
        models=(model,),
        fallback_to_chat_worker=None,
        log={},
    )


def _say(said: asyncio.Queue[tuple[int, str | None]], number: int, text: str) -> None:
    said.put_nowait((number, text))


def _say_settled(said: asyncio.Queue[tuple[int, str | None]], number: int, _: asyncio.Task[Json]) -> None:
    said.put_nowait((number, None))


async def _settle(
    contender: _Contender,
    at_once: asyncio.Semaphore,
    services: Services,
    say: Callable[[str], None] | None = None,
) -> Json:
    """What came of this model: its reply, or its error. With `say` it is streamed, and heard while it speaks."""
    if contender.refusal is not None:
        return _failed(contender, contender.refusal)
    async with at_once:
        try:
            if say is None:
                reply = await completion.answer(contender.ask, services)
            else:
                reply = await _listen(contender.ask, services, say)
        except Failure as failure:
            return _failed(contender, failure)
    return {
        "model": contender.model,
        "ok": True,
        "answered_by": reply["model"],
        "estimated_cost_usd": contender.estimated_cost_usd,
        **{name: value for name, value in reply.items() if name != "model"},
    }


async def _listen(ask: Ask, services: Services, say: Callable[[str], None]) -> Json:
    """The whole reply of a stream whose texts are passed on as they come."""
    heard: list[str] = []
    reply: Json = {}
    async with aclosing(completion.stream(ask, services)) as events:
        async for event in events:
            data = event.data
            assert isinstance(data, Mapping)
            if event.name == "delta":
                heard.append(data["text"])
                say(data["text"])
            elif event.name == "done":
                reply = {**data, "content": "".join(heard)}
    return reply


def _failed(contender: _Contender, failure: Failure) -> Json:
    return {
        "model": contender.model,
        "ok": False,
        "estimated_cost_usd": contender.estimated_cost_usd,
        "error": {"code": failure.code, "message": failure.message, "retryable": failure.retryable},
    }


def _report(comparison: Comparison, contenders: Sequence[_Contender], results: Sequence[Json]) -> Json:
    # What a failed model cost stands in its record alone; the story notes that in the ask's log.
    costs = [usage.money(one.ask.log["cost_usd"]) for one in contenders if "cost_usd" in one.ask.log]
    known = [cost for cost in costs if cost is not None]
    total = sum(known, Decimal(0)) if known or not costs else None
    answered = [result for result in results if result["ok"]]
    comparison.call.log.update(
        use_case=comparison.use_case, models=len(results), answered=len(answered), cost_usd=total
    )
    return {
        "request_id": comparison.call.request_id,
        "use_case": comparison.use_case,
        "results": list(results),
        "summary": {
            "fastest": _least(answered, lambda result: result["response_time_ms"]),
            "cheapest": _least(answered, lambda result: result["cost_usd"]),
            "longest": _least(answered, lambda result: -len(result["content"])),
        },
        "total_cost_usd": total,
        # They may have been billed without our learning how much: the total is without them.
        "unpriced_results": len(costs) - len(known),
    }


def _least(results: Iterable[Json], figure: Callable[[Json], Any]) -> str | None:
    """The model of the whole answer with the least figure; the first of equals. Unknown figures do not count."""
    whole = [result for result in results if result["outcome"] == "complete" and figure(result) is not None]
    return min(whole, key=figure)["model"] if whole else None


def _without_content(result: Json) -> Json:
    return {name: value for name, value in result.items() if name != "content"}


def _usd(amount: Decimal) -> str:
    return format(amount.normalize(), "f")
