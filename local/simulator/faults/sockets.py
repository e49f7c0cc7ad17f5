"""Faults below HTTP: closed, reset and silent connections."""

from collections.abc import Callable, Iterable

from local.simulator import wire
from local.simulator.catalog import Json
from local.simulator.faults.fault import Fault, Options, Scripted
from local.simulator.wire import PADDING, UNTIL_HANG_UP, Cut, Data, Reply, Script, Step, Wait

# Gives the bytes before a reset the time to leave: RST throws away what is still queued.
SETTLE_MS = 5


def all_sockets() -> Iterable[Fault]:
    yield from _before_headers()
    yield from _inside_the_body()
    yield from _hangs()


def _before_headers() -> Iterable[Fault]:
    for name, reset, description in (
        ("close_before_headers", False, "the server closes the connection without an answer"),
        ("reset_before_headers", True, "the connection is reset without an answer"),
    ):

        def script(reply: Reply, options: Options, reset: bool = reset) -> Script:
            return Script((Cut(reset),), charge="nothing")

        yield Fault(
            name,
            description,
            "7",
            script,
            script,
            status=None,
            plain_ends="close",
            stream_ends="close",
        )


def _half(reply: Reply) -> tuple[Step, ...]:
    payload = wire.encoded(wire.body(reply))
    return wire.whole(reply, payload[: len(payload) // 2])


def begun(reply: Reply, tokens: int) -> tuple[Step, ...]:
    """A stream up to the given number of tokens."""
    told: list[tuple[Json, int]] = []
    for piece in wire.deltas(reply):
        if sum(count for _, count in told) >= tokens:
            break
        told.append(piece)
    return (*wire.opening(reply), *wire.talking(reply, told))


def _inside_the_body() -> Iterable[Fault]:
    def plain(reset: bool) -> Scripted:
        return lambda reply, _: Script((*_half(reply), Wait(SETTLE_MS), Cut(reset)), reply)

    def stream(reset: bool) -> Scripted:
        def script(reply: Reply, options: Options) -> Script:
            steps = begun(reply, int(options.number("after_tokens")))
            return Script((*steps, Wait(SETTLE_MS), Cut(reset)), reply, "sent")

        return script

    for name, reset, description in (
        ("close_mid_body", False, "the connection closes in the middle of the body"),
        ("reset_mid_body", True, "the connection is reset in the middle of the body"),
    ):
        yield Fault(
            name,
            description,
            "7",
            plain(reset),
            stream(reset),
            plain_ends="close",
            stream_ends="close",
            options={"after_tokens": 6},
        )

    def short(reply: Reply, options: Options) -> Script:
        payload = wire.encoded(wire.body(reply))
        headers = (*wire.JSON_HEADERS, ("content-length", str(len(payload))))
        return Script((wire.head(reply, headers), Data(payload[: len(payload) // 2]), Cut(False)), reply)

    def cut_event(reply: Reply, options: Options) -> Script:
        event = wire.event(wire.chunk(reply, wire.empty_delta()))
        return Script((*begun(reply, 3), Data(event[:40]), Cut(False)), reply, "sent")

    yield Fault(
        "close_short_body",
        "the body is shorter than Content-Length; a stream breaks off inside an event",
        "7",
        short,
        cut_event,
        plain_ends="close",
        stream_ends="close",
    )


def _hangs() -> Iterable[Fault]:
    """Each hangs for `hang_ms` and then answers as if nothing had been; below zero until the caller leaves."""

    def silence(options: Options) -> Wait:
        return Wait(options.number("hang_ms"))

    def padding(options: Options) -> Wait:
        return Wait(options.number("hang_ms"), PADDING, options.number("every_ms"))

    def before_head(whole: Callable[[Reply], tuple[Step, ...]]) -> Scripted:
        return lambda reply, options: Script((silence(options), *whole(reply)), reply)

    def after_head(whole: Callable[[Reply], tuple[Step, ...]], hang: Callable[[Options], Wait]) -> Scripted:
        def script(reply: Reply, options: Options) -> Script:
            head, *rest = whole(reply)
            return Script((head, hang(options), *rest), reply)

        return script

    rows: tuple[tuple[str, str, str, Scripted, Scripted, int | None], ...] = (
        (
            "slow_headers",
            "no byte at all, as if forgotten",
            "3.9",
            before_head(wire.plain),
            before_head(wire.stream),
            None,
        ),
        (
            "slow_body",
            "headers at once, then silence",
            "3.9",
            after_head(wire.plain, silence),
            after_head(wire.stream, silence),
            200,
        ),
        (
            "slow_padding",
            "headers at once, then white space that keeps every read alive",
            "2.1",
            after_head(wire.plain, padding),
            after_head(wire.stream, padding),
            200,
        ),
    )
    for name, description, section, plain, stream, status in rows:
        yield Fault(
            name,
            description,
            section,
            plain,
            stream,
            status=status,
            plain_ends="hang",
            stream_ends="hang",
            options={"hang_ms": UNTIL_HANG_UP, "every_ms": 600},
        )
