"""A reply as it is written: what the caller sees, what the far end sees, and what is written down, however it ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import httpx
import pytest

from local.simulator import create_worker, running
from shared import completion
from shared.conversation import Conversation, Editor, Unedited
from shared.edge import Event
from shared.errors import UpstreamError
from shared.identity import Caller
from shared.quality import Issue
from tests.use_cases.conftest import ANN, House

STREAMED = {"message": "Tell me about the sea.", "stream": True}
CASUAL = ["openai/gpt-4o-mini", "openai/gpt-4.1-mini", "meta-llama/llama-3.1-8b-instruct", "mistralai/mistral-nemo"]
REPLY = {
    *("request_id", "content", "use_case", "model", "provider", "finish_reason", "outcome", "usage", "cost_usd"),
    *("cost_source", "response_time_ms", "first_token_ms", "used_fallback", "attempts", "params", "quality_issues"),
}
LEDGER = "select outcome, cost_source, error_code, streamed from openrouter.completions"


@dataclass(frozen=True)
class Stream:
    """A stream that was read to its end: names and data of its events, comments left out."""

    status: int
    content_type: str
    events: list[tuple[str, Any]]

    @property
    def text(self) -> str:
        return "".join(data["text"] for name, data in self.events if name == "delta")

    @property
    def shape(self) -> list[str]:
        """The names, with deltas that follow each other as one."""
        names = [name for name, _ in self.events]
        return [name for place, name in enumerate(names) if place == 0 or name != "delta" or names[place - 1] != name]

    @property
    def last(self) -> Any:
        return self.events[-1][1]


async def streamed(house: House, **body: Any) -> Stream:
    answer = await house.http.post("/casual-chat", json={**STREAMED, **body})
    blocks = [block.split("\n") for block in answer.text.split("\n\n") if block and not block.startswith(":")]
    events = [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in blocks]
    return Stream(answer.status_code, answer.headers["content-type"], events)


async def quiet(house: House) -> list[dict[str, Any]]:
    """The requests of the far end, when none of them is on its way any more."""
    (await house.simulator.http.get("/_sim/idle")).raise_for_status()
    return await house.simulator.requests()


async def eventually(house: House, query: str) -> list[tuple[Any, ...]]:
    """The rows of a query, as soon as there are any: who has left is not told when his row is written."""
    async with asyncio.timeout(10):
        while not (rows := await house.ledger(query)):
            continue
    return rows


async def test_a_stream_is_start_deltas_done(house: House) -> None:
    """The contract's events and fields; `done` is the reply without its content."""
    stream = await streamed(house)
    bill = await house.simulator.bill()
    [(name, start), *_] = stream.events

    assert (stream.status, stream.content_type) == (200, "text/event-stream; charset=utf-8")
    assert stream.shape == ["start", "delta", "done"]
    assert (name, set(start)) == ("start", {"request_id", "model", "provider"})
    assert (start["model"], start["provider"]) == (CASUAL[0], "OpenRouter")
    assert set(stream.last) == REPLY - {"content"}
    assert stream.last["request_id"] == start["request_id"]
    assert (stream.last["outcome"], stream.last["finish_reason"]) == ("complete", "stop")
    assert 0 <= stream.last["first_token_ms"] <= stream.last["response_time_ms"]
    assert stream.last["cost_usd"] == pytest.approx(float(bill["total_cost"]))
    assert [set(data) for name, data in stream.events if name == "delta"] == [{"text"}] * (len(stream.events) - 2)
    assert await house.ledger("select reply_chars, streamed from openrouter.completions") == [(len(stream.text), True)]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("stream_error_first", "UPSTREAM_ERROR"),
        ("stream_reasoning_only", "EMPTY_RESPONSE"),
        ("no_endpoints", "MODEL_NOT_FOUND"),
        ("html_200", "UPSTREAM_ERROR"),
    ],
)
async def test_a_fallback_before_the_first_word_is_not_seen(house: House, fault: str, code: str) -> None:
    """One start, of the model that answers; the attempts tell the rest."""
    await house.simulator.fault(CASUAL[0], fault)
    stream = await streamed(house)

    assert stream.shape == ["start", "delta", "done"]
    assert stream.events[0][1]["model"] == stream.last["model"] == CASUAL[1]
    assert stream.last["used_fallback"] is True
    assert {(attempt["model"], attempt["code"]) for attempt in stream.last["attempts"]} == {
        (CASUAL[0], code),
        (CASUAL[1], None),
    }


@pytest.mark.parametrize("fault", ["stream_drop", "stream_reset", "stream_error_doc", "stream_close_after_content"])
async def test_a_cut_after_the_first_word_is_truncated(house: House, fault: str) -> None:
    """What was shown stays shown, nobody else goes on in its place, and nobody calls it complete."""
    await house.simulator.fault(CASUAL[0], fault)
    stream = await streamed(house)

    assert stream.shape == ["start", "delta", "done"]
    assert stream.text
    assert (stream.last["outcome"], stream.last["model"], stream.last["used_fallback"]) == (
        "truncated",
        CASUAL[0],
        False,
    )
    assert len(stream.last["attempts"]) == 1
    assert [row[0] for row in await house.ledger(LEDGER)] == ["truncated"]


