"""Starts the simulated OpenRouter, and with --worker-port the simulated chat worker, until interrupted."""

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Sequence

from local.simulator import create_app, create_worker, running
from local.simulator.app import BASE
from local.simulator.state import Simulator


async def serve(options: argparse.Namespace) -> None:
    """Run both servers until SIGINT or SIGTERM, then close them cleanly."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    pace = {"latency_ms": options.latency_ms, "tokens_per_second": options.tokens_per_second}
    openrouter, worker = create_app(seed=options.seed), create_worker(seed=options.seed)
    for app in (openrouter, worker):
        simulator: Simulator = app.state.simulator
        simulator.defaults = simulator.defaults.changed(pace)
    async with contextlib.AsyncExitStack() as servers:
        url = await servers.enter_async_context(running(openrouter, options.host, options.port))
        print(f"OpenRouter (simulated)   {url}{BASE}", flush=True)
        if options.worker_port is not None:
            url = await servers.enter_async_context(running(worker, options.host, options.worker_port))
            print(f"Chat worker (simulated)  {url}", flush=True)
        await stopped.wait()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m local.simulator", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port of OpenRouter; 0 takes a free one")
    parser.add_argument("--worker-port", type=int, default=None, help="also serve the chat worker here")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other answers")
    parser.add_argument("--latency-ms", type=float, default=300, help="time before the first token")
    parser.add_argument("--tokens-per-second", type=float, default=80, help="0 means all at once")
    asyncio.run(serve(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
