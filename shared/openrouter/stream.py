"""Bytes become events, and events one completion; pure, so that any cut of the bytes gives the same.

Decoder: bytes -> server-sent events. Assembler: events -> what to show now, and the completion in the end.
StreamReader: both, and the whole JSON body that some servers answer a stream request with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shared.openrouter import answer
from shared.openrouter.classification import Envelope
from shared.openrouter.errors import CallFailed, ConnectionLost, UnreadableAnswer
from shared.openrouter.wire import Completion, FinishReason, Outcome, Usage, text_of

_BOM = b"\xef\xbb\xbf"
# Padding of a body that is not ready yet, and the byte order mark: neither says what will follow.
_LEADING = b" \t\r\n" + _BOM
MOST_EVENT_BYTES = 8 * 1024 * 1024
MOST_BODY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Started:
    """The upstream began to answer. Seen again after a retry: reasoning shown since the last one is void."""

    id: str | None
    model: str | None
    provider: str | None


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Visible text. The first one is never blank: leading white space is held back until a word follows."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """Text of the model's reasoning, each piece once."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolDelta:
    """A piece of a tool call. `id` and `name` come with the first piece of each `index`, `arguments` are joined."""

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: the whole completion, and, when it is truncated, what cut it off."""

    completion: Completion
    failure: CallFailed | None = None

    @property
    def outcome(self) -> Outcome:
        return self.completion.outcome


StreamEvent = Started | TextDelta | ReasoningDelta | ToolDelta | Finished
Delta = Started | TextDelta | ReasoningDelta | ToolDelta


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """`name` is empty on chat streams; `data` is the data lines joined by line feeds."""

    name: str
    data: str


class Decoder:
    """Incremental decoder of server-sent events: LF, CR or CRLF, a byte order mark, comments, many data lines."""

    def __init__(self, most_bytes: int = MOST_EVENT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._begun = False
        self._after_cr = False
        self._line: list[bytes] = []
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[ServerSentEvent]:
        """The events completed by these bytes. Raises UnreadableAnswer when one event grows past the bound."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._grow(len(line))
            if self._line:
                self._line.append(line)
                line = b"".join(self._line)
                self._line.clear()
            event = self._take(line)
            if event is not None:
                yield event
        if rest:
            self._grow(len(rest))
            self._line.append(rest)

    def end(self) -> Iterator[ServerSentEvent]:
        """The event that the end of the stream left without its closing blank line, if there is one."""
        event = self._take(b"".join(self._line)) if self._line else None
        self._line.clear()
        event = event or self._take(b"")
        if event is not None:
            yield event

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._most_bytes:
            raise UnreadableAnswer(f"one event is larger than {self._most_bytes} bytes")

    def _take(self, line: bytes) -> ServerSentEvent | None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if not line:
            self._size = 0
            name, data = self._name, self._data
            self._name, self._data = b"", []
            if not data:
                return None
            return ServerSentEvent(name.decode("utf-8", "replace"), b"\n".join(data).decode("utf-8", "replace"))
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value
        elif not field:
            # A comment says "queued or alive" and may come for ever: it takes no room.
            self._size -= len(line)
        return None


