"""Becomes another program that ends when the process that asked for it ends; run as a script, never imported.

`guard.py PARENT_PID UID GID PROGRAM ARGUMENT...`; a UID below 0 keeps the user as it is.
"""

import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, uid, gid = (int(number) for number in sys.argv[1:4])
    # Loaded while we may still read Python's own files: they can lie where only root comes.
    end_with_parent = _parent_death_signal()
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    # After the change of user: the kernel forgets the wish when the credentials change (man 2 prctl).
    end_with_parent()
    if os.getppid() != parent:
        sys.exit("the process that asked for this one has ended")
    # Python ignores SIGPIPE, and an ignored signal stays ignored across exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(sys.argv[4], sys.argv[4:])  # noqa: S606 - becoming that program is the point


def _parent_death_signal() -> Callable[[], object]:
    """Only Linux has it; elsewhere the next start ends what was left over."""
    if sys.platform != "linux":
        return lambda: None
    import ctypes

    prctl = ctypes.CDLL(None, use_errno=True).prctl
    # SIGINT is Postgres' fast shutdown: sessions are cut, nothing is left to recover.
    return lambda: prctl(PR_SET_PDEATHSIG, int(signal.SIGINT))


if __name__ == "__main__":
    main()
