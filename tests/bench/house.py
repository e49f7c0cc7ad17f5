"""What is measured: a database of its own and three servers, each in a process of its own, on this machine only."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from local import migrations, postgres
from local.simulator.server import listen
from local.tokens import token
from tests.bench.load import post

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
LOGIN = "openrouter_service"
USERS = 50
QUESTION = "Hello! How are you?"
# As long as a short chat reply, and longer than every threshold of "too short".
WORDS = "A small trial tells you more than a long plan, and it costs an afternoon at most. " * 6


@dataclass(frozen=True, slots=True)
class Server:
    """A child process that serves HTTP."""

    name: str
    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class House:
    """Everything that runs, and the requests that are sent to it."""

    doors: Server
    passthrough: Server
    simulator: Server
    database: postgres.Postgres
    database_url: str
    postgres_version: str
    # The very body that the doors send to OpenRouter: the passthrough is given the same.
    upstream_body: Mapping[str, Any]
    user_tokens: tuple[str, ...]

    @property
    def database_pid(self) -> int:
        """The server that all sessions are children of."""
        return int((self.database.data / "cluster" / "postmaster.pid").read_text().split("\n", 1)[0])

    def ask_doors(self, **more: Any) -> list[bytes]:
        """The same question of each of the users, to the door casual-chat."""
        body = {"message": QUESTION, **more}
        return [
            post(self.doors.url, "/casual-chat", body, {"authorization": f"Bearer {user}"}) for user in self.user_tokens
        ]

    def ask_passthrough(self, **more: Any) -> list[bytes]:
        path = "/streamed" if more.get("stream") else "/whole"
        return [post(self.passthrough.url, path, {**self.upstream_body, **more})]

    async def simulate(self, text: str, *, tokens_per_second: float = 0) -> None:
        """From now on every model says this, a token per event, at this pace (0: all at once)."""
        async with httpx.AsyncClient(base_url=self.simulator.url) as http:
            pace = {"tokens_per_second": tokens_per_second, "tokens_per_delta": 1, "total_credits": 1_000_000}
            for path, body in (
                ("/_sim/reset", {}),
                ("/_sim/defaults", pace),
                ("/_sim/answers", {"model": "*", "times": None, "text": text}),
            ):
                (await http.post(path, json=body)).raise_for_status()

    async def recorded(self) -> int:
        """How many completions the ledger holds."""
        connection = await asyncpg.connect(self.database.url)
        try:
            return int(await connection.fetchval("select count(*) from openrouter.completions"))
        finally:
            await connection.close()


@asynccontextmanager
async def opened() -> AsyncIterator[House]:
    """A fresh house; everything of it is gone afterwards."""
    folder = _folder()
    try:
        with postgres.start(folder / "data") as database:
            await migrations.apply(database.url)
            version, url = await _prepare(database)
            jwt_secret = secrets.token_hex(32)
            environment = {
                "DATABASE_URL": url,
                "OPENROUTER_API_KEY": "sk-or-v1-simulated",
                "SUPABASE_JWT_SECRET": jwt_secret,
                "WEBHOOK_SECRET": secrets.token_hex(16),
                "SPOOL_PATH": str(folder / "spool.jsonl"),
            }
            with _server("simulator", {}) as simulator:
                environment["OPENROUTER_BASE_URL"] = f"{simulator.url}/api/v1"
                with _server("doors", environment) as doors, _server("passthrough", environment) as passthrough:
                    users = tuple(token(jwt_secret, sub=str(uuid.UUID(int=place + 1))) for place in range(USERS))
                    body = await _body_of_the_doors(doors, simulator, users[0])
                    yield House(doors, passthrough, simulator, database, url, version, body, users)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="openrouter-bench-")).resolve()
    # Postgres' user passes through it, when root runs this.
    folder.chmod(0o711)
    return folder


@contextmanager
def _server(name: str, environment: Mapping[str, str]) -> Iterator[Server]:
    listener = listen(HOST, 0)
    with listener:
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.serve", name, str(listener.fileno())],
            cwd=ROOT,
            # Nothing of the settings of this machine: what is measured is the same everywhere.
            env={"PATH": os.environ.get("PATH", ""), **environment},
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,
            # The log lines are made and thrown away.
            stdout=subprocess.DEVNULL,
        )
    try:
        yield Server(name, url, process.pid)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _prepare(database: postgres.Postgres) -> tuple[str, str]:
    """The version of the server, and the URL of a login that is no more than the doors' own."""
    password = secrets.token_hex(16)
    connection = await asyncpg.connect(database.url)
    try:
        await connection.execute(f"create role {LOGIN} login password '{password}'")
        await connection.execute(f"grant anon, authenticated, service_role to {LOGIN}")
        version = str(await connection.fetchval("show server_version"))
    finally:
        await connection.close()
    return version, database.url_for(LOGIN, password)


async def _body_of_the_doors(doors: Server, simulator: Server, user: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=30) as http:
        answer = await http.post(
            f"{doors.url}/casual-chat",
            json={"message": QUESTION},
            headers={"authorization": f"Bearer {user}"},
        )
        answer.raise_for_status()
        seen: list[dict[str, Any]] = (await http.get(f"{simulator.url}/_sim/requests")).json()
    body: dict[str, Any] = seen[-1]["body"]
    return body
