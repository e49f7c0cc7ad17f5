"""The machine that was measured on, and what a process of it uses."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

_PROC = Path("/proc")


def busy() -> float:
    """How many processes wanted a core in the last minute."""
    return os.getloadavg()[0]


def described(postgres: str, load: float) -> str:
    """One line: cores, CPU, Python, PostgreSQL, and how busy the machine was with other things."""
    return (
        f"{cores()} cores of {cpu_model()}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}, PostgreSQL {postgres}; load before the start {load:.1f}"
    )


class Watch:
    """Tells afterwards how much of the machine others used meanwhile. Ask it when all child processes have ended."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._busy = _busy_ms()
        self._ours = _ours_ms()

    def told(self) -> str:
        seconds = time.perf_counter() - self._began
        ours = _ours_ms() - self._ours
        others = max(0.0, _busy_ms() - self._busy - ours)
        available = 1000 * seconds * cores()
        return (
            f"{seconds:.0f} seconds in all; of the cores, this run used {ours / available:.0%} "
            f"and other programs {others / available:.0%}"
        )


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model() -> str:
    """The CPU's own name, as far as the system tells it."""
    known = _PROC / "cpuinfo"
    if known.exists():
        for line in known.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cpu_ms(pid: int) -> float:
    """CPU time that a process has used so far, user and system; NaN where there is no /proc."""
    if not _PROC.exists():
        return float("nan")
    # The name of the program, in parentheses, may itself hold spaces.
    after_name = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def children_cpu_ms(pid: int) -> float:
    """CPU time of all descendants of a process, those of the past that it has waited for included."""
    if not _PROC.exists():
        return float("nan")
    total = 0.0
    for child in _children(pid):
        after_name = (_PROC / str(child) / "stat").read_text().rpartition(")")[2].split()
        waited_for = 1000 * (int(after_name[13]) + int(after_name[14])) / os.sysconf("SC_CLK_TCK")
        total += cpu_ms(child) + waited_for + children_cpu_ms(child)
    return total


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes); NaN where there is no /proc."""
    if not _PROC.exists():
        return float("nan")
    pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors(pid: int) -> int:
    """Open files and sockets of a process; 0 where there is no /proc."""
    folder = _PROC / str(pid) / "fd"
    return len(list(folder.iterdir())) if folder.exists() else 0


def _busy_ms() -> float:
    """CPU time of everything on this machine since it started, time taken by its host included."""
    if not _PROC.exists():
        return float("nan")
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, (_PROC / "stat").read_text().split()[1:11])
    return 1000 * (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _ours_ms() -> float:
    """CPU time of this process and of all children that have ended."""
    used = os.times()
    return 1000 * (used.user + used.system + used.children_user + used.children_system)


def _children(pid: int) -> list[int]:
    found = []
    for thread in (_PROC / str(pid) / "task").iterdir():
        found += [int(child) for child in (thread / "children").read_text().split()]
    return found
