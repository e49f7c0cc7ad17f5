"""The Postgres of one machine: started as root or as anybody, killed, restarted, and never left behind."""

from __future__ import annotations

import os
import select
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from local import binaries, postgres, processes
from local.account import account_for
from local.data_folder import DataFolder
from local.postgres import CannotStart
from tests.database.server import PROJECT, open_folder

IS_ROOT = os.geteuid() == 0
NOBODY = 65534
ENDS_WITHIN_S = 30

# The whole life of a launcher: start, tell, wait until stdin is closed, stop.
LAUNCHER = """
import sys
from pathlib import Path
from local import postgres
try:
    server = postgres.start(Path(sys.argv[1]), settings={"fsync": "off"})
except postgres.CannotStart as exc:
    print(exc, flush=True)
    sys.exit(1)
print(server.url, flush=True)
sys.stdin.read()
server.stop()
"""


@dataclass
class Launcher:
    """Starts launchers as processes of their own: as this user, or as one without any rights."""

    python: str
    path: Path
    uid: int | None
    started: ExitStack
    prepared: Path

    def start_filled(self, data: Path) -> Server:
        """Start on a copy of a folder that was made once: initdb takes most of a first start's time."""
        if not (self.prepared / "lock").exists():
            self.start(self.prepared).stop()
            (self.prepared / "port").unlink()
        subprocess.run(["cp", "-a", str(self.prepared), str(data)], check=True)
        return self.start(data)

    def spawn(self, data: Path, **environ: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [self.python, "-P", "-c", LAUNCHER, str(data)],
            cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(self.path), "PYTHONDONTWRITEBYTECODE": "1", **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=self.uid,
            group=self.uid,
            extra_groups=[] if self.uid is not None else None,
        )
        # Leaving a process closes its stdin and waits for it: an orderly stop.
        self.started.enter_context(process)
        return process

    def start(self, data: Path, **environ: str) -> Server:
        process = self.spawn(data, **environ)
        assert process.stdout is not None
        told = process.stdout.readline().strip()
        assert told.startswith("postgresql://"), told
        return Server(process, data, told)

    def refusal(self, data: Path, **environ: str) -> str:
        told, _ = self.spawn(data, **environ).communicate(timeout=ENDS_WITHIN_S)
        return told.strip()


