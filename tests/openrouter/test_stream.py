"""Streams: any cut of the bytes gives the same events, and every ending is told as what it is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.openrouter import Completion, ReasoningDelta, Started, TextDelta, ToolDelta, Usage, errors
from shared.openrouter.classification import Envelope
from shared.openrouter.errors import CallFailed
from shared.openrouter.stream import Decoder, Delta, ServerSentEvent, StreamReader, looks_streamed
from tests.openrouter.upstream import COMMENT, DONE, USAGE, answered, chunk, event, told

FULL_USAGE = Usage(10, 5, 15, 4, 1, 2, Decimal("0.00012"))


def decode(*pieces: bytes, most: int = 1_000_000) -> list[ServerSentEvent]:
    decoder = Decoder(most)
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return [*events, *decoder.end()]


def read(*pieces: bytes) -> tuple[list[Delta], Completion]:
    reader = StreamReader(Envelope())
    deltas = [delta for piece in pieces for delta in reader.feed(piece)]
    deltas += reader.end()
    return deltas, reader.completion()


def text_of(deltas: Iterable[Delta]) -> str:
    return "".join(delta.text for delta in deltas if isinstance(delta, TextDelta))


def everything(pieces: Iterable[bytes]) -> tuple[list[Delta], Any]:
    """The deltas, and the completion or the failure, of these bytes."""
    reader = StreamReader(Envelope(), most_event_bytes=400)
    deltas: list[Delta] = []
    try:
        for piece in pieces:
            for delta in reader.feed(piece):
                deltas.append(delta)
        for delta in reader.end():
            deltas.append(delta)
        return deltas, reader.completion()
    except CallFailed as failure:
        return deltas, (type(failure), failure.cause_text, reader.partial())


def cut(body: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize(
    ("body", "events"),
    [
        (b"data: a\n\ndata: b\n\n", ["a", "b"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
        (b"data: a\r\rdata: b\r\r", ["a", "b"]),
        (b"data: a\r\n\rdata: b\n\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfdata: a\n\n", ["a"]),
        (b"data:a\n\n", ["a"]),
        (b"data:  a\n\n", [" a"]),
        (b"data: a\ndata: b\n\n", ["a\nb"]),
        (b"data: a\r\ndata: b\r\n\r\n", ["a\nb"]),
        (b"data\n\n", [""]),
        (b": hello\n\n:\n\ndata: a\n\n", ["a"]),
        (b"id: 1\nretry: 5\nodd: x\ndata: a\n\n", ["a"]),
        (b"\n\n\ndata: a\n\n\n\n", ["a"]),
        (b"data: a", ["a"]),
        (b"data: a\n", ["a"]),
        (b"event: x\n\ndata: a\n\n", ["a"]),
        ("data: Grüße 🐉\n\n".encode(), ["Grüße 🐉"]),
        (b"data: \xff\n\n", ["\ufffd"]),
        (b"", []),
        (b"datum: a\n\n", []),
    ],
)
def test_events_are_decoded_in_every_dialect(body: bytes, events: list[str]) -> None:
    """Line ends, byte order mark, comments, many data lines, and an end without a blank line."""
    assert [event.data for event in decode(body)] == events
    assert [event.data for event in decode(*(body[i : i + 1] for i in range(len(body))))] == events


LINE_PIECES = [
    b"data: x\r\n",
    b"data: ",
    b"\xc3\xbc",
    b"\n",
    b"\r",
    b"\n\n",
    b":",
    b"x",
    b"event: e",
    b"\xef\xbb\xbf",
    b"\xff",
]
lines = st.lists(st.sampled_from(LINE_PIECES), max_size=30).map(b"".join)


@given(body=lines | st.binary(max_size=80), places=st.lists(st.integers(0, 200), max_size=6))
def test_any_cut_of_any_bytes_decodes_the_same(body: bytes, places: list[int]) -> None:
    """The network cuts where it likes, also inside a character and between CR and LF."""
    assert decode(*cut(body, places)) == decode(body)


def test_one_endless_line_is_refused_and_endless_comments_are_not() -> None:
    """Memory is bounded by the event, while keep-alives may go on for as long as the timers allow."""
    with pytest.raises(errors.UnreadableAnswer):
        decode(b"data: " + b"x" * 2000, most=1000)
    with pytest.raises(errors.UnreadableAnswer):
        decode(*[b"data: " + b"x" * 90 + b"\n"] * 20, most=1000)

    assert decode(*[COMMENT] * 200, *[b": x\n"] * 500, b"data: a\n\n", most=1000) == [ServerSentEvent("", "a")]


def test_a_megabyte_in_one_line_is_read() -> None:
    """Such events exist, and reading them in small pieces must not take for ever."""
    body = event(chunk("x" * 1_000_000)) + told()
    deltas, completion = read(*(body[i : i + 997] for i in range(0, len(body), 997)))

    assert len(text_of(deltas)) == len(completion.content) == 1_000_000


CHUNKS = [
    COMMENT,
    event(chunk("Hel")),
    event(chunk("lo 🐉")),
    event(chunk(finish="stop")),
    event(chunk(finish="stop", usage=USAGE)),
    DONE,
    event({"error": {"code": 502, "message": "Provider disconnected"}, "choices": []}),
    event(chunk(delta={"reasoning": "Hm"})),
    event(chunk(delta={"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a"'}}]})),
    event(chunk(delta={"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]})),
    b"data: {broken\n\n",
    b"\r\n",
    json.dumps(answered()).encode(),
    b"<html>",
    b"data: " + b"x" * 500,
    b"\xef\xbb\xbf",
]


@given(parts=st.lists(st.sampled_from(CHUNKS), max_size=8), places=st.lists(st.integers(0, 3000), max_size=6))
def test_any_cut_of_any_stream_reads_the_same(parts: list[bytes], places: list[int]) -> None:
    """Deltas, completion and failure do not depend on how the bytes arrived."""
    body = b"".join(parts)

    assert everything(cut(body, places)) == everything([body])


FIELDS = ["id", "provider", "model", "choices", "delta", "message", "content", "tool_calls", "function", "arguments"]
FIELDS += [
    "usage",
    "index",
    "name",
    "reasoning",
    "reasoning_details",
    "refusal",
    "finish_reason",
    "error",
    "code",
    "type",
]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=15,
)


@given(
    chunks=st.lists(
        values | values.map(lambda v: chunk("x", delta={"tool_calls": v, "reasoning_details": v})), max_size=5
    )
)
def test_any_json_in_a_stream_is_read_or_refused_by_our_own_failure(chunks: list[Any]) -> None:
    """Every field may hold anything; the text shown is always the text of the completion."""
    deltas, outcome = everything([b"data: " + json.dumps(value).encode() + b"\n\n" for value in chunks])
    completion = outcome if isinstance(outcome, Completion) else outcome[2]

    assert text_of(deltas) == completion.content or not completion.content.strip()


def test_a_good_stream_becomes_the_whole_completion() -> None:
    """Start, text as it comes, and in the end everything a whole answer would have."""
    deltas, completion = read(COMMENT, told("Hel", "lo"))

    assert deltas == [Started("gen-1", "maker/model-20260101", "OpenAI"), TextDelta("Hel"), TextDelta("lo")]
    assert completion == Completion(
        "gen-1", "maker/model-20260101", "OpenAI", "Hello", "stop", "stop", usage=FULL_USAGE
    )  # fmt: skip


@pytest.mark.parametrize(
    "tail",
    [
        [chunk(finish="stop"), chunk(finish="stop", usage=USAGE)],
        [chunk(finish="stop"), chunk(usage=USAGE)],
        [chunk(finish="stop"), chunk(usage=USAGE) | {"choices": []}],
        [chunk(finish="stop", usage=USAGE)],
        [chunk(usage=USAGE), chunk(finish="stop")],
        [chunk(finish="stop"), chunk(finish="length"), chunk(finish="stop", usage=USAGE)],
        [chunk(usage=None), chunk(finish="stop", usage=USAGE), chunk(finish="stop", usage=None)],
    ],
    ids=["repeated", "null finish", "no choices", "together", "before", "three times", "null usage"],
)
def test_the_usage_is_read_in_every_shape_and_the_finish_once(tail: list[dict[str, Any]]) -> None:
    """The last chunk is usually not shaped like OpenAI's, and the finish reason comes twice."""
    _, completion = read(event(chunk("Hello")), *(event(part) for part in tail), DONE)

    assert completion.usage == FULL_USAGE
    assert (completion.finish_reason, completion.content) == ("stop", "Hello")