class Assembler:
    """Turns chunks into deltas and, in the end, into one completion. Raises only CallFailed."""

    def __init__(self, envelope: Envelope) -> None:
        self._envelope = envelope
        self._started = False
        self._blank: str = ""
        self._half = _HalfPair()
        self._half_thought = _HalfPair()
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._details: list[dict[str, Any]] | None = None
        self._refusal: list[str] = []
        self._tools: list[_Tool] = []
        self._finish: FinishReason | None = None
        self._native: str | None = None
        self.id: str | None = None
        self.model: str | None = None
        self.provider: str | None = None
        self.usage: Usage | None = None
        self.done = False
        self.visible = False
        # Counts pieces of real progress, so that a timer can tell them from keep-alives.
        self.progress = 0
        self.characters = 0

    @property
    def finished(self) -> bool:
        """The finish reason was seen: what is still missing is at most the usage."""
        return self._finish is not None

    def take(self, event: ServerSentEvent, *, last: bool = False) -> Iterator[Delta]:
        """What this event adds. `last`: the stream ended inside it, so being malformed is no news."""
        text = event.data.strip()
        if self.done or not text:
            return
        if text == "[DONE]":
            self.done = True
            return
        try:
            chunk = answer.parse_json(text)
        except UnreadableAnswer:
            if last or event.name not in ("", "message", "error"):
                return
            raise
        if not isinstance(chunk, dict):
            if event.name in ("", "message", "error"):
                raise UnreadableAnswer(f"an event that is no object: {type(chunk).__name__}")
            return
        yield from self._chunk(answer.rescued(chunk))

    def _chunk(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        self.id = self.id or answer.text_or_none(chunk.get("id"))
        self.model = self.model or answer.text_or_none(chunk.get("model"))
        self.provider = self.provider or answer.text_or_none(chunk.get("provider"))
        # Before anything can fail: an error event may carry the usage too, and it may come in any shape of chunk.
        self.usage = answer.parse_usage(chunk.get("usage")) or self.usage
        answer.raise_error_of(chunk, self._envelope)
        choices = chunk.get("choices")
        found = [part for part in choices if isinstance(part, dict)] if isinstance(choices, list) else []
        choice = next((part for part in found if part.get("index") in (0, None)), None)
        if choice is None:
            return
        answer.raise_error_of(choice, self._envelope)
        if not self._started:
            self._started = True
            yield Started(self.id, self.model, self.provider)
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice.get("message")
        if isinstance(delta, dict):
            yield from self._delta(delta)
        native = choice.get("native_finish_reason")
        self._native = self._native or answer.text_or_none(native)
        # The chunk with the usage repeats the finish reason, so only the first one counts.
        if self._finish is None and choice.get("finish_reason"):
            self._finish = answer.finish_reason(choice["finish_reason"], native)

    def _delta(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        self._merge_details(delta.get("reasoning_details"))
        thought = self._half_thought.join(answer.reasoning_text(delta))
        if thought:
            self._reasoning.append(thought)
            self._moved(thought)
            yield ReasoningDelta(thought)
        text = self._half.join(text_of(delta.get("content")))
        if text:
            self._content.append(text)
            self._moved(text)
            if not self.visible and not text.strip():
                self._blank += text
            else:
                self.visible = True
                yield TextDelta(self._blank + text)
                self._blank = ""
        refusal = delta.get("refusal")
        if isinstance(refusal, str) and refusal:
            self._refusal.append(answer.whole(refusal))
            self._moved(refusal)
        fragments = delta.get("tool_calls")
        # After the finish a repeated tool call would be a second call.
        if isinstance(fragments, list) and self._finish is None:
            for fragment in fragments:
                if isinstance(fragment, dict):
                    yield from self._tool(fragment)

    def _moved(self, text: str) -> None:
        self.progress += 1
        self.characters += len(text)

    def _tool(self, fragment: Mapping[str, Any]) -> Iterator[Delta]:
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        id, name = answer.text_or_none(fragment.get("id")), answer.text_or_none(function.get("name"))
        arguments = answer.arguments_text(function.get("arguments"))
        position, begun = self._slot(fragment.get("index"), id)
        tool = self._tools[position]
        news = ToolDelta(position, id if not tool.id else None, name if not tool.name else None, arguments)
        tool.id, tool.name = tool.id or id, tool.name or name
        tool.arguments.append(arguments)
        if begun or news.id or news.name or arguments:
            self.visible = True
            self._moved(arguments)
            yield news

    def _slot(self, index: object, id: str | None) -> tuple[int, bool]:
        """The place of the call this fragment belongs to, and whether it is new."""
        for position in reversed(range(len(self._tools))):
            tool = self._tools[position]
            same = tool.index == index if index is not None else (id is None and position == len(self._tools) - 1)
            if (same and (id is None or tool.id is None or tool.id == id)) or (id is not None and tool.id == id):
                return position, False
        self._tools.append(_Tool(index))
        return len(self._tools) - 1, True

    def _merge_details(self, items: object) -> None:
        if not isinstance(items, list):
            return
        self._details = self._details if self._details is not None else []
        for item in items:
            if not isinstance(item, dict):
                continue
            item = answer.plain_json(item)
            known = self._same_detail(item)
            if known is None:
                self._details.append(dict(item))
                continue
            for name, value in item.items():
                if name in ("text", "summary") and isinstance(value, str) and isinstance(known.get(name), str):
                    known[name] += value
                elif value is not None:
                    known[name] = value

    def _same_detail(self, item: Mapping[str, Any]) -> dict[str, Any] | None:
        kind, index = item.get("type"), item.get("index")
        for known in reversed(self._details or []):
            if known.get("type") != kind or known.get("index") != index:
                continue
            # Without an index only running text continues; sealed pieces stand for themselves.
            joined = index is not None or kind in ("reasoning.text", "reasoning.summary")
            return known if joined else None
        return None

    def completion(self, *, ended: bool) -> Completion:
        """The answer. `ended`: it ended by [DONE] or after its finish reason; else it was cut and is truncated."""
        partial = Completion(
            id=self.id,
            model=self.model,
            provider=self.provider,
            content=answer.whole("".join(self._content)),
            reasoning="".join(self._reasoning) or None,
            reasoning_details=tuple(self._details) if self._details is not None else None,
            tool_calls=tuple(answer.tool_call(tool.id, tool.name, "".join(tool.arguments)) for tool in self._tools),
            refusal="".join(self._refusal) or None,
            finish_reason=self._finish or (answer.finish_reason(None, self._native) if ended else None),
            native_finish_reason=self._native,
            usage=self.usage,
        )
        return answer.judged(partial) if ended else replace(partial, outcome="truncated")


def looks_streamed(body: bytes) -> bool:
    """Whether a whole body is a stream of events, which a few servers send unasked."""
    return body.lstrip(_LEADING).startswith((b"data:", b"event:", b":"))


class StreamReader:
    """Everything a stream request may be answered with under status 200, fed byte by byte as it comes."""

    def __init__(self, envelope: Envelope, *, most_event_bytes: int = MOST_EVENT_BYTES) -> None:
        self._envelope = envelope
        self._decoder = Decoder(most_event_bytes)
        self._assembler = Assembler(envelope)
        self._size = 0
        # The first bytes that are not blank tell a stream from a whole JSON body or a page of HTML.
        self._kind: str | None = None
        self._whole = bytearray()
        self._answered: Completion | None = None

    @property
    def seen(self) -> Assembler:
        return self._assembler

    def feed(self, data: bytes) -> Iterator[Delta]:
        """What these bytes add. Raises CallFailed; what came before the failure was already given."""
        self._size += len(data)
        if self._size > MOST_BODY_BYTES:
            raise UnreadableAnswer(f"the answer is larger than {MOST_BODY_BYTES} bytes")
        if self._kind != "events":
            self._whole += data
            if self._kind is None:
                self._whole = self._whole.lstrip(_LEADING)
                if not self._whole:
                    return
                self._kind = "whole" if self._whole.startswith((b"{", b"[", b"<")) else "events"
            if self._kind == "whole":
                return
            data = bytes(self._whole)
            self._whole.clear()
        for event in self._decoder.feed(data):
            yield from self._assembler.take(event)

    def end(self) -> Iterator[Delta]:
        """What the end of the bytes adds. Raises CallFailed for a body that is no answer, or that ended too early."""
        if self._kind == "whole":
            yield from self._end_of_whole()
            return
        for event in self._decoder.end():
            yield from self._assembler.take(event, last=True)

    def _end_of_whole(self) -> Iterator[Delta]:
        completion = answer.parse_answer(bytes(self._whole), self._envelope)
        seen = self._assembler
        seen.id, seen.model, seen.provider, seen.usage = (
            completion.id,
            completion.model,
            completion.provider,
            completion.usage,
        )
        seen.done = True
        seen.characters = len(completion.content)
        self._answered = completion
        yield Started(completion.id, completion.model, completion.provider)
        if completion.reasoning:
            yield ReasoningDelta(completion.reasoning)
        if completion.content:
            seen.visible = True
            yield TextDelta(completion.content)
        for index, call in enumerate(completion.tool_calls):
            seen.visible = True
            yield ToolDelta(index, call["id"], call["function"]["name"], call["function"]["arguments"])

    def completion(self) -> Completion:
        """The answer after the end. Raises EmptyAnswer and the like, and ConnectionLost when it simply broke off."""
        if self._answered is not None:
            return self._answered
        if self._assembler.done or self._assembler.finished:
            return self._assembler.completion(ended=True)
        raise ConnectionLost("the stream closed with neither a finish reason nor [DONE]", status=self._envelope.status)

    def partial(self) -> Completion:
        """What came before a failure, marked as truncated."""
        return self._assembler.completion(ended=False)


class _Tool:
    def __init__(self, index: object) -> None:
        self.index = index
        self.id: str | None = None
        self.name: str | None = None
        self.arguments: list[str] = []


class _HalfPair:
    """Joins a surrogate pair that was cut between two chunks; the half alone can be sent nowhere."""

    def __init__(self) -> None:
        self._half = ""

    def join(self, text: str) -> str:
        if not text:
            return ""
        text, self._half = self._half + text, ""
        if "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return answer.whole(text)