async def test_a_failure_before_the_first_word_of_all_is_a_plain_answer(house: House) -> None:
    """JSON with its status: a client that never saw a stream need not read one."""
    await house.simulator.fault("*", "stream_error_first")
    answer = await house.http.post("/casual-chat", json=STREAMED)
    error = answer.json()["error"]

    assert (answer.status_code, answer.headers["content-type"]) == (502, "application/json")
    assert (error["code"], error["message"]) == ("UPSTREAM_ERROR", "Unknown OpenRouter API error")
    assert {attempt["model"] for attempt in error["attempts"]} == set(CASUAL)
    assert [row[0] for row in await house.ledger(LEDGER)] == ["failed"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param("stream_stall", 1, id="within the answer"),
        pytest.param("slow_headers", 0, id="before its first word"),
    ],
)
async def test_when_the_caller_leaves_the_model_is_stopped(house: House, fault: str, words: int) -> None:
    """The far end sees it at once; what it may still charge is estimated and written down."""
    await house.simulator.fault(CASUAL[0], fault)

    async def listen() -> None:
        async with house.http.stream("POST", "/casual-chat", json=STREAMED) as answer:
            async for line in answer.aiter_lines():
                if line == "event: delta":
                    return

    listening = asyncio.create_task(listen())
    if words:
        await listening
    else:
        async with asyncio.timeout(10):
            while not await house.simulator.requests():
                continue
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    [seen] = await quiet(house)
    assert seen["disconnected"] is True
    assert await eventually(house, LEDGER) == [("cancelled", "estimated", None, True)]
    [(cost,)] = await house.ledger("select cost_usd from openrouter.completions")
    assert cost > 0


async def test_the_worker_takes_over_in_a_stream(house: House) -> None:
    """It cannot stream: its text comes in one piece, and its first token as late as its last."""
    await house.simulator.fault("*", "no_endpoints")
    async with running(create_worker(seed=1)) as url:
        house.services.settings = replace(house.services.settings, chat_worker_url=url)
        stream = await streamed(house, fallback_to_chat_worker=True)

    assert [name for name, _ in stream.events] == ["start", "delta", "done"]
    assert (stream.last["provider"], stream.last["used_fallback"]) == ("Chat worker", True)
    assert stream.last["first_token_ms"] is not None


# The story itself, with the doors left out: its caller leaves at exact moments.


class Holding(Unedited):
    """Shows nothing before the end."""

    def __init__(self) -> None:
        self.held: list[str] = []

    def feed(self, text: str) -> str:
        self.held.append(text)
        return ""

    def finish(self) -> str:
        return "".join(self.held)


class Broken(Unedited):
    """Has a bug."""

    def feed(self, text: str) -> str:
        raise RuntimeError("a bug in an editor")


def told(house: House, editor: Callable[[], Editor] = Unedited, **more: Any) -> AsyncGenerator[Event, None]:
    """The story of one streamed request."""
    ask = completion.Ask(
        request_id="r-1",
        caller=Caller("user", ANN, {}, None),
        use_case="casual_chat",
        prompt=lambda preset, context_length: Conversation([{"role": "user", "content": "Tell me about the sea."}]),
        deadline=time.monotonic() + 20,
        editor=editor,
        **more,
    )
    return completion.stream(ask, house.services)


def names(events: Sequence[Event]) -> list[str]:
    return [event.name for event in events]


async def test_an_editor_that_holds_everything_back_speaks_at_the_end(house: House) -> None:
    """Start, its text, done."""
    events = [event async for event in told(house, Holding)]

    assert names(events) == ["start", "delta", "done"]
    assert await house.ledger(LEDGER) == [("complete", "provider", None, True)]


async def test_what_nobody_saw_may_still_fall_back(house: House) -> None:
    """The model breaks off after words that the editor held back: the next model's whole answer is shown instead."""
    await house.simulator.fault(CASUAL[0], "stream_drop")
    events = [event async for event in told(house, Holding)]

    assert names(events) == ["start", "delta", "done"]
    reply: Any = events[-1].data
    assert (reply["model"], reply["outcome"], reply["used_fallback"]) == (CASUAL[1], "complete", True)
    assert [attempt["code"] for attempt in reply["attempts"]] == ["UPSTREAM_ERROR", None]


async def test_when_nobody_saw_anything_of_any_model_it_is_a_failure(house: House) -> None:
    """Not one event was sent, so it can be told as what it is."""
    await house.simulator.fault("*", "stream_drop")
    story = told(house, Holding)
    with pytest.raises(UpstreamError):
        await anext(story)

    assert [row[:1] + row[2:] for row in await house.ledger(LEDGER)] == [("failed", "UPSTREAM_ERROR", True)]


