"""`./dev up`: everything starts, answers, and is gone after any signal, at any moment."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import httpx
import jwt
import pytest

from local import tokens
from local.data_folder import DataFolder
from local.processes import _processes_of
from tests.database.server import PROJECT, open_folder

ENDS_WITHIN_S = 60
# What this machine's own settings would change.
OURS = re.compile(r"OPENROUTER_|SUPABASE_|DATABASE_URL|WEBHOOK_|CHAT_WORKER_|SPOOL_|APP_|PYTEST_")

Up = Callable[..., "Process"]


class Process:
    """One `up` with what it says, line by line."""

    def __init__(self, data: Path, *arguments: str, **environ: str) -> None:
        self.data = data
        self.said: list[str] = []
        kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "local", "up", "--data", str(data), *(arguments or ("--port", "0"))],
            cwd="/",
            env={**kept, "PYTHONPATH": str(PROJECT), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def says(self, beginning: str) -> str:
        """Wait for a line that begins like this; returns the rest of it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line.rstrip())
            if line.startswith(beginning):
                return line.removeprefix(beginning).strip()
        raise AssertionError("\n".join(self.said))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for the end; returns the exit status, with everything that was said in `said`."""
        told, _ = self._process.communicate(timeout=ENDS_WITHIN_S)
        self.said += told.splitlines()
        return self._process.returncode

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=ENDS_WITHIN_S)


@pytest.fixture
def data() -> Iterator[Path]:
    folder = open_folder("openrouter-up-")
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def up(data: Path) -> Iterator[Up]:
    with ExitStack() as started:

        def start(*arguments: str, data: Path = data, **environ: str) -> Process:
            process = Process(data, *arguments, **environ)
            started.callback(process.close)
            return process

        yield start


def test_it_serves_and_ends_with_its_data_kept(up: Up, data: Path) -> None:
    """It prints a line that works when pasted; a second start finds the ledger and the same tokens' secret."""
    first = up()
    url = first.says("URL")
    models, user, admin = first.says("Models"), first.says("User token"), first.says("Admin token")
    curl = shlex.split(first.says("curl"))
    first.says("Ctrl-C")
    secret = DataFolder(data).read("jwt_secret")
    assert secret is not None

    answer = httpx.post(
        curl[1],
        headers=dict(word.split(": ", 1) for word in curl if ": " in word and not word.startswith("{")),
        content=curl[-1],
    )
    first.signal(signal.SIGTERM)

    assert answer.status_code == 200
    assert answer.json()["content"]
    assert models.startswith("SIMULATED")
    assert url == f"{httpx.URL(curl[1]).copy_with(path='/')}"
    claims = [jwt.decode(token, secret, algorithms=["HS256"], audience="authenticated") for token in (user, admin)]
    assert [claim["sub"] for claim in claims] == [tokens.USER, tokens.ADMIN]
    assert [claim["app_metadata"] for claim in claims] == [{}, {"role": "admin"}]
    assert first.end() == 0
    assert _processes_of(data / "cluster") == []

    second = up()
    second.says("The database is up to date.")
    second.says("Ctrl-C")
    second.signal(signal.SIGINT)
    assert second.end() == 0
    assert DataFolder(data).read("jwt_secret") == secret


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        pytest.param("Starting PostgreSQL", signal.SIGINT, id="Ctrl-C while Postgres is set up"),
        pytest.param("  migration", signal.SIGTERM, id="SIGTERM during the migrations"),
        pytest.param("Ctrl-C", signal.SIGHUP, id="SIGHUP while serving"),
    ],
)
def test_a_signal_ends_everything_in_order(up: Up, data: Path, moment: str, number: signal.Signals) -> None:
    """No process is left, no traceback shown, and the exit status is 0; a second press changes nothing."""
    process = up()
    process.says(moment)

    process.signal(number)
    process.signal(number)

    assert process.end() == 0
    assert process.said[-1] == "Stopping ..."
    assert "Traceback" not in "\n".join(process.said)
    assert _processes_of(data / "cluster") == []


async def test_the_doors_log_in_without_special_rights(up: Up, data: Path) -> None:
    """Their login is no superuser; it may become the three roles and owns nothing."""
    process = up()
    process.says("Ctrl-C")
    folder = DataFolder(data)
    password, port = folder.read("openrouter_service.password"), folder.read("port")

    connection = await asyncpg.connect(f"postgresql://openrouter_service:{password}@127.0.0.1:{port}/postgres")
    try:
        rights = await connection.fetchrow("select * from pg_roles where rolname = current_user")
        owned = await connection.fetchval("select count(*) from pg_class where relowner = current_user::regrole")
        for role in ("anon", "authenticated", "service_role"):
            await connection.execute(f"set role {role}; reset role")
    finally:
        await connection.close()

    powers = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")
    assert not any(rights[power] for power in powers)
    assert owned == 0


def test_a_taken_port_is_one_sentence(up: Up, data: Path) -> None:
    """Said before anything is started or made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = up("--port", port)

        assert process.end() == 1

    assert process.said == [f"./dev: Port {port} is in use by another program; choose another one with --port."]
    assert not data.exists()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        pytest.param("mysql://x", "./dev: DATABASE_URL is not a postgres:// URL", id="not Postgres"),
        pytest.param("postgresql://u:hush@127.0.0.1:1/x", "./dev: The database cannot be reached", id="unreachable"),
    ],
)
def test_a_wrong_database_url_is_one_sentence(up: Up, url: str, sentence: str) -> None:
    """No traceback, no password, and no other database taken in its place."""
    process = up(DATABASE_URL=url)

    assert process.end() == 1
    assert len(process.said) == 1
    assert process.said[0].startswith(sentence)
    assert "hush" not in process.said[0]


def test_an_address_of_ones_own_is_honoured_without_a_key(up: Up) -> None:
    """Who sets OPENROUTER_BASE_URL gets no simulation; the missing key is told."""
    process = up(OPENROUTER_BASE_URL="http://127.0.0.1:9/api/v1")

    assert process.says("Models") == "http://127.0.0.1:9/api/v1"
    assert "is not set" in process.says("OPENROUTER_API_KEY")


def test_it_notices_when_postgres_ends(up: Up, data: Path) -> None:
    """Without its database it does not stay up as if nothing had happened."""
    process = up()
    process.says("Ctrl-C")
    postmaster = int((data / "cluster/postmaster.pid").read_text().split("\n", 1)[0])

    os.kill(postmaster, signal.SIGKILL)

    assert process.end() == 1
    assert process.said[-1].startswith("PostgreSQL has ended unexpectedly")
