"""One client for a whole process: many streams at once, many requests in a row, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette

from local.simulator import create_app
from local.simulator.app import BASE
from local.simulator.server import running
from local.simulator.state import Simulator, Waiting
from shared.openrouter import Attempt, CallFailed, ChatRequest, Completion, Endpoint, Finished, TextDelta
from shared.services import Services
from shared.settings import Settings
from tests.openrouter import upstream as far_end

STREAMS = 200
CANCELLED = 50
IN_A_ROW = 500
MODEL = "openai/gpt-4o-mini"
QUESTION = ChatRequest(model=MODEL, messages=[{"role": "user", "content": "Hello"}])
KEY = "sk-or-v1-secretsecret"
# Nothing here waits for time to pass; this only ends a test that would hang.
PATIENCE_S = 30


@pytest.fixture
def app() -> Starlette:
    return create_app(seed=1)


@pytest.fixture
def simulator(app: Starlette) -> Simulator:
    """What the far end saw. Its answers are short: this is about connections."""
    simulator: Simulator = app.state.simulator
    simulator.queue.append(Waiting("*", None, text="Hello there, nice to meet you."))
    return simulator


@pytest.fixture
async def services() -> AsyncIterator[Services]:
    """As every server process has it, with the one client of `Services.http`."""
    services = Services(Settings.from_environment({}))
    yield services
    await services.close()


@pytest.fixture
async def endpoint(app: Starlette, simulator: Simulator) -> AsyncIterator[Endpoint]:
    async with running(app) as url:
        yield Endpoint(f"{url}{BASE}", KEY)


def open_files() -> int:
    """Sockets included. Both ends of a connection are in this process."""
    gc.collect()
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - a Path would list it while it holds one more


async def whole(services: Services, endpoint: Endpoint) -> str:
    deadline = time.monotonic() + PATIENCE_S
    return (await services.openrouter.complete(endpoint, QUESTION, deadline=deadline, attempts=[])).content


async def streamed(services: Services, endpoint: Endpoint, together: asyncio.Barrier) -> Completion:
    """One stream, which waits after its first word until as many others have theirs."""
    deadline = time.monotonic() + PATIENCE_S
    finished = None
    waited = False
    async for event in services.openrouter.stream(endpoint, QUESTION, deadline=deadline, attempts=[]):
        if isinstance(event, TextDelta) and not waited:
            waited = True
            await together.wait()
        if isinstance(event, Finished):
            finished = event.completion
    assert finished is not None
    return finished


async def round_of_streams(services: Services, endpoint: Endpoint) -> list[Completion]:
    together = asyncio.Barrier(STREAMS)
    async with asyncio.timeout(PATIENCE_S):
        return await asyncio.gather(*(streamed(services, endpoint, together) for _ in range(STREAMS)))


async def test_hundreds_of_streams_at_once_all_end_whole(
    services: Services, endpoint: Endpoint, simulator: Simulator
) -> None:
    """Two hundred that are open at the same moment; the far end saw each of them to its end."""
    completions = await round_of_streams(services, endpoint)

    assert {(each.outcome, each.finish_reason) for each in completions} == {("complete", "stop")}
    assert {each.content for each in completions} == {"Hello there, nice to meet you."}
    assert len({each.id for each in completions}) == STREAMS
    await simulator.until_quiet()
    assert not any(request.disconnected for request in simulator.ledger.requests)


async def test_the_next_streams_use_the_same_connections(services: Services, endpoint: Endpoint) -> None:
    """What was kept alive is enough for as many again, and no task outlives its stream."""
    tasks = len(asyncio.all_tasks())
    await round_of_streams(services, endpoint)
    files = open_files()

    await round_of_streams(services, endpoint)

    assert open_files() == files
    # The far end has a task per connection only while it answers.
    assert len(asyncio.all_tasks()) == tasks


async def test_closing_leaves_nothing_open(app: Starlette, simulator: Simulator) -> None:
    """Services and far end closed: as many open files and tasks as before."""
    files, tasks = open_files(), len(asyncio.all_tasks())

    services = Services(Settings.from_environment({}))
    async with running(app) as url:
        await round_of_streams(services, Endpoint(f"{url}{BASE}", KEY))
        await services.close()

    assert open_files() == files
    assert len(asyncio.all_tasks()) == tasks


async def test_requests_in_a_row_leave_nothing_behind(
    services: Services, endpoint: Endpoint, simulator: Simulator
) -> None:
    """Hundreds over one connection: no task, no socket, no file more than after the first ones."""
    for _ in range(10):
        await whole(services, endpoint)
    files, tasks = open_files(), len(asyncio.all_tasks())

    for _ in range(IN_A_ROW):
        await whole(services, endpoint)

    assert (open_files(), len(asyncio.all_tasks())) == (files, tasks)
    assert len(simulator.ledger.entries) == IN_A_ROW + 10


async def test_cancelled_streams_hang_up_at_once(services: Services, endpoint: Endpoint, simulator: Simulator) -> None:
    """Fifty readers leave in the middle: the far end sees fifty go, and the others' connections still serve."""
    await round_of_streams(services, endpoint)
    simulator.ledger.clear()
    simulator.queue.insert(0, Waiting("*", CANCELLED, fault="stream_stall"))
    files = open_files()
    heard: set[int] = set()
    all_heard = asyncio.Event()
    attempts: list[list[Attempt]] = [[] for _ in range(CANCELLED)]

    async def read(place: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        async for event in services.openrouter.stream(endpoint, QUESTION, deadline=deadline, attempts=attempts[place]):
            if isinstance(event, TextDelta):
                heard.add(place)
            if len(heard) == CANCELLED:
                all_heard.set()

    readers = [asyncio.create_task(read(place)) for place in range(CANCELLED)]
    async with asyncio.timeout(PATIENCE_S):
        await all_heard.wait()
        for reader in readers:
            reader.cancel()
        ended = await asyncio.gather(*readers, return_exceptions=True)
        await simulator.until_quiet()

    assert all(isinstance(end, asyncio.CancelledError) for end in ended)
    assert [attempt.code for tried in attempts for attempt in tried] == ["CANCELLED"] * CANCELLED
    assert [request.disconnected for request in simulator.ledger.requests] == [True] * CANCELLED
    # Both ends of each were closed.
    assert open_files() == files - 2 * CANCELLED
    assert {each.outcome for each in await round_of_streams(services, endpoint)} == {"complete"}


async def test_no_cookie_of_an_answer_goes_out_with_the_next_request(
    services: Services, upstream: far_end.Upstream
) -> None:
    """One client speaks for every caller, so the far end may not mark it."""
    upstream.will(far_end.whole(far_end.answered(), set_cookie="mark=1; Path=/"), far_end.whole(far_end.answered()))

    for _ in range(2):
        await whole(services, Endpoint(upstream.url, KEY))

    assert ["cookie" in asked.headers for asked in upstream.asked] == [False, False]


async def test_a_certificate_that_nobody_vouches_for_is_refused(services: Services, tmp_path: Path) -> None:
    """The key would be told to a stranger."""
    told: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=_own_certificate(tmp_path))
    async with server:
        endpoint = Endpoint(f"https://localhost:{server.sockets[0].getsockname()[1]}", KEY)
        with pytest.raises(CallFailed) as caught:
            await services.openrouter.key(endpoint)

    assert "CERTIFICATE_VERIFY_FAILED" in str(caught.value.cause_text)
    assert told == []


def _own_certificate(folder: Path) -> ssl.SSLContext:
    """A server's side of TLS with a certificate for localhost that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "own.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