@pytest.mark.parametrize(
    ("editor", "heard", "outcome"),
    [
        pytest.param(Unedited, 1, "cancelled", id="after start"),
        pytest.param(Unedited, 2, "cancelled", id="after a word"),
        pytest.param(Holding, 2, "cancelled", id="after the held text, before done"),
        pytest.param(Holding, 3, "complete", id="after done"),
    ],
)
async def test_leaving_at_any_event_is_written_once(
    house: House, editor: Callable[[], Editor], heard: int, outcome: str
) -> None:
    """The iterator is closed between two events: the far end is let go, and one row says how it ended."""
    if editor is Unedited:
        await house.simulator.fault(CASUAL[0], "stream_stall")
    story = told(house, editor)
    for _ in range(heard):
        await anext(story)

    await story.aclose()

    [seen] = await quiet(house)
    assert seen["disconnected"] is (editor is Unedited)
    assert [row[0] for row in await house.ledger(LEDGER)] == [outcome]


@pytest.mark.parametrize("fault", [None, "no_endpoints"], ids=["an answer", "a failure"])
async def test_leaving_while_the_record_is_written_does_not_tear_it(house: House, fault: str | None) -> None:
    """The row is there, once, before the cancellation goes on; and it says what was true."""
    if fault is not None:
        await house.simulator.fault("*", fault)
    owner = await asyncpg.connect(house.database_url)
    holding = owner.transaction()
    await holding.start()
    await owner.execute("lock table openrouter.completions in access exclusive mode")

    async def listen() -> None:
        async with aclosing(told(house)) as story:
            async for _ in story:
                pass

    listening = asyncio.create_task(listen())
    waiting = "select 1 from pg_locks where not granted and relation = 'openrouter.completions'::regclass"
    async with asyncio.timeout(10):
        while not await owner.fetch(waiting):
            continue
    listening.cancel()
    await asyncio.wait((listening,), timeout=0.1)
    is_waiting = not listening.done()
    await holding.rollback()
    await owner.close()
    [ended] = await asyncio.gather(listening, return_exceptions=True)

    assert is_waiting
    assert isinstance(ended, asyncio.CancelledError)
    assert [row[0] for row in await house.ledger(LEDGER)] == ["complete" if fault is None else "failed"]


async def test_a_bug_while_it_streams_is_written_and_lets_the_model_go(house: House) -> None:
    """What was paid for is in the ledger, whoever is to blame."""
    await house.simulator.fault(CASUAL[0], "stream_stall")
    with pytest.raises(RuntimeError):
        await anext(told(house, Broken))

    [seen] = await quiet(house)
    assert seen["disconnected"] is True
    assert [row[:1] + row[2:] for row in await house.ledger(LEDGER)] == [("failed", "INTERNAL", True)]


async def test_a_bug_in_the_dressing_leaves_the_record_alone(house: House) -> None:
    """The reply was written already: it is not written again as a failure."""

    def broken(reply: dict[str, Any]) -> dict[str, Any]:
        raise RuntimeError("a bug in a door")

    with pytest.raises(RuntimeError):
        async with aclosing(told(house, dress=broken)) as story:
            async for _ in story:
                pass

    assert await house.ledger(LEDGER) == [("complete", "provider", None, True)]


async def test_a_bug_after_the_first_word_ends_in_one_error_event(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The edge tells it as the one terminal event; nothing of the bug is shown."""

    def broken(*_: Any) -> Sequence[Issue]:
        raise RuntimeError("a bug in a flag")

    monkeypatch.setattr("shared.quality.issues", broken)
    stream = await streamed(house)

    assert stream.shape == ["start", "delta", "error"]
    assert stream.last["error"]["code"] == "INTERNAL"
    assert "flag" not in json.dumps(stream.last)
    assert [row[:1] + row[2:] for row in await house.ledger(LEDGER)] == [("failed", "INTERNAL", True)]


async def test_many_streams_do_not_mix(house: House) -> None:
    """Each caller hears one model's words from beginning to end."""
    told_by = {slug: f"I am {slug}. " * 20 for slug in CASUAL}
    for slug, text in told_by.items():
        await _say(house.simulator.http, slug, text)
    streams = await asyncio.gather(*(streamed(house, models=[slug]) for slug in CASUAL for _ in range(5)))

    assert [stream.text for stream in streams] == [told_by[slug] for slug in CASUAL for _ in range(5)]
    assert await house.ledger("select count(*) from openrouter.completions where outcome = 'complete'") == [(20,)]


async def _say(http: httpx.AsyncClient, slug: str, text: str) -> None:
    (await http.post("/_sim/answers", json={"model": slug, "text": text, "times": None})).raise_for_status()
