"""What OpenRouter puts on the wire: replies and refusals, and the steps in which they are sent."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from local.simulator import answers
from local.simulator.catalog import STOPS_BILLING, Json, Model, Prices

DONE = b"data: [DONE]\n\n"
PROCESSING = b": OPENROUTER PROCESSING\n\n"
PADDING = b"\n" + b" " * 9 + b"\n"
USER_ID = "user_2sImUlAtEdAcCoUnT000000000"
JSON_HEADERS = (("content-type", "application/json"),)
STREAM_HEADERS = (("content-type", "text/event-stream"), ("cache-control", "no-cache"))
UNTIL_HANG_UP = -1.0


@dataclass(frozen=True)
class Head:
    """Status line and headers."""

    status: int
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Data:
    """Bytes of the body; `tokens` of the answer are in them, which a cancelled stream is billed by."""

    payload: bytes
    tokens: int = 0


@dataclass(frozen=True)
class Wait:
    """Silence for some milliseconds, or with `fill` sent at every `every_ms`."""

    ms: float
    fill: bytes = b""
    every_ms: float = 0


@dataclass(frozen=True)
class Cut:
    """Close the socket here and now, politely (FIN) or not (RST)."""

    reset: bool


Step = Head | Data | Wait | Cut


@dataclass(frozen=True)
class Pace:
    """How fast answers come. Nothing waits unless told to, so tests are quick."""

    latency_ms: float = 0
    tokens_per_second: float = 0
    comment_interval_ms: float = 600
    tokens_per_delta: int = 3

    def generation_ms(self, tokens: int) -> float:
        return 1000 * tokens / self.tokens_per_second if self.tokens_per_second else 0


@dataclass(frozen=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    prices: Prices

    @property
    def prompt_cost(self) -> Decimal:
        return self.prompt_tokens * self.prices.prompt

    @property
    def completion_cost(self) -> Decimal:
        return self.completion_tokens * self.prices.completion

    @property
    def cost(self) -> Decimal:
        return self.prompt_cost + self.completion_cost

    def json(self) -> Json:
        # A price has few digits, so the shortest float prints exactly the decimal number.
        cost = float(self.cost)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "cost": cost,
            "is_byok": False,
            "prompt_tokens_details": {
                "cached_tokens": 0,
                "cache_write_tokens": 0,
                "audio_tokens": 0,
                "video_tokens": 0,
            },
            "cost_details": {
                "upstream_inference_cost": cost,
                "upstream_inference_prompt_cost": float(self.prompt_cost),
                "upstream_inference_completions_cost": float(self.completion_cost),
            },
            "completion_tokens_details": {
                "reasoning_tokens": self.reasoning_tokens,
                "image_tokens": 0,
                "audio_tokens": 0,
            },
        }


@dataclass(frozen=True)
class ToolCall:
    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class Reply:
    """A planned answer, before anything of it is sent."""

    generation_id: str
    created: int
    model: Model
    provider: str
    content: str | None
    finish_reason: str | None
    native_finish_reason: str | None
    usage: Usage
    pace: Pace
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    refusal: str | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)
    echoed_body: Json | None = None

    @property
    def stops_billing(self) -> bool:
        """Whether hanging up on this provider saves money."""
        return self.provider in STOPS_BILLING

    def with_content(self, content: str | None) -> "Reply":
        """The same reply with other words, and a bill that fits them."""
        spoken = 0 if content is None else len(answers.tokens(content))
        tokens = self.usage.reasoning_tokens + spoken
        return replace(self, content=content, usage=replace(self.usage, completion_tokens=tokens))

    def with_reasoning(self, reasoning: str) -> "Reply":
        """The same reply after some thinking, which is billed as output."""
        thinking = len(answers.tokens(reasoning))
        spoken = self.usage.completion_tokens - self.usage.reasoning_tokens
        usage = replace(self.usage, reasoning_tokens=thinking, completion_tokens=spoken + thinking)
        return replace(self, reasoning=reasoning, usage=usage)

    def insured(self) -> "Reply":
        """The same reply charged at nothing: what an answer reports is what is billed."""
        free = replace(self.usage.prices, prompt=Decimal(0), completion=Decimal(0))
        return replace(self, usage=replace(self.usage, prices=free))

    def ending(self, finish_reason: str | None, native: str | None) -> "Reply":
        return replace(self, finish_reason=finish_reason, native_finish_reason=native)


@dataclass(frozen=True)
class Refusal:
    """An error with its own HTTP status, sent before any work was done."""

    status: int
    message: str
    metadata: Json | None = None
    availability: Json | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def error(self) -> Json:
        error: Json = {"message": self.message, "code": self.status}
        if self.metadata is not None:
            error["metadata"] = self.metadata
        if self.availability is not None:
            error["availability"] = self.availability
        return error

    def json(self) -> Json:
        return {"error": self.error()} if self.status == 401 else {"error": self.error(), "user_id": USER_ID}


Charge = Literal["all", "sent", "nothing"]


@dataclass(frozen=True)
class Script:
    """Everything that will happen on the socket, and what of the reply is charged if it happens."""

    steps: tuple[Step, ...]
    reply: Reply | None = None
    charge: Charge = "all"


def encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event(value: Any) -> bytes:
    return b"data: " + encoded(value) + b"\n\n"


def message(reply: Reply) -> Json:
    said: Json = {"role": "assistant", "content": reply.content, "refusal": reply.refusal, "reasoning": reply.reasoning}
    if reply.reasoning is not None:
        said["reasoning_details"] = reasoning_details(reply.reasoning)
    if reply.tool_calls:
        said["tool_calls"] = [
            {
                "index": place,
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for place, call in enumerate(reply.tool_calls)
        ]
    return said


def reasoning_details(text: str) -> list[Json]:
    return [{"type": "reasoning.text", "text": text, "format": "unknown", "index": 0}]


def body(reply: Reply) -> Json:
    """The whole answer of a call that does not stream."""
    return {
        "id": reply.generation_id,
        "provider": reply.provider,
        "model": reply.model.permaslug,
        "object": "chat.completion",
        "created": reply.created,
        "choices": [
            {
                "logprobs": None,
                "finish_reason": reply.finish_reason,
                "native_finish_reason": reply.native_finish_reason,
                "index": 0,
                "message": message(reply),
            }
        ],
        "system_fingerprint": None,
        "usage": reply.usage.json(),
        **reply.extras,
    }


def envelope(reply: Reply, choices: list[Json]) -> Json:
    return {
        "id": reply.generation_id,
        "provider": reply.provider,
        "model": reply.model.permaslug,
        "object": "chat.completion.chunk",
        "created": reply.created,
        "choices": choices,
    }


def chunk(reply: Reply, delta: Json, finish_reason: str | None = None, native: str | None = None) -> Json:
    """One event of a stream."""
    choice = {
        "index": 0,
        "delta": delta,
        "finish_reason": finish_reason,
        "native_finish_reason": native,
        "logprobs": None,
    }
    return envelope(reply, [choice])


def empty_delta() -> Json:
    return {"role": "assistant", "content": ""}


def head(reply: Reply, headers: Iterable[tuple[str, str]], status: int = 200) -> Head:
    return Head(status, (*headers, ("x-generation-id", reply.generation_id)))


def whole(reply: Reply, payload: bytes, headers: Iterable[tuple[str, str]] = JSON_HEADERS) -> tuple[Step, ...]:
    """A body after its keep-alive padding: the status goes out before the work is done."""
    pace = reply.pace
    working_ms = pace.latency_ms + pace.generation_ms(reply.usage.completion_tokens)
    waiting = (Wait(working_ms, PADDING, pace.comment_interval_ms),) if working_ms else ()
    return (head(reply, headers), Data(PADDING), *waiting, Data(payload))


def plain(reply: Reply) -> tuple[Step, ...]:
    return whole(reply, encoded(body(reply)))


def opening(reply: Reply) -> tuple[Step, ...]:
    """The head of a stream and the comments while it waits for its first token."""
    waiting = (Wait(reply.pace.latency_ms, PROCESSING, reply.pace.comment_interval_ms),)
    echo: tuple[Step, ...] = ()
    if reply.echoed_body is not None:
        echo = (Data(event(envelope(reply, []) | {"debug": {"echo_upstream_body": reply.echoed_body}})),)
    return (head(reply, STREAM_HEADERS), *(waiting if reply.pace.latency_ms else ()), *echo)


def deltas(reply: Reply) -> list[tuple[Json, int]]:
    """The pieces of the answer in order, each with the number of its tokens: reasoning, words, tools."""
    size = reply.pace.tokens_per_delta
    pieces: list[tuple[Json, int]] = []
    # Reasoning that is kept from the caller still takes its time and its tokens.
    thinking = answers.tokens(reply.reasoning or "")
    for text, count in _groups(thinking, size):
        pieces.append((empty_delta() | {"reasoning": text, "reasoning_details": reasoning_details(text)}, count))
    hidden = reply.usage.reasoning_tokens - len(thinking)
    if hidden > 0:
        pieces.append((empty_delta(), hidden))
    for text, count in _groups(answers.tokens(reply.content or ""), size):
        pieces.append(({"role": "assistant", "content": text}, count))
    for place, call in enumerate(reply.tool_calls):
        pieces.append((_tool_delta(place, {"name": call.name, "arguments": ""}, call.id), 0))
        for text, count in _groups(answers.tokens(call.arguments), size):
            pieces.append((_tool_delta(place, {"arguments": text}), count))
    return pieces


def talking(reply: Reply, pieces: Iterable[tuple[Json, int]]) -> tuple[Step, ...]:
    """Send the pieces at the reply's pace."""
    steps: list[Step] = []
    for delta, count in pieces:
        pause_ms = reply.pace.generation_ms(count)
        if pause_ms:
            steps.append(Wait(pause_ms))
        steps.append(Data(event(chunk(reply, delta)), count))
    return tuple(steps)