@dataclass
class Server:
    """A running launcher and the Postgres it started."""

    launcher: subprocess.Popen[str]
    data: Path
    url: str

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port is not None
        return port

    @property
    def pids(self) -> list[int]:
        return processes._processes_of(self.data / "cluster")

    @property
    def owners(self) -> set[int]:
        return {Path(f"/proc/{pid}").stat().st_uid for pid in self.pids}

    def stop(self) -> None:
        self.launcher.communicate(timeout=ENDS_WITHIN_S)
        assert self.launcher.returncode == 0

    def kill(self) -> None:
        """kill -9 of the launcher; returns when every process of its Postgres has ended."""
        watched = [os.pidfd_open(pid) for pid in self.pids]
        try:
            self.launcher.kill()
            self.launcher.wait()
            for ended in watched:
                assert select.select([ended], [], [], ENDS_WITHIN_S)[0], "a process of Postgres was left behind"
        finally:
            for descriptor in watched:
                os.close(descriptor)

    async def ask(self, query: str) -> Any:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user may write into; pytest's own are closed to everyone but root. Launchers end before it."""
    folder = open_folder("openrouter-postgres-")
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def public_copy() -> Iterator[Path]:
    """Our launcher and the binaries where a user without rights can read them."""
    folder = open_folder("openrouter-launcher-")
    folder.chmod(0o755)
    shutil.copytree(PROJECT / "local", folder / "local", ignore=shutil.ignore_patterns("__pycache__", "simulator"))
    for source in binaries.find().bundle:
        shutil.copytree(source, folder / source.name, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    subprocess.run(["chmod", "-R", "a+rX", str(folder)], check=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """Where each launcher keeps the folder it starts from."""
    folder = open_folder("openrouter-prepared-")
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def ourselves(prepared: Path, folder: Path) -> Iterator[Launcher]:
    with ExitStack() as started:
        yield Launcher(sys.executable, PROJECT, None, started, prepared / "ourselves")


@pytest.fixture
def nobody(prepared: Path, public_copy: Path, folder: Path) -> Iterator[Launcher]:
    if not IS_ROOT:
        pytest.skip("this user already is one without special rights")
    with ExitStack() as started:
        yield Launcher(_python_for_anyone(), public_copy, NOBODY, started, prepared / "nobody")


@pytest.fixture(params=["ourselves", "nobody"])
def launcher(request: pytest.FixtureRequest) -> Launcher:
    """This user; and, when this user is root, one without any rights."""
    launcher = request.getfixturevalue(request.param)
    assert isinstance(launcher, Launcher)
    return launcher


def _python_for_anyone() -> str:
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        check = [python, "-c", "import sys, ctypes; sys.exit(sys.version_info < (3, 11))"]
        with suppress(OSError):
            if subprocess.run(check, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False).returncode == 0:
                return python
    pytest.skip("no Python here that a user without rights can run")


async def test_data_survives_a_restart(launcher: Launcher, folder: Path) -> None:
    """The next start finds the rows, on the same port, with the same password."""
    first = launcher.start(folder / "data")
    await first.ask("create table kept as select 42 as answer")
    first.stop()

    second = launcher.start(folder / "data")

    assert await second.ask("select answer from kept") == 42
    assert second.url == first.url


async def test_a_stop_leaves_no_process(launcher: Launcher, folder: Path) -> None:
    """An orderly stop takes every process along, sessions too."""
    server = launcher.start_filled(folder / "data")
    connection = await asyncpg.connect(server.url)

    server.stop()

    assert server.pids == []
    connection.terminate()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_a_killed_launcher_leaves_no_postgres_and_the_next_start_recovers(
    launcher: Launcher, folder: Path
) -> None:
    """kill -9 cannot be handled, so the kernel ends Postgres; what was committed is there."""
    server = launcher.start_filled(folder / "data")
    await server.ask("create table kept as select 42 as answer")

    server.kill()

    assert await launcher.start(folder / "data").ask("select answer from kept") == 42


async def test_a_crash_of_postgres_itself_is_recovered_from(ourselves: Launcher, folder: Path) -> None:
    """Every process killed at once, the launcher too: the stale postmaster.pid does not stand in the way."""
    server = ourselves.start_filled(folder / "data")
    await server.ask("create table kept as select 42 as answer")
    for pid in [server.launcher.pid, *server.pids]:
        with suppress(ProcessLookupError):
            os.kill(pid, 9)
    # As after a reboot: the number in the file now belongs to somebody else.
    (folder / "data/cluster/postmaster.pid").write_text(f"{os.getpid()}\n{folder / 'data/cluster'}\n1\n1\n\n\n1 1\n\n")

    assert await ourselves.start(folder / "data").ask("select answer from kept") == 42


async def test_an_orphan_on_the_same_folder_is_ended_first(ourselves: Launcher, folder: Path) -> None:
    """A Postgres that outlived its launcher, as on systems without the kernel's help, gives way to the next start."""
    data = folder / "data"
    ourselves.start_filled(data).stop()
    with _unguarded(data) as orphan:
        server = ourselves.start(data)

        assert orphan.wait(ENDS_WITHIN_S) == 0
        assert await server.ask("select 1") == 1


@contextmanager
def _unguarded(data: Path) -> Iterator[subprocess.Popen[str]]:
    """A Postgres that runs on this folder and knows of no launcher."""
    account = account_for(data)
    with subprocess.Popen(
        postgres._command(DataFolder(data), binaries.find(), postgres.free_port(), postgres.THROWAWAY),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    ) as process:
        assert process.stderr is not None
        assert any("ready to accept connections" in line for line in process.stderr)
        yield process


async def test_two_run_side_by_side(launcher: Launcher, folder: Path) -> None:
    """Two folders are two servers."""
    one, two = launcher.start_filled(folder / "one"), launcher.start_filled(folder / "two")

    await one.ask("create table only_here ()")

    assert one.port != two.port
    assert await two.ask("select to_regclass('only_here')") is None


async def test_a_second_start_on_the_same_folder_is_refused(launcher: Launcher, folder: Path) -> None:
    """One folder has one server, and the first is not disturbed."""
    server = launcher.start_filled(folder / "data")

    assert "is in use by another process" in launcher.refusal(folder / "data")
    assert await server.ask("select 1") == 1


async def test_an_interrupted_first_start_is_begun_again(launcher: Launcher, folder: Path) -> None:
    """Killed in the middle of initdb: the half-made cluster is thrown away."""
    process = launcher.spawn(folder / "data")
    partial = folder / "data/cluster.partial"
    while not (partial / "postgresql.conf").exists():
        assert process.poll() is None
    process.kill()
    process.wait()
    assert not (folder / "data/cluster").exists()

    assert await launcher.start(folder / "data").ask("select 1") == 1
    assert not partial.exists()


async def test_postgres_is_private_and_speaks_utf8_in_utc(ourselves: Launcher, folder: Path) -> None:
    """Only 127.0.0.1, only with the password, never as root; the secrets are readable by their owner only."""
    server = ourselves.start(folder / "data")
    strangers = urlsplit(server.url)._replace(netloc=f"postgres:guess@127.0.0.1:{server.port}").geturl()

    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(strangers)
    assert await server.ask("show listen_addresses") == "127.0.0.1"
    assert await server.ask("show unix_socket_directories") == ""
    assert (
        await server.ask("select current_setting('server_encoding') || ' ' || current_setting('timezone')")
        == "UTF8 UTC"
    )
    assert await server.ask("select lower('ÄÉЖ')") == "äéж"
    assert len(server.owners) == 1
    assert 0 not in server.owners
    for name in ("password", "port", "lock", "postgres.log"):
        status = (folder / "data" / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, os.geteuid())


async def test_a_taken_port_is_chosen_anew(ourselves: Launcher, folder: Path) -> None:
    """The remembered port is a wish; another program may have it now."""
    first = ourselves.start_filled(folder / "data")
    first.stop()
    with socket.create_server(("127.0.0.1", first.port)):
        second = ourselves.start(folder / "data")

        assert second.port != first.port
        assert await second.ask("select 1") == 1


def test_a_named_port_that_is_taken_is_refused(ourselves: Launcher, folder: Path) -> None:
    """A port asked for by number is that port or nothing."""
    ourselves.start_filled(folder / "data").stop()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"Port {port} is in use"):
            postgres.start(folder / "data", port=port)


def test_the_folder_of_another_major_version_is_refused(ourselves: Launcher, folder: Path) -> None:
    """Data that this Postgres cannot read is left alone and named."""
    ourselves.start_filled(folder / "data").stop()
    version = folder / "data/cluster/PG_VERSION"
    version.write_text("9\n")

    with pytest.raises(CannotStart, match=r"was made by PostgreSQL 9 and here is PostgreSQL \d+"):
        postgres.start(folder / "data")


def test_a_setting_that_postgres_refuses_is_told(ourselves: Launcher, folder: Path) -> None:
    """The last words of a server that did not come up reach the person at the keyboard."""
    ourselves.start_filled(folder / "data").stop()

    with pytest.raises(CannotStart, match=r"did not start: .*no_such_setting"):
        postgres.start(folder / "data", settings={"no_such_setting": "1"})


def test_somebody_elses_folder_is_refused(folder: Path) -> None:
    """A slip in --data must not mix our files with others."""
    (folder / "letter.txt").write_text("dear all")

    with pytest.raises(CannotStart, match="holds other files"):
        postgres.start(folder)

    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_a_file_in_place_of_the_folder_is_refused(folder: Path) -> None:
    """The same, when it is not a folder at all."""
    (folder / "data").write_text("")

    with pytest.raises(CannotStart, match="is not a folder"):
        postgres.start(folder / "data")


def test_the_running_server_can_be_found(ourselves: Launcher, folder: Path) -> None:
    """Another terminal gets the URL while it runs, and nothing after it stopped."""
    assert postgres.running_url(folder / "data") is None
    server = ourselves.start_filled(folder / "data")
    assert postgres.running_url(folder / "data") == server.url

    server.stop()

    assert postgres.running_url(folder / "data") is None


def test_a_secret_is_made_once(folder: Path) -> None:
    """Every later call, and another data folder's owner, gets the same text; another name another text."""
    data = DataFolder(folder / "data")
    data.make()

    assert data.secret("one") == DataFolder(folder / "data").secret("one")
    assert data.secret("one") != data.secret("two")
    assert stat.S_IMODE((folder / "data/one").stat().st_mode) == 0o600


@pytest.mark.skipif(not IS_ROOT, reason="only root has to become somebody else")
class TestAsRoot:
    """Root's own troubles: Postgres runs as another user, who cannot go everywhere."""

    async def test_only_our_own_folder_changes_hands(self, ourselves: Launcher, folder: Path) -> None:
        """The cluster belongs to Postgres' user; nothing above it is touched."""
        above = folder / "above"
        above.mkdir()
        before = above.stat()

        ourselves.start(above / "data")

        assert above.stat().st_mode == before.st_mode
        assert above.stat().st_uid == 0
        assert (above / "data").stat().st_uid == 0
        assert (above / "data/cluster").stat().st_uid != 0

    def test_a_folder_out_of_reach_is_refused(self, ourselves: Launcher, folder: Path) -> None:
        """Permissions of other folders are not ours to open."""
        private = folder / "private"
        private.mkdir(mode=0o700)

        assert "cannot reach" in ourselves.refusal(private / "data")
        assert stat.S_IMODE(private.stat().st_mode) == 0o700

    def test_a_closed_folder_named_by_root_is_opened_to_pass(self, ourselves: Launcher, folder: Path) -> None:
        """As made by `mktemp -d`: the folder itself is ours from now on."""
        data = folder / "data"
        data.mkdir(mode=0o700)

        ourselves.start(data)

    async def test_binaries_out_of_reach_are_copied(self, ourselves: Launcher, folder: Path) -> None:
        """A clone with its .venv under /root works all the same; the copy is made once."""
        private = folder / "private"
        private.mkdir(mode=0o700)
        for source in binaries.find().bundle:
            shutil.copytree(source, private / source.name, symlinks=True, ignore=shutil.ignore_patterns("*.a"))
        ourselves.path = private
        private.joinpath("local").symlink_to(PROJECT / "local")

        server = ourselves.start(folder / "data")
        assert await server.ask("select 1") == 1
        server.stop()
        copies = list((folder / "data").glob("binaries-*"))
        made = copies[0].stat().st_ctime_ns
        ourselves.start(folder / "data")

        assert len(copies) == 1
        assert copies[0].stat().st_ctime_ns == made

    async def test_a_users_folder_stays_that_users(self, ourselves: Launcher, nobody: Launcher, folder: Path) -> None:
        """Root may start the server of a user's folder, and the user can go on with it afterwards."""
        nobody.start_filled(folder / "data").stop()
        ourselves.start(folder / "data").stop()

        assert await nobody.start(folder / "data").ask("select 1") == 1

    def test_the_default_folder_is_in_the_project_when_it_can_be(self, folder: Path) -> None:
        """Only a project that Postgres' user cannot reach keeps its data elsewhere, each in its own place."""
        (folder / "open").mkdir()
        for name in ("private", "other"):
            (folder / name).mkdir(mode=0o700)

        assert postgres.default_data(folder / "open") == folder / "open/.data"
        elsewhere = {postgres.default_data(folder / name) for name in ("private", "other")}
        assert len(elsewhere) == 2
        assert {path.parent for path in elsewhere} == {Path("/var/lib/openrouter-functions")}