@pytest.mark.parametrize(
    ("pieces", "outcome"),
    [
        ([event(chunk("Hi", finish="stop"))], "complete"),
        ([event(chunk("Hi")), DONE], "complete"),
        ([event(chunk("Hi", finish="stop"))[:-2]], "complete"),
        ([event(chunk("Hi"))], "lost"),
        ([event(chunk("Hi")), COMMENT], "lost"),
        ([event(chunk("Hi")), event(chunk(" there"))[:40]], "lost"),
        ([], "lost"),
        ([COMMENT], "lost"),
    ],
    ids=[
        "finish only",
        "[DONE] only",
        "no last line end",
        "silent",
        "comment",
        "cut event",
        "nothing",
        "only comments",
    ],
)
def test_a_silent_end_is_an_answer_only_after_a_finish(pieces: list[bytes], outcome: str) -> None:
    """Neither finish nor [DONE]: the answer was cut, however quietly."""
    if outcome == "complete":
        assert read(*pieces)[1].outcome == "complete"
        return
    with pytest.raises(errors.ConnectionLost):
        read(*pieces)


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (chunk(finish="error") | {"error": {"code": 502, "message": "x"}}, errors.ServerFault),
        (chunk(usage=USAGE) | {"error": {"code": 400, "message": "x"}}, errors.BadRequest),
        ({"error": {"code": 429, "message": "x"}}, errors.Throttled),
        ({"error": {"code": "429", "message": "x"}, "choices": []}, errors.Throttled),
        ({"error": {"code": "server_error", "message": "x"}}, errors.ServerFault),
        ({"error": "x"}, errors.ServerFault),
        (chunk(finish="error"), errors.ServerFault),
        (chunk(choice={"error": {"code": 503, "message": "x"}}), errors.Overloaded),
        ({"type": "error", "message": "x"}, errors.ServerFault),
        (b"{broken", errors.UnreadableAnswer),
        (b"[]", errors.UnreadableAnswer),
        (b"null", errors.UnreadableAnswer),
    ],
)  # fmt: skip
def test_an_error_in_any_chunk_is_a_failure_whatever_else_it_holds(bad: Any, kind: type[CallFailed]) -> None:
    """Also when [DONE] follows, as recorded; what came before stays readable."""
    reader = StreamReader(Envelope())
    shown = list(reader.feed(event(chunk("Hello"))))
    with pytest.raises(CallFailed) as caught:
        list(reader.feed(event(bad) + DONE))

    assert type(caught.value) is kind
    assert text_of(shown) == "Hello"
    assert (reader.partial().outcome, reader.partial().content) == ("truncated", "Hello")
    assert reader.partial().finish_reason is None