def finish(reply: Reply) -> Data:
    return Data(event(chunk(reply, empty_delta(), reply.finish_reason, reply.native_finish_reason)))


def usage_chunk(reply: Reply) -> Json:
    """The last event as nearly every recording shows it: the finish reason is repeated beside the usage."""
    last = chunk(reply, empty_delta(), reply.finish_reason, reply.native_finish_reason)
    return last | {"usage": reply.usage.json()} | dict(reply.extras)


def stream(reply: Reply) -> tuple[Step, ...]:
    return (
        *opening(reply),
        *talking(reply, deltas(reply)),
        finish(reply),
        Data(event(usage_chunk(reply))),
        Data(DONE),
    )


def refused(refusal: Refusal, generation_id: str | None) -> tuple[Step, ...]:
    """A refusal on the wire; chat errors carry the id of the generation that never was."""
    named = (("x-generation-id", generation_id),) if generation_id else ()
    return (Head(refusal.status, (*JSON_HEADERS, *refusal.headers, *named)), Data(encoded(refusal.json())))


def _groups(pieces: list[str], size: int) -> Iterable[tuple[str, int]]:
    for start in range(0, len(pieces), size):
        group = pieces[start : start + size]
        yield "".join(group), len(group)


def _tool_delta(place: int, function: Json, call_id: str | None = None) -> Json:
    named = {"id": call_id, "type": "function"} if call_id else {"type": "function"}
    return {"role": "assistant", "content": None, "tool_calls": [{"index": place, **named, "function": function}]}
