"""The folder that keeps everything between runs: the cluster, its port and password, our development secrets."""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.account import CannotStart

# A restart may come while the server before it still writes its last page.
LOCK_WITHIN_S = 2.0


class DataFolder:
    """`lock` marks the folder as ours and is held by whoever runs its server."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.cluster = self.path / "cluster"
        self.log = self.path / "postgres.log"

    def make(self) -> None:
        """Create the folder, or accept an empty one or one of ours; never write among somebody else's files."""
        with self._troubles_as_sentences():
            if not self.path.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.mkdir(exist_ok=True)
                # Root's folder lets the server's user through; the secrets in it are closed by themselves.
                self.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
            if not self.path.is_dir():
                raise CannotStart(f"{self.path} is not a folder.")
            if not (self.path / "lock").exists() and any(self.path.iterdir()):
                raise CannotStart(f"The folder {self.path} holds other files; name an empty or a new one with --data.")
            os.close(self._open("lock", os.O_RDWR | os.O_CREAT))

    def lock(self) -> int:
        """Hold the folder for this process; the kernel lets go of it however the process ends."""
        self.make()
        with self._troubles_as_sentences():
            descriptor = self._open("lock", os.O_RDWR)
        give_up = time.monotonic() + LOCK_WITHIN_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < give_up:
                    time.sleep(0.05)
                    continue
                os.close(descriptor)
                raise CannotStart(
                    f"The data folder {self.path} is in use by another process; stop that one or name another folder "
                    "with --data."
                ) from None
            return descriptor

    @property
    def locked(self) -> bool:
        """Whether some process holds the folder at this moment."""
        if not (self.path / "lock").exists():
            return False
        with self._troubles_as_sentences():
            descriptor = self._open("lock", os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def read(self, name: str) -> str | None:
        """One of our small files, or None when it is missing or empty."""
        with self._troubles_as_sentences():
            try:
                return (self.path / name).read_text().strip() or None
            except FileNotFoundError:
                return None

    def write(self, name: str, text: str) -> None:
        """Replace a small file in one step; only the owner of the folder can read it."""
        with self._troubles_as_sentences():
            self._temporary(name, text).replace(self.path / name)

    def secret(self, name: str) -> str:
        """The random secret kept under this name, made on first use; two processes at once agree on one."""
        with self._troubles_as_sentences():
            known = self.read(name)
            if known is None:
                temporary = self._temporary(name, secrets.token_urlsafe(32))
                try:
                    os.link(temporary, self.path / name)
                except FileExistsError:
                    pass  # another process was quicker; its secret is the one
                finally:
                    temporary.unlink()
                known = self.read(name)
        if known is None:
            raise CannotStart(f"The file {self.path / name} is empty; remove it to have a new secret made.")
        return known

    def open_log(self) -> int:
        """A descriptor that appends to the server's log; statements that failed stand in it, so it is private too."""
        return self._open(self.log.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def _open(self, name: str, flags: int) -> int:
        descriptor = os.open(self.path / name, flags | os.O_NOFOLLOW, 0o600)
        self._give_to_owner(descriptor)
        return descriptor

    def _temporary(self, name: str, text: str) -> Path:
        temporary = f".{name}.{os.getpid()}.{secrets.token_hex(4)}"
        descriptor = self._open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        with os.fdopen(descriptor, "w") as file:
            file.write(text + "\n")
        return self.path / temporary

    def _give_to_owner(self, descriptor: int) -> None:
        # Root working in a user's folder must not lock that user out of it.
        if os.geteuid() == 0:
            owner = self.path.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)

    @contextmanager
    def _troubles_as_sentences(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as exc:
            raise CannotStart(
                f"The data folder {self.path} is not open to this user ({exc.filename}); name another with --data."
            ) from exc
        except OSError as exc:
            raise CannotStart(f"The data folder {self.path} cannot be used: {exc.strerror} ({exc.filename}).") from exc