def test_the_usage_of_an_error_chunk_is_kept() -> None:
    """It says what the cut answer cost."""
    reader = StreamReader(Envelope())
    with pytest.raises(CallFailed):
        list(reader.feed(event(chunk("Hi")) + event({"error": {"code": 502}, "usage": USAGE})))

    assert reader.partial().usage == FULL_USAGE


@pytest.mark.parametrize(
    "noise",
    [
        event(chunk("") | {"error": None}),
        event(chunk("") | {"choices": []}),
        event({"debug": {"echo": {}}, "choices": []}),
        event({"something": "new"}),
        b"event: ping\ndata: pong\n\n",
        b"event: ping\ndata: [1]\n\n",
        b"data:\n\n",
        b"data:   \n\n",
        event(chunk("", delta={"audio": None, "new_field": [1]}, choice={"logprobs": None})),
        event(chunk("extra") | {"choices": [{"index": 1, "delta": {"content": "extra"}}]}),
        event(chunk() | {"choices": [{"index": 0, "delta": None}, "odd", None]}),
        event(chunk(finish="")),
    ],
)
def test_what_is_not_known_is_ignored(noise: bytes) -> None:
    """New fields, events and chunks appear without notice."""
    _, completion = read(noise, event(chunk("Hi")), noise, told(" there"), noise)

    assert (completion.content, completion.finish_reason) == ("Hi there", "stop")


