"""Whom Postgres runs as: ourselves, or an unprivileged user when root starts it, and what that user can reach."""

from __future__ import annotations

import hashlib
import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path


class CannotStart(Exception):
    """Postgres cannot run here; the message is one sentence for the person at the keyboard."""


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged user of this machine."""

    name: str
    uid: int
    gid: int


def account_for(data: Path) -> Account | None:
    """None stands for ourselves; root takes the owner of the data folder, else `postgres`, else `nobody`."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(_name_of(owner.st_uid), owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise CannotStart("PostgreSQL does not run as root, and this machine has neither a user 'postgres' nor 'nobody'.")


def default_data(project: Path) -> Path:
    """`.data` in the project; for root, when Postgres' user cannot come that far, a folder under /var/lib."""
    data = project / ".data"
    account = account_for(data)
    if account is None or can_enter(data if data.exists() else project, account):
        return data
    return Path("/var/lib/openrouter-functions") / hashlib.sha256(os.fsencode(project)).hexdigest()[:16]


def can_enter(folder: Path, account: Account) -> bool:
    """Whether that user can go into the folder."""
    return _works(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], account)


def can_run(programs: list[str], account: Account) -> bool:
    """Whether that user can run these programs; each is asked for its version."""
    return all(_works([program, "--version"], account) for program in programs)


def environment() -> dict[str, str]:
    """What Postgres sees of ours: no secrets, and no PG* variables that would change its mind."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", **kept}


def _works(command: list[str], account: Account) -> bool:
    """Tried for real, because modes alone do not tell: there are access lists, mount options and name spaces."""
    try:
        done = subprocess.run(
            command,
            cwd="/",
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
