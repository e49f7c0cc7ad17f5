"""Ctrl-C, SIGTERM and SIGHUP: one wish to stop, heard at any moment, and heard once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def leave_quietly(status: int) -> None:
    """Until `Interrupts` are installed nothing is open yet, so a signal may end the process at once."""
    for number in _heeded():
        signal.signal(number, lambda *_: os._exit(status))


class Interrupts:
    """Until `calling` says otherwise the first signal raises KeyboardInterrupt; later ones change nothing.

    A stop is bounded in time, so an impatient second Ctrl-C must not cut it short and leave a process behind.
    """

    def __init__(self) -> None:
        self.requested = False
        self._act: Callable[[], object] | None = None

    @contextmanager
    def installed(self) -> Iterator[Interrupts]:
        before = {number: signal.signal(number, self._heard) for number in _heeded()}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def calling(self, act: Callable[[], object]) -> Iterator[None]:
        """Within the block a signal calls `act` instead of raising."""
        self._act = act
        try:
            if self.requested:
                act()
            yield
        finally:
            self._act = None

    def ignore(self) -> None:
        """From here on the end is under way, whatever began it."""
        self.requested = True

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            return
        self.requested = True
        if self._act is None:
            raise KeyboardInterrupt
        self._act()


def _heeded() -> list[signal.Signals]:
    heeded = [signal.SIGINT, signal.SIGTERM]
    # nohup means it: the terminal may go.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heeded.append(signal.SIGHUP)
    return heeded