def test_what_follows_done_is_ignored() -> None:
    """The answer is over."""
    _, completion = read(told("Hi"), event(chunk("late")), event({"error": {"code": 500}}))

    assert completion.content == "Hi"


def test_reasoning_is_shown_once_and_kept_apart() -> None:
    """The same text comes in two fields; the details are merged by type and index for sending them back."""

    def thought(text: str, **detail: Any) -> bytes:
        details = [{"type": "reasoning.text", "text": text, "index": 0, "format": "x", **detail}]
        return event(chunk(delta={"reasoning": text, "reasoning_details": details}))

    seal = {"type": "reasoning.text", "signature": "sealed", "index": 0}
    hidden = [{"type": "reasoning.encrypted", "data": "a"}, {"type": "reasoning.encrypted", "data": "b"}]
    last = event(chunk(delta={"reasoning_details": [seal, *hidden]}))
    deltas, completion = read(thought("I thi"), thought("nk."), last, told("Hi"))

    assert [delta for delta in deltas if isinstance(delta, ReasoningDelta)] == [
        ReasoningDelta("I thi"), ReasoningDelta("nk.")
    ]  # fmt: skip
    assert (completion.reasoning, completion.content) == ("I think.", "Hi")
    assert completion.reasoning_details == (
        {"type": "reasoning.text", "text": "I think.", "index": 0, "format": "x", "signature": "sealed"},
        *hidden,
    )


@pytest.mark.parametrize(
    "delta",
    [
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm"}]},
        {"reasoning_content": "Hm"},
        {"reasoning": "Hm", "reasoning_content": "Hm"},
    ],
)
def test_reasoning_is_found_in_every_field(delta: dict[str, Any]) -> None:
    """Only the details, or the name that other servers give it."""
    deltas, completion = read(event(chunk(delta=delta)), told("Hi"))

    assert ReasoningDelta("Hm") in deltas
    assert completion.reasoning == "Hm"


def tools(*fragments: dict[str, Any], **more: Any) -> bytes:
    return event(chunk(delta={"content": None, "tool_calls": list(fragments)}, **more))


def test_tool_calls_are_joined_by_index() -> None:
    """Id and name come once; a repeated finish chunk does not repeat the call."""
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}
    other = {"index": 1, "id": "c2", "type": "function", "function": {"name": "go", "arguments": "{}"}}
    deltas, completion = read(
        tools(first),
        tools({"index": 0, "function": {"arguments": '{"at":'}}, other),
        tools({"index": 0, "function": {"arguments": '"sea"}'}}),
        event(chunk(finish="tool_calls")),
        tools(first | {"function": {"name": "look", "arguments": '{"at":"sea"}'}}, finish="tool_calls", usage=USAGE),
        DONE,
    )

    assert [delta for delta in deltas if isinstance(delta, ToolDelta)] == [
        ToolDelta(0, "c1", "look", ""),
        ToolDelta(0, None, None, '{"at":'),
        ToolDelta(1, "c2", "go", "{}"),
        ToolDelta(0, None, None, '"sea"}'),
    ]
    assert [call["function"] for call in completion.tool_calls] == [
        {"name": "look", "arguments": '{"at":"sea"}'},
        {"name": "go", "arguments": "{}"},
    ]
    assert (completion.finish_reason, completion.content) == ("tool_calls", "")


@pytest.mark.parametrize(
    "fragments",
    [
        [{"index": 0, "id": "a"}, {"index": 0, "id": "b"}],
        [{"id": "a"}, {"id": "b"}],
        [{"index": None, "id": "a"}, {"index": None, "id": "b"}],
    ],
    ids=["one index", "no index", "null index"],
)
def test_calls_with_other_ids_are_other_calls(fragments: list[dict[str, Any]]) -> None:
    """Some servers give every call the same index, or none."""
    sent = [tools({**fragment, "function": {"name": "f", "arguments": "{}"}}) for fragment in fragments]
    _, completion = read(*sent, event(chunk(finish="tool_calls")), DONE)

    assert [call["id"] for call in completion.tool_calls] == ["a", "b"]


def test_cut_tool_arguments_are_a_failure() -> None:
    """The native reason tells that the limit fell into the arguments."""
    call = {"index": 0, "id": "c1", "function": {"name": "look", "arguments": '{"at":"se'}}
    for native in ("length", "tool_calls"):
        with pytest.raises(errors.ToolCallCut):
            read(tools(call), event(chunk(finish="tool_calls", choice={"native_finish_reason": native})), DONE)


