"""Measures what the design promised, with a baseline of the same run beside every figure.

Nothing is asserted: the table says met or MISSED, and whoever reads it knows how busy the machine was.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import uvloop

from local.postgres import CannotStart
from tests.bench import figures, house, imports, latency, ledger, machine, quality, soak, streams, throughput
from tests.bench.figures import Section
from tests.bench.house import House
from tests.bench.load import Failed

# Seconds of the whole run and of the quick one.
IN_A_HOUSE: dict[str, tuple[Callable[[House, float], Awaitable[Section]], float, float]] = {
    "latency": (latency.measure, 24, 2),
    "throughput": (throughput.measure, 36, 3),
    "streams": (streams.measure, 40, 5),
    "ledger": (ledger.measure, 18, 2),
    "soak": (soak.measure, 60, 5),
}
ALONE: dict[str, tuple[Callable[[float], Awaitable[Section]], float, float]] = {
    "imports": (imports.measure, 20, 2),
    "quality": (quality.measure, 2, 0.4),
}
# Asked for by name only: it takes a minute and tells nothing about speed.
NOT_BY_DEFAULT = ("soak",)


async def run(names: Sequence[str], *, quick: bool, show: Callable[[Section], str]) -> None:
    """Print each table as soon as it is there."""
    watch = machine.Watch()
    load = machine.busy()
    async with AsyncExitStack() as stack:
        opened = None
        if any(name in IN_A_HOUSE for name in names):
            opened = await stack.enter_async_context(house.opened())
        version = "not used" if opened is None else opened.postgres_version
        print(machine.described(version, load), end="\n\n", flush=True)
        for name in names:
            if name in ALONE:
                alone, seconds, quick_seconds = ALONE[name]
                section = await alone(quick_seconds if quick else seconds)
            else:
                assert opened is not None
                inside, seconds, quick_seconds = IN_A_HOUSE[name]
                section = await inside(opened, quick_seconds if quick else seconds)
            print(show(section), flush=True)
    print(watch.told(), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    known = [*ALONE, *IN_A_HOUSE]
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of: {', '.join(known)}; all but soak if none")
    parser.add_argument("--quick", action="store_true", help="half a minute in all: enough to see that it works")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(known)}")
    names = options.names or [name for name in known if name not in NOT_BY_DEFAULT]
    show = figures.markdown if options.markdown else figures.plain
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(names, quick=options.quick, show=show))
    except (CannotStart, Failed) as exc:
        print(f"The benchmark cannot go on: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
