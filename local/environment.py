"""Makes the project's own Python environment, `.venv`, from requirements.lock; run by `dev` with the machine's Python.

Only the standard library is at hand here. Everything is said on stderr, so that `./dev token` prints a token only.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
HOME = ROOT / ".venv"
PYTHON = HOME / "bin" / "python"
# A copy of the lock file, written last: without it the environment is not taken as good.
STAMP = HOME / "installed.lock"
TAIL = 15


def main() -> int:
    try:
        # One at a time; the kernel lets go of the lock however this process ends.
        with LOCK.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _say("Another ./dev is making the Python environment; waiting for it ...")
                fcntl.flock(lock, fcntl.LOCK_EX)
            return _bring_up_to_date(lock.read(), lock.fileno())
    except KeyboardInterrupt:
        _say("Stopped. The next ./dev goes on from here.")
        return 130
    except OSError as exc:
        _say(f"The Python environment {HOME} cannot be made: {exc.strerror} ({exc.filename}).")
        return 1


def _bring_up_to_date(wanted: bytes, lock: int) -> int:
    alive = _is_alive()
    if alive and STAMP.exists() and STAMP.read_bytes() == wanted:
        return 0  # another ./dev was quicker
    if not alive or not STAMP.exists():
        _say(f"Making the Python environment {HOME} (once) ...")
        if HOME.exists():
            shutil.rmtree(HOME)
        # In this process: an activated .venv would be the very Python that was just removed.
        venv.EnvBuilder(with_pip=True, symlinks=True).create(HOME)
    STAMP.unlink(missing_ok=True)
    failed = _install(wanted, lock)
    if failed:
        _say("The dependencies could not be installed. pip said:", *failed)
        return 1
    finished = STAMP.with_suffix(".new")
    finished.write_bytes(wanted)
    finished.replace(STAMP)
    _say("The Python environment is ready.")
    return 0


def _is_alive() -> bool:
    """False when there is none, or the Python it was made with is gone."""
    try:
        return subprocess.run([PYTHON, "-c", "import pip"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _install(wanted: bytes, lock: int) -> list[str]:
    """Install exactly what the lock names, checked by hash; returns the end of pip's words when it fails.

    pip inherits the descriptor `lock`: should it outlive us, the next ./dev waits for it.
    """
    total = len(re.findall(rb"^[a-z0-9][\w.-]*==", wanted, re.MULTILINE | re.IGNORECASE))
    command: list[str | Path] = [
        PYTHON,
        "-m",
        "pip",
        "install",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--requirement",
        LOCK,
    ]
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    # A user-wide or other target, set for somebody's other work, would lead past the environment.
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PYTHONHOME", "PYTHONPATH")
    }
    said: list[str] = []
    seen = 0
    process = subprocess.Popen(
        [*command, *quiet],
        env=environ,
        pass_fds=[lock],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            said.append(line.rstrip())
            if line.startswith(("Collecting ", "Processing ")):
                seen += 1
                if seen % 10 == 0:
                    _say(f"  fetched {seen} of about {total} packages")
            elif line.startswith("Installing collected packages"):
                _say("  unpacking them")
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()
    return said[-TAIL:] if process.returncode else []


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