@pytest.mark.parametrize(
    ("pieces", "kind"),
    [
        ([event(chunk(finish="stop")), DONE], errors.EmptyAnswer),
        ([event(chunk(" \n")), event(chunk(finish="stop")), DONE], errors.EmptyAnswer),
        ([DONE], errors.EmptyAnswer),
        ([event(chunk(delta={"reasoning": "Hm"})), event(chunk(finish="length")), DONE], errors.ReasoningAteBudget),
        ([event(chunk(finish="length", usage=USAGE)), DONE], errors.ReasoningAteBudget),
    ],
)
def test_a_stream_with_nothing_in_it_is_empty(pieces: list[bytes], kind: type[CallFailed]) -> None:
    """White space is nothing, and reasoning is no answer."""
    with pytest.raises(CallFailed) as caught:
        read(*pieces)

    assert type(caught.value) is kind


def test_leading_white_space_waits_for_a_word() -> None:
    """So the first text shown is text, and a stream that fails before it can still be asked again unseen."""
    reader = StreamReader(Envelope())

    assert list(reader.feed(event(chunk("\n\n")))) == [Started("gen-1", "maker/model-20260101", "OpenAI")]
    assert not reader.seen.visible
    assert list(reader.feed(event(chunk(" Hi")))) == [TextDelta("\n\n Hi")]
    assert list(reader.feed(event(chunk(" \n")))) == [TextDelta(" \n")]


def test_a_character_cut_between_two_chunks_is_joined() -> None:
    """A pair of JSON escapes may be torn apart; the half alone cannot be sent on."""
    halves = [
        b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % half for half in (b"a\\ud83d", b"\\ude00b")
    ]
    deltas, completion = read(*halves, told())

    assert text_of(deltas) == completion.content == "a😀b"


def test_a_refusal_in_a_stream_is_an_answer() -> None:
    """It shows no text, and is no failure."""
    _, completion = read(event(chunk(delta={"refusal": "I can"})), event(chunk(delta={"refusal": "not."})), told())

    assert (completion.refusal, completion.finish_reason, completion.content) == ("I cannot.", "content_filter", "")


@pytest.mark.parametrize("padding", [b"", b"\n         \n" * 3, b"\xef\xbb\xbf", b" " * 5000])
def test_a_whole_answer_to_a_stream_request_is_shown_as_one(padding: bytes) -> None:
    """Some servers ignore the wish for a stream."""
    deltas, completion = read(padding + json.dumps(answered("Hello", reasoning="Hm")).encode())

    assert deltas == [
        Started("gen-1", "maker/model-20260101", "OpenAI"), ReasoningDelta("Hm"), TextDelta("Hello")
    ]  # fmt: skip
    assert completion.usage == FULL_USAGE


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (json.dumps({"error": {"code": 429, "message": "x"}}).encode(), errors.Throttled),
        (b"<html>", errors.UnreadableAnswer),
        (json.dumps(answered()).encode()[:-9], errors.UnreadableAnswer),
        (json.dumps(answered("")).encode(), errors.EmptyAnswer),
    ],
    ids=["error", "html", "cut", "empty"],
)
def test_a_whole_body_that_is_no_answer_is_a_failure(body: bytes, kind: type[CallFailed]) -> None:
    """A JSON error, or a page of HTML, instead of a stream."""
    with pytest.raises(CallFailed) as caught:
        read(body)

    assert type(caught.value) is kind


def test_one_delta_may_be_called_message() -> None:
    """A server that sends its whole message in one event is understood."""
    value = answered("Hello")

    assert text_of(read(event(value), DONE)[0]) == "Hello"
    assert text_of(read(event(dict.fromkeys(value) | {"provider": value}), DONE)[0]) == "Hello"


@pytest.mark.parametrize(
    ("body", "streamed"),
    [(b"\n data: {}", True), (b": PROCESSING", True), (b"event: x", True), (b'{"a":1}', False), (b"", False)],
)
def test_a_stream_nobody_asked_for_is_recognised(body: bytes, streamed: bool) -> None:
    """A few servers stream always."""
    assert looks_streamed(body) is streamed
