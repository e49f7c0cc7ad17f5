"""Every fault the simulated OpenRouter knows, asked whole and streamed: each ends as what it is, and nothing leaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest
from httpx_aiohttp import AiohttpTransport

from local.simulator import server
from local.simulator.app import create_app
from local.simulator.faults import FAULTS
from shared.openrouter import (
    Attempt,
    CallFailed,
    ChatRequest,
    Completion,
    Endpoint,
    Finished,
    OpenRouter,
    RetryPolicy,
    StreamTimers,
    TextDelta,
)

# A fault that hangs is waited for, so patience is short; enough for a busy machine to answer.
PATIENCE_S = 0.25


async def at_once(_: float) -> None:
    """Waits of a retry are not slept here."""


@pytest.fixture
async def simulated() -> AsyncIterator[Endpoint]:
    async with server.running(create_app()) as url:
        yield Endpoint(f"{url}/api/v1", "sk-or-v1-simulated")


@pytest.fixture
async def patient_client() -> AsyncIterator[OpenRouter]:
    async with httpx.AsyncClient(
        transport=AiohttpTransport(verify=False, limits=httpx.Limits(max_connections=2))
    ) as http:
        yield OpenRouter(
            http,
            sleep=at_once,
            policy=RetryPolicy(retries=1, attempt_s=PATIENCE_S),
            timers=StreamTimers(PATIENCE_S, PATIENCE_S, PATIENCE_S),
        )


def asked(model: str) -> ChatRequest:
    return ChatRequest(model, [{"role": "user", "content": "Who goes there?"}])


@pytest.mark.parametrize("name", sorted(FAULTS))
async def test_a_fault_ends_as_an_answer_or_a_failure_of_ours(
    simulated: Endpoint, patient_client: OpenRouter, name: str
) -> None:
    """Whole or streamed, the result is honest, every call is written down, and the client still works afterwards."""
    fault = FAULTS[name]
    for streamed in (False, True):
        attempts: list[Attempt] = []
        outcome = await _outcome(patient_client, simulated, f"sim/{name}", streamed, attempts)

        assert 1 <= len(attempts) <= 2
        assert [attempt.action for attempt in attempts[:-1]] == ["retried"] * (len(attempts) - 1)
        if isinstance(outcome, CallFailed):
            assert outcome.disposition in ("next_model", "next_provider", "end")
            assert (attempts[-1].action, attempts[-1].code) == ("gave up", outcome.code)
        else:
            assert fault.status == 200
            assert attempts[-1].action == "answered"
            assert (attempts[-1].code is None) == (outcome.outcome == "complete")
            assert outcome.content.strip() or outcome.tool_calls or outcome.finish_reason == "content_filter"
        # Only what nothing tells us the price of is marked so.
        assert not any(attempt.billed_unknown and attempt.usage for attempt in attempts)

    afterwards = await _outcome(patient_client, simulated, f"sim/{name}/0", False, [])
    assert isinstance(afterwards, Completion)


@pytest.mark.parametrize("name", [name for name, fault in sorted(FAULTS.items()) if fault.status == 503])
async def test_a_fault_that_passes_is_not_noticed(simulated: Endpoint, patient_client: OpenRouter, name: str) -> None:
    """Once broken, then well: the caller gets the answer, whole or streamed."""
    for streamed in (False, True):
        attempts: list[Attempt] = []
        outcome = await _outcome(patient_client, simulated, f"sim/{name}/1", streamed, attempts)

        assert isinstance(outcome, Completion)
        assert outcome.outcome == "complete"


async def _outcome(
    client: OpenRouter, endpoint: Endpoint, model: str, streamed: bool, attempts: list[Attempt]
) -> Completion | CallFailed:
    deadline = time.monotonic() + 10
    try:
        async with asyncio.timeout(15):
            if not streamed:
                return await client.complete(endpoint, asked(model), deadline=deadline, attempts=attempts)
            shown = ""
            finished: Finished | None = None
            async with aclosing(client.stream(endpoint, asked(model), deadline=deadline, attempts=attempts)) as events:
                async for event in events:
                    assert finished is None
                    if isinstance(event, TextDelta):
                        shown += event.text
                    if isinstance(event, Finished):
                        finished = event
            assert finished is not None
            assert shown == finished.completion.content or not finished.completion.content.strip()
            return finished.completion
    except CallFailed as failure:
        return failure
