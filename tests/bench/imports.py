"""What a cold start pays for each door."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.bench.figures import Figure, Section, Target
from tests.bench.house import ROOT

TARGET_CPU_MS = 300.0
TARGET_MB = 64.0
QUICK_DOORS = ("casual_chat", "health")
BASELINE = "starlette.applications, pydantic"

# Reads the clocks before anything else is there; the size is read at the end. httpx loads a command line of its own
# where click and rich are installed, which only tools of development bring: a deployed function has neither.
PROGRAM = """
import sys, time
sys.modules.update(click=None, rich=None)
began = time.process_time()
import {modules}
spent = time.process_time() - began
count = len(sys.modules)
import json, os
from tests.bench.machine import resident_mb
print(json.dumps([1000 * spent, resident_mb(os.getpid()), count]))
"""


async def measure(seconds: float) -> Section:
    """Each in a fresh interpreter; the best of several, because a cold start has the machine to itself."""
    quick = seconds < 5
    times = 2 if quick else 5
    doors = QUICK_DOORS if quick else _doors()
    bare = _best(BASELINE, times)
    figures = []
    for door in doors:
        cpu_ms, megabytes, modules = _best(f"functions.{door}.handler", times)
        figures += [
            Figure(door.replace("_", "-"), cpu_ms, "ms CPU", bare[0], Target(TARGET_CPU_MS)),
            Figure("  resident", megabytes, "MB", bare[1], Target(TARGET_MB)),
            Figure("  modules", modules, "", bare[2]),
        ]
    return Section("imports", f"a fresh interpreter, the best of {times}; the baseline imports {BASELINE}", figures)


def _doors() -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in Path(ROOT / "functions").glob("*/handler.py")))


def _best(modules: str, times: int) -> tuple[float, float, float]:
    found = [_once(modules) for _ in range(times)]
    cpu_ms, megabytes, count = (min(column) for column in zip(*found, strict=True))
    return cpu_ms, megabytes, count


def _once(modules: str) -> tuple[float, float, float]:
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(modules=modules)],
        cwd=ROOT,
        env={"PATH": os.environ.get("PATH", "")},
        capture_output=True,
        text=True,
        check=True,
    )
    cpu_ms, megabytes, count = json.loads(told.stdout)
    return cpu_ms, megabytes, count
