"""`./dev up`: Postgres, every door and, without a key, the simulated OpenRouter, as one tree of processes."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import uvicorn
import uvloop

from functions import all_doors
from local import migrations, tokens
from local.data_folder import DataFolder
from local.interrupts import Interrupts
from local.postgres import CannotStart, Postgres, start
from local.simulator import create_app, create_worker
from local.simulator.server import listen, running
from shared import observability, reconciliation
from shared.edge import application
from shared.errors import Failure
from shared.services import Services
from shared.settings import Settings

HOST = "127.0.0.1"
# Open streams get this long to end by themselves.
GRACE_S = 3
WATCH_EVERY_S = 1.0
# What a schedule does elsewhere. The simulated OpenRouter opens its books after 3 s.
SWEEP_EVERY_S = 5.0
SIMULATED_KEY = "simulated"

# What Supabase has, and the doors' own login: they may become each of the three roles and own nothing.
LOGINS = {"authenticator": "noinherit", "openrouter_service": "inherit"}


@dataclass(frozen=True, slots=True)
class Running:
    """What the closing words say: where everything is and who may come in."""

    url: str
    database: str
    models: str
    worker: str
    problems: tuple[str, ...]
    jwt_secret: str | None
    psql: str | None


def up(port: int, data: Path, data_option: list[str]) -> int:
    """Run everything until a signal comes. Returns the exit status; raises CannotStart and CannotMigrate."""
    given = Settings.from_environment()
    with Interrupts().installed() as interrupts, ExitStack() as open_things:
        try:
            listener = open_things.enter_context(_listening(port))
            folder = DataFolder(data)
            folder.make()
            postgres = None
            if _is_set("DATABASE_URL") and given.database_url is None:
                raise CannotStart(
                    "DATABASE_URL is not a postgres:// URL; leave it out to use a PostgreSQL of this machine."
                )
            if given.database_url is None and not _has_supabase_database(given):
                say(f"Starting PostgreSQL in {folder.path} ...")
                postgres = open_things.enter_context(start(folder.path))
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                everything = _Everything(given, folder, postgres, listener, data_option)
                return runner.run(everything.run(interrupts))
        except KeyboardInterrupt:
            say("Stopping ...")
            return 0
        finally:
            interrupts.ignore()


class _Everything:
    """The asynchronous part, with the server that a signal has to reach."""

    def __init__(
        self,
        given: Settings,
        folder: DataFolder,
        postgres: Postgres | None,
        listener: socket.socket,
        data_option: list[str],
    ) -> None:
        self.given = given
        self.folder = folder
        self.postgres = postgres
        self.listener = listener
        self.url = f"http://{HOST}:{listener.getsockname()[1]}"
        self.data_option = data_option
        self.server: uvicorn.Server | None = None

    async def run(self, interrupts: Interrupts) -> int:
        loop = asyncio.get_running_loop()
        work = asyncio.create_task(self._serve())

        def stop() -> None:
            say("Stopping ...")
            if self.server is not None and self.server.started:
                self.server.should_exit = True
            else:
                work.cancel()

        with interrupts.calling(lambda: loop.call_soon_threadsafe(stop)):
            try:
                return await work
            except asyncio.CancelledError:
                return 0

    async def _serve(self) -> int:
        overrides = await self._database()
        async with AsyncExitStack() as open_things:
            # A value that is set but wrong is not replaced: it stays and is told as a problem.
            simulated = not _is_set("OPENROUTER_API_KEY") and not _is_set("OPENROUTER_BASE_URL")
            if simulated:
                base = await open_things.enter_async_context(running(create_app()))
                overrides |= {"OPENROUTER_BASE_URL": f"{base}/api/v1", "OPENROUTER_API_KEY": SIMULATED_KEY}
            simulated_worker = simulated and not _is_set("CHAT_WORKER_URL")
            if simulated_worker:
                # Without a token: one that is set belongs to a real worker.
                overrides["CHAT_WORKER_URL"] = await open_things.enter_async_context(running(create_worker()))
            if not _is_set("SUPABASE_JWT_SECRET") and self.given.supabase_url is None:
                overrides["SUPABASE_JWT_SECRET"] = self.folder.secret("jwt_secret")
            if not _is_set("WEBHOOK_SECRET"):
                overrides["WEBHOOK_SECRET"] = self.folder.secret("webhook_secret")
            if not _is_set("SPOOL_PATH"):
                overrides["SPOOL_PATH"] = str(self.folder.path / "spool.jsonl")
            settings = Settings.from_environment({**os.environ, **overrides})
            services = Services(settings)
            open_things.push_async_callback(services.close)
            config = uvicorn.Config(
                application(all_doors(), services),
                loop="none",
                http="httptools",
                ws="none",
                access_log=False,
                log_level="warning",
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
            await open_things.enter_async_context(_sweeping(services))
            description = self._description(settings, simulated=simulated, simulated_worker=simulated_worker)
            self.server = _Server(config, lambda: describe(description))
            return await self._until_stopped(self.server)

    async def _until_stopped(self, server: uvicorn.Server) -> int:
        serving = asyncio.create_task(server.serve(sockets=[self.listener]))
        lost = False
        while not serving.done():
            await asyncio.wait([serving], timeout=WATCH_EVERY_S)
            if self.postgres is not None and not self.postgres.alive and not server.should_exit:
                say(f"PostgreSQL has ended unexpectedly; its log is {self.folder.log}.")
                lost = server.should_exit = True
        await serving
        return 1 if lost else 0

    async def _database(self) -> dict[str, str]:
        """Bring the database up to date; returns what the doors need to reach it."""
        if self.postgres is not None:
            await _migrate(self.postgres.url)
            logins = {name: self.folder.secret(f"{name}.password") for name in LOGINS}
            await _make_logins(self.postgres.url, logins)
            return {"DATABASE_URL": self.postgres.url_for("openrouter_service", logins["openrouter_service"])}
        if self.given.database_url is not None:
            await _migrate(self.given.database_url.get_secret_value())
        return {}

    def _description(self, settings: Settings, *, simulated: bool, simulated_worker: bool) -> Running:
        if self.postgres is not None:
            database = f"PostgreSQL on port {self.postgres.port} of this machine, kept in {self.folder.path}"
        elif self.given.database_url is not None:
            database = "the one of DATABASE_URL, brought up to date"
        else:
            database = f"{settings.supabase_url} (not migrated from here: that takes DATABASE_URL)"
        secret = settings.supabase_jwt_secret
        psql = None
        if self.postgres is not None:
            psql = shlex.join(["./dev", "psql", *self.data_option])
        elif self.given.database_url is not None:
            psql = "./dev psql, with the same DATABASE_URL"
        return Running(
            url=self.url,
            database=database,
            models="SIMULATED: no real model is asked and nothing is billed; set OPENROUTER_API_KEY for real answers"
            if simulated
            else settings.openrouter_base_url,
            worker="SIMULATED; set CHAT_WORKER_URL for a real one"
            if simulated_worker
            else settings.chat_worker_url or "none; set CHAT_WORKER_URL to add one",
            problems=settings.problems(),
            jwt_secret=secret.get_secret_value() if secret is not None else None,
            psql=psql,
        )


class _Server(uvicorn.Server):
    """Tells when the doors are open, and leaves the signals to us: they stop more than the HTTP server."""

    def __init__(self, config: uvicorn.Config, opened: Callable[[], None]) -> None:
        super().__init__(config)
        self._opened = opened

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._opened()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def _sweeping(services: Services) -> AsyncIterator[None]:
    """Do what the door `sweep` does, again and again until the block ends."""
    sweeping = asyncio.create_task(_sweep(services))
    try:
        yield
    finally:
        sweeping.cancel()
        [ended] = await asyncio.gather(sweeping, return_exceptions=True)
        if not isinstance(ended, asyncio.CancelledError):
            observability.log_problem("the sweep had stopped", ended)


async def _sweep(services: Services) -> None:
    failing = False
    while True:
        try:
            await reconciliation.sweep(services)
            failing = False
        except Failure as failure:
            if not failing:
                observability.log_problem("the sweep failed; it is tried again", failure)
            failing = True
        await asyncio.sleep(SWEEP_EVERY_S)


def describe(running: Running) -> None:
    """The closing words of the start."""
    lines = [
        "",
        f"URL          {running.url}/",
        f"Database     {running.database}",
        f"Models       {running.models}",
        f"Chat worker  {running.worker}",
    ]
    authorization = "Bearer $TOKEN"
    if running.jwt_secret is None:
        lines.append("Tokens       from your Supabase project; put one into TOKEN for the line below")
    else:
        user = tokens.token(running.jwt_secret, sub=tokens.USER)
        admin = tokens.token(running.jwt_secret, sub=tokens.ADMIN, admin=True)
        authorization = f"Bearer {user}"
        lines += [f"User token   {user}", f"Admin token  {admin}"]
    if running.psql is not None:
        lines.append(f"SQL          {running.psql}")
    lines += [
        "",
        f'curl -sS {running.url}/casual-chat -H "Authorization: {authorization}" '
        """-H 'Content-Type: application/json' -d '{"message": "Hello! How are you?"}'""",
        "",
        *running.problems,
        "Ctrl-C stops everything.",
    ]
    say(*lines)


def say(*lines: str) -> None:
    """Print at once. A terminal or a pipe that has gone is no reason to stop in disorder."""
    try:
        print(*lines, sep="\n", flush=True)
    except OSError:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - stays open as stdout until the process ends


@contextmanager
def _listening(port: int) -> Iterator[socket.socket]:
    """The doors' socket. Taken before anything slow is started; who calls early waits until the doors open."""
    try:
        listener = listen(HOST, port)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            reason = "is in use by another program"
        elif exc.errno == errno.EACCES:
            reason = "is not open to this user"
        else:
            raise
        raise CannotStart(f"Port {port} {reason}; choose another one with --port.") from exc
    with listener:
        yield listener


def _is_set(name: str) -> bool:
    return bool(os.environ.get(name, "").strip())


def _has_supabase_database(given: Settings) -> bool:
    return given.supabase_url is not None and given.supabase_secret_key is not None


async def _migrate(url: str) -> None:
    applied = await migrations.apply(url, report=lambda line: say(f"  {line}"))
    if not applied:
        say("The database is up to date.")


async def _make_logins(url: str, passwords: dict[str, str]) -> None:
    """The two logins, with exactly these passwords, whatever was there before."""
    connection = await asyncpg.connect(url)
    try:
        for name, inherits in LOGINS.items():
            if not await connection.fetchval("select true from pg_roles where rolname = $1", name):
                await connection.execute(f"create role {name}")
            change = f"alter role {name} login nosuperuser nocreatedb nocreaterole noreplication {inherits} password %L"
            await connection.execute(await connection.fetchval("select format($1, $2::text)", change, passwords[name]))
            await connection.execute(f"grant anon, authenticated, service_role to {name}")
    finally:
        await connection.close()
