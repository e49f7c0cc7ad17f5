"""Streams that end badly, come in odd shapes, or stop talking; without streaming most of them just answer."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from local.simulator import answers, wire
from local.simulator.catalog import Json
from local.simulator.faults.fault import Ending, Fault, Options, Scripted, Value
from local.simulator.faults.sockets import SETTLE_MS, begun
from local.simulator.wire import (
    DONE,
    PROCESSING,
    UNTIL_HANG_UP,
    Charge,
    Cut,
    Data,
    Head,
    Reply,
    Script,
    Step,
    ToolCall,
    Wait,
)

MANY_TONGUES = "Ein 🐉 Drache, 龍が空を飛ぶ — naïve café 👩‍🚀 ¡olé! 한국어 끝."

Told = Callable[[Reply, Options], tuple[Step, ...]]


def all_streams() -> Iterable[Fault]:
    yield from _errors()
    yield from _early_ends()
    yield from _silences()
    yield from _usage_shapes()
    yield from _framings()
    yield from _deltas()
    yield from _wrong_modes()


def answered(reply: Reply, options: Options) -> Script:
    return Script(wire.plain(reply), reply)


def _fault(
    name: str,
    section: str,
    description: str,
    told: Told,
    *,
    charge: Charge = "all",
    ends: Ending = "complete",
    options: Mapping[str, Value] | None = None,
    plain: Scripted = answered,
    plain_ends: Ending = "complete",
) -> Fault:
    def stream(reply: Reply, chosen: Options) -> Script:
        return Script(told(reply, chosen), reply, charge)

    return Fault(
        name,
        f"Stream: {description}",
        section,
        plain,
        stream,
        plain_ends=plain_ends,
        stream_ends=ends,
        options=options if options else {},
    )


def _words(reply: Reply) -> tuple[Step, ...]:
    """A whole stream up to its last word."""
    return (*wire.opening(reply), *wire.talking(reply, wire.deltas(reply)))


def _usage(reply: Reply) -> Data:
    return Data(wire.event(wire.usage_chunk(reply)))


def _some(reply: Reply, options: Options) -> tuple[Step, ...]:
    return begun(reply, int(options.number("after_tokens")))


def _errors() -> Iterable[Fault]:
    some: dict[str, Value] = {"after_tokens": 6}

    def error(code: int | str, message: str, error_type: str | None = None) -> Json:
        found: Json = {"code": code, "message": message}
        return found | ({"metadata": {"error_type": error_type}} if error_type else {})

    disconnected = error(502, "Provider disconnected unexpectedly", "provider_unavailable")

    def first(reply: Reply, options: Options) -> tuple[Step, ...]:
        only = {"error": error(int(options.number("code")), "Provider returned error"), "user_id": wire.USER_ID}
        return (*wire.opening(reply), Data(wire.event(only)))

    def doc(reply: Reply, options: Options) -> tuple[Step, ...]:
        last = wire.chunk(reply, wire.empty_delta(), "error", "error") | {"error": disconnected}
        return (*_some(reply, options), Data(wire.event(last)))

    def recorded(reply: Reply, options: Options) -> tuple[Step, ...]:
        told = _some(reply, options)
        sent = sum(step.tokens for step in told if isinstance(step, Data))
        usage = replace(reply.usage, completion_tokens=sent).json()
        last = wire.chunk(reply, wire.empty_delta()) | {
            "error": error(400, "Provider returned error"),
            "usage": usage,
        }
        return (*told, Data(wire.event(last)), Data(DONE))

    def no_choices(reply: Reply, options: Options) -> tuple[Step, ...]:
        return (*_some(reply, options), Data(wire.event(wire.envelope(reply, []) | {"error": disconnected})))

    def text_code(reply: Reply, options: Options) -> tuple[Step, ...]:
        last = wire.chunk(reply, wire.empty_delta(), "error", "error")
        last["error"] = error("server_error", "Provider disconnected")
        return (*_some(reply, options), Data(wire.event(last)), Data(DONE))

    def rate_limited(reply: Reply, options: Options) -> tuple[Step, ...]:
        last = wire.chunk(reply, wire.empty_delta(), "error", "error")
        last["error"] = error(429, "Provider returned error", "rate_limit_exceeded")
        return (*_some(reply, options), Data(wire.event(last)), Data(DONE))

    def idle(reply: Reply, options: Options) -> tuple[Step, ...]:
        last = wire.chunk(reply, wire.empty_delta(), "error", "error")
        last["error"] = error(502, "Upstream idle timeout exceeded")
        return (*_some(reply, options), Wait(options.number("idle_ms")), Data(wire.event(last)), Data(DONE))

    def null_error(reply: Reply, options: Options) -> tuple[Step, ...]:
        last = wire.usage_chunk(reply) | {"error": None}
        return (*_words(reply), wire.finish(reply), Data(wire.event(last)), Data(DONE))

    def partial(reply: Reply, options: Options) -> Script:
        words = "".join(answers.tokens(reply.content or "")[: int(options.number("after_tokens"))])
        cut = reply.with_content(words).ending("error", "error").insured()
        body = wire.body(cut)
        body["choices"][0]["error"] = disconnected
        return Script(wire.whole(cut, wire.encoded(body)), cut, "nothing")

    yield _fault(
        "stream_error_first",
        "2.5",
        "an error is the first and only event",
        first,
        charge="nothing",
        options={"code": 502},
    )
    yield _fault(
        "stream_error_doc",
        "2.5",
        "error chunk as the docs show it, then the end, no [DONE]",
        doc,
        charge="nothing",
        options=some,
        plain=partial,
    )
    yield _fault(
        "stream_error_recorded",
        "2.5",
        "error chunk with finish null and usage, [DONE] follows",
        recorded,
        charge="sent",
        options=some,
        plain=partial,
    )
    yield _fault(
        "stream_error_no_choices",
        "2.5",
        "error chunk with choices []",
        no_choices,
        charge="nothing",
        options=some,
        plain=partial,
    )
    yield _fault(
        "stream_error_text_code",
        "2.5",
        "error chunk whose code is a word",
        text_code,
        charge="nothing",
        options=some,
        plain=partial,
    )
    yield _fault(
        "stream_error_rate_limit",
        "2.5",
        "error chunk 429 after some words",
        rate_limited,
        charge="nothing",
        options=some,
        plain=partial,
    )
    yield _fault(
        "stream_error_idle",
        "2.5",
        "Upstream idle timeout exceeded after a silence",
        idle,
        charge="sent",
        options={**some, "idle_ms": 20},
        plain=partial,
    )
    yield _fault("stream_error_null", "2.5", "a key `error` that is null, which is no error", null_error)


def _early_ends() -> Iterable[Fault]:
    some: dict[str, Value] = {"after_tokens": 6}

    def reset(reply: Reply, options: Options) -> tuple[Step, ...]:
        return (*_some(reply, options), Wait(SETTLE_MS), Cut(reset=True))

    def drop(reply: Reply, options: Options) -> tuple[Step, ...]:
        return (*_some(reply, options), Wait(SETTLE_MS), Cut(reset=False))

    def after_usage(reply: Reply, options: Options) -> tuple[Step, ...]:
        return (*_words(reply), wire.finish(reply), _usage(reply))

    def reset_after_usage(reply: Reply, options: Options) -> tuple[Step, ...]:
        return (*after_usage(reply, options), Wait(SETTLE_MS), Cut(reset=True))

    yield _fault(
        "stream_close_before_content",
        "2.5",
        "ends without [DONE] before any word",
        lambda reply, _: wire.opening(reply),
        charge="nothing",
    )
    yield _fault(
        "stream_close_comments_only",
        "2.5",
        "one comment, then the end",
        lambda reply, _: (*wire.opening(reply), Data(PROCESSING)),
        charge="nothing",
    )
    yield _fault(
        "stream_done_only",
        "2.5",
        "[DONE] and nothing else",
        lambda reply, _: (*wire.opening(reply), Data(DONE)),
        charge="nothing",
    )
    yield _fault(
        "stream_close_after_content",
        "2.5",
        "ends after some words with neither finish nor [DONE]",
        _some,
        charge="sent",
        options=some,
    )
    yield _fault(
        "stream_close_after_finish",
        "2.5",
        "ends after the finish, without usage and [DONE]",
        lambda reply, _: (*_words(reply), wire.finish(reply)),
    )
    yield _fault("stream_no_done", "2.5", "everything but [DONE]", after_usage)
    yield _fault(
        "stream_done_without_finish",
        "2.5",
        "[DONE] right after the words",
        lambda reply, _: (*_words(reply), Data(DONE)),
    )
    yield _fault(
        "stream_drop", "2.5", "the connection closes inside the body", drop, charge="sent", ends="close", options=some
    )
    yield _fault(
        "stream_reset",
        "2.5",
        "the connection is reset inside the body",
        reset,
        charge="sent",
        ends="close",
        options=some,
    )
    yield _fault(
        "stream_reset_after_usage",
        "2.5",
        "the connection is reset when all but [DONE] was said",
        reset_after_usage,
        ends="close",
    )


def _silences() -> Iterable[Fault]:
    hang: dict[str, Value] = {"hang_ms": UNTIL_HANG_UP, "every_ms": 600}
    gap: dict[str, Value] = {**hang, "after_tokens": 6}

    def rest(reply: Reply, told: tuple[Step, ...]) -> tuple[Step, ...]:
        return wire.stream(reply)[len(told) :]

    def comments(reply: Reply, options: Options) -> tuple[Step, ...]:
        opening = wire.opening(reply)
        waiting = Wait(options.number("hang_ms"), PROCESSING, options.number("every_ms"))
        return (*opening, Data(PROCESSING), waiting, *rest(reply, opening))

    def stall(fill: bytes) -> Told:
        def told(reply: Reply, options: Options) -> tuple[Step, ...]:
            said = _some(reply, options)
            waiting = Wait(options.number("hang_ms"), fill, options.number("every_ms"))
            return (*said, waiting, *rest(reply, said))

        return told

    def hollow(reply: Reply, options: Options) -> tuple[Step, ...]:
        said = _some(reply, options)
        empty = wire.event(wire.chunk(reply, wire.empty_delta()))
        waiting = Wait(options.number("hang_ms"), empty, options.number("every_ms"))
        return (*said, waiting, *rest(reply, said))

    def before_done(reply: Reply, options: Options) -> tuple[Step, ...]:
        *all_but_done, done = wire.stream(reply)
        return (*all_but_done, Wait(options.number("hang_ms"), PROCESSING, options.number("every_ms")), done)

    yield _fault("stream_comments_forever", "2.2", "comments and never a token", comments, ends="hang", options=hang)
    yield _fault("stream_stall", "2.5", "silence after some words", stall(b""), ends="hang", options=gap)
    yield _fault(
        "stream_stall_comments",
        "2.5",
        "comments but no token after some words",
        stall(PROCESSING),
        ends="hang",
        options=gap,
    )
    yield _fault(
        "stream_stall_empty_deltas", "2.5", "empty deltas for ever after some words", hollow, ends="hang", options=gap
    )
    yield _fault(
        "stream_stall_before_done", "2.3", "all is said, but [DONE] never comes", before_done, ends="hang", options=hang
    )


def _usage_shapes() -> Iterable[Fault]:
    def finish_null(reply: Reply, options: Options) -> tuple[Step, ...]:
        last = wire.chunk(reply, wire.empty_delta()) | {"usage": reply.usage.json()}
        return (*_words(reply), wire.finish(reply), Data(wire.event(last)), Data(DONE))

    def no_choices(reply: Reply, options: Options) -> tuple[Step, ...]:
        last = wire.envelope(reply, []) | {"usage": reply.usage.json()}
        return (*_words(reply), wire.finish(reply), Data(wire.event(last)), Data(DONE))

    def early(reply: Reply, options: Options) -> tuple[Step, ...]:
        usage = wire.chunk(reply, wire.empty_delta()) | {"usage": reply.usage.json()}
        return (*_words(reply), Data(wire.event(usage)), wire.finish(reply), Data(DONE))

    def with_finish(reply: Reply, options: Options) -> tuple[Step, ...]:
        return (*_words(reply), _usage(reply), Data(DONE))

    def missing(reply: Reply, options: Options) -> tuple[Step, ...]:
        return (*_words(reply), wire.finish(reply), Data(DONE))

    def null_before(reply: Reply, options: Options) -> tuple[Step, ...]:
        null = wire.chunk(reply, wire.empty_delta()) | {"usage": None}
        return (*_words(reply), Data(wire.event(null)), wire.finish(reply), _usage(reply), Data(DONE))

    def twice(reply: Reply, options: Options) -> tuple[Step, ...]:
        return (*_words(reply), wire.finish(reply), wire.finish(reply), _usage(reply), Data(DONE))

    yield _fault(
        "stream_usage_repeats_finish",
        "2.3",
        "usage beside a repeated finish reason (the usual shape)",
        lambda reply, _: wire.stream(reply),
    )
    yield _fault("stream_usage_finish_null", "2.3", "usage beside a null finish reason", finish_null)
    yield _fault("stream_usage_no_choices", "2.3", "usage beside choices []", no_choices)
    yield _fault("stream_usage_early", "2.3", "usage before the finish", early)
    yield _fault("stream_usage_with_finish", "2.3", "usage and finish in one event", with_finish)
    yield _fault("stream_usage_missing", "2.3", "no usage at all", missing)
    yield _fault("stream_usage_null_first", "2.3", "usage null, later the real one", null_before)
    yield _fault("stream_finish_twice", "2.3", "the finish comes twice, then usage repeats it", twice)


def _rewritten(change: Callable[[bytes], bytes]) -> Told:
    def told(reply: Reply, options: Options) -> tuple[Step, ...]:
        return tuple(
            Data(change(step.payload), step.tokens) if isinstance(step, Data) else step for step in wire.stream(reply)
        )

    return told


def _framings() -> Iterable[Fault]:
    def foreign(reply: Reply, options: Options) -> Script:
        other = reply.with_content(MANY_TONGUES)
        return Script(wire.plain(other), other)

    def split(reply: Reply, options: Options) -> Script:
        other = reply.with_content(MANY_TONGUES)
        steps: list[Step] = []
        for step in wire.stream(other):
            if isinstance(step, Data) and not step.payload.isascii():
                steps += [Data(bytes([byte])) for byte in step.payload[:-1]]
                steps.append(Data(step.payload[-1:], step.tokens))
            else:
                steps.append(step)
        return Script(tuple(steps), other)

    def one_packet(reply: Reply, options: Options) -> tuple[Step, ...]:
        steps = wire.stream(reply)
        everything = b"".join(step.payload for step in steps if isinstance(step, Data))
        return (*(step for step in steps if isinstance(step, Head)), Data(everything, reply.usage.completion_tokens))

    def big_line(reply: Reply, options: Options) -> Script:
        words = (reply.content or "") + "x" * int(options.number("bytes"))
        other = reply.with_content(words)
        other = replace(other, pace=replace(other.pace, tokens_per_delta=len(words), tokens_per_second=0))
        return Script(wire.stream(other), other)

    def big_body(reply: Reply, options: Options) -> Script:
        other = reply.with_content((reply.content or "") + "x" * int(options.number("bytes")))
        other = replace(other, pace=replace(other.pace, tokens_per_second=0))
        return Script(wire.plain(other), other)

    def unknown(reply: Reply, options: Options) -> tuple[Step, ...]:
        strange = (
            Data(b"id: 7\nretry: 3000\nwhatever: yes\n\n"),
            Data(b'event: progress\ndata: {"type":"progress","percent":12}\n\n'),
            Data(wire.event({"type": "keepalive"})),
            Data(wire.event(wire.chunk(reply, wire.empty_delta() | {"mood": "good"}) | {"new_field": [1]})),
            Data(b": another comment\n\n:\n\n\n\n"),
        )
        opening = wire.opening(reply)
        return (*opening, *strange, *wire.stream(reply)[len(opening) :])

    def after_done(reply: Reply, options: Options) -> tuple[Step, ...]:
        late = wire.event(wire.chunk(reply, {"role": "assistant", "content": " TOO LATE"}))
        return (*wire.stream(reply), Data(late))

    def malformed(reply: Reply, options: Options) -> tuple[Step, ...]:
        said = _some(reply, options)
        return (
            *said,
            Data(b'data: {"id":"gen-1","choices":[{"index":0,"delta":{"content":"br\n\n'),
            *wire.stream(reply)[len(said) :],
        )

    def bad_utf8(reply: Reply, options: Options) -> tuple[Step, ...]:
        said = _some(reply, options)
        broken = wire.event(wire.chunk(reply, {"role": "assistant", "content": "?"})).replace(b"?", b"\xff\xfe")
        return (*said, Data(broken), *wire.stream(reply)[len(said) :])

    def crlf(payload: bytes) -> bytes:
        return payload.replace(b"\n", b"\r\n")

    yield _fault("stream_crlf", "2.2", "lines end in CRLF", _rewritten(crlf))
    yield _fault("stream_cr", "2.2", "lines end in CR alone", _rewritten(lambda line: line.replace(b"\n", b"\r")))
    yield _fault(
        "stream_no_space",
        "2.2",
        "no space after `data:`",
        _rewritten(lambda line: line.replace(b"data: ", b"data:", 1)),
    )
    yield _fault(
        "stream_event_lines",
        "2.2",
        "every event has an `event:` and an `id:` line",
        _rewritten(lambda line: b"event: message\nid: 1\n" + line),
    )
    yield _fault(
        "stream_multi_line_data",
        "2.2",
        "one JSON document on two data lines",
        _rewritten(lambda line: line.replace(b',"object"', b'\ndata: ,"object"', 1)),
    )
    yield Fault("stream_split_utf8", "Stream: emoji and CJK, flushed byte by byte", "2.2", foreign, split)
    yield _fault("stream_one_packet", "2.2", "all events in one piece", one_packet)
    yield Fault(
        "stream_big_line", "Stream: one line of a megabyte", "2.2", big_body, big_line, options={"bytes": 1_000_000}
    )
    yield _fault("stream_unknown_events", "0", "unknown events, fields and comments", unknown)
    yield _fault("stream_after_done", "2.3", "one more delta after [DONE]", after_done)
    yield _fault(
        "stream_bom",
        "2.2",
        "a byte order mark before the first event",
        lambda reply, _: (wire.stream(reply)[0], Data(b"\xef\xbb\xbf"), *wire.stream(reply)[1:]),
    )
    yield _fault(
        "stream_malformed_chunk",
        "2.2",
        "an event whose JSON is broken, then the rest",
        malformed,
        options={"after_tokens": 6},
    )
    yield _fault(
        "stream_bad_utf8", "2.2", "bytes that are no UTF-8 inside an event", bad_utf8, options={"after_tokens": 6}
    )


def _deltas() -> Iterable[Fault]:
    def both(
        name: str, description: str, section: str, change: Callable[[Reply], Reply], told: Told | None = None
    ) -> Fault:
        def plain(reply: Reply, options: Options) -> Script:
            return Script(wire.plain(change(reply)), change(reply))

        def stream(reply: Reply, options: Options) -> Script:
            other = change(reply)
            return Script(wire.stream(other) if told is None else told(other, options), other)

        return Fault(name, f"Stream: {description}", section, plain, stream)

    def tools(reply: Reply) -> Reply:
        calls = (
            ToolCall("call_sim_0", "look_up", '{"place":"the old lighthouse","depth":2}'),
            ToolCall("call_sim_1", "roll_dice", '{"sides":20}'),
        )
        silent = reply.with_content(None)
        size = sum(len(answers.tokens(call.arguments)) for call in calls)
        usage = replace(silent.usage, completion_tokens=silent.usage.completion_tokens + size)
        return replace(silent, tool_calls=calls, usage=usage).ending("tool_calls", "tool_use")

    def interleaved(reply: Reply, options: Options) -> tuple[Step, ...]:
        pieces = wire.deltas(reply)
        first = [piece for piece in pieces if piece[0]["tool_calls"][0]["index"] == 0]
        second = [piece for piece in pieces if piece[0]["tool_calls"][0]["index"] == 1]
        mixed: list[tuple[Json, int]] = []
        while first or second:
            mixed += first[:1] + second[:1]
            first, second = first[1:], second[1:]
        told = (*wire.opening(reply), *wire.talking(reply, mixed))
        return (*told, wire.finish(reply), _usage(reply), Data(DONE))

    def thinking(reply: Reply) -> Reply:
        if reply.reasoning is not None:
            return reply
        return reply.with_reasoning(answers.thought(0, reply.model.id, [], 12))

    def only_thinking(reply: Reply) -> Reply:
        bare = replace(reply.with_content(""), reasoning=None)
        bare = replace(bare, usage=replace(bare.usage, completion_tokens=0, reasoning_tokens=0))
        return bare.with_reasoning(answers.thought(0, reply.model.id, [], 24)).ending("length", "max_output_tokens")

    def nulls(reply: Reply, options: Options) -> tuple[Step, ...]:
        null = Data(wire.event(wire.chunk(reply, {"role": "assistant", "content": None})))
        opening = wire.opening(reply)
        return (*opening, null, null, *wire.stream(reply)[len(opening) :])

    def empties(reply: Reply, options: Options) -> tuple[Step, ...]:
        empty = (
            Data(wire.event(wire.chunk(reply, {}))),
            Data(wire.event(wire.chunk(reply, wire.empty_delta()))),
        )
        opening = wire.opening(reply)
        return (*opening, *empty, *wire.stream(reply)[len(opening) :])

    def same(reply: Reply) -> Reply:
        return reply

    yield both("stream_tools", "two tool calls, one after the other", "2.2", tools)
    yield both("stream_tools_interleaved", "fragments of two tool calls in turn", "2.2", tools, interleaved)
    yield both("stream_reasoning", "reasoning before the words", "2.2", thinking)
    yield both("stream_reasoning_only", "reasoning, no word, finish length", "1.6", only_thinking)
    yield both("stream_content_null", "deltas whose content is null", "2.2", same, nulls)
    yield both("stream_empty_deltas", "empty deltas before the words", "2.2", same, empties)


def _wrong_modes() -> Iterable[Fault]:
    def json_body(reply: Reply, options: Options) -> tuple[Step, ...]:
        return wire.plain(reply)

    def events_body(reply: Reply, options: Options) -> Script:
        return Script(wire.stream(reply), reply)

    yield _fault("stream_plain_json", "7", "asked to stream, answered with one JSON body", json_body)
    yield _fault(
        "stream_unasked",
        "7",
        "not asked to stream, answered with events",
        lambda r, _: wire.stream(r),
        plain=events_body,
    )
