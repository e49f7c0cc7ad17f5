"""What the checks of a reply cost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial

from shared import quality
from shared.routing import Preset
from tests.bench.figures import Figure, Section, Target, quantile
from tests.bench.house import WORDS

TARGET_P95_MS = 1.0
PRESET = Preset("roleplay", None, slow_response_ms=10_000, short_response_chars=20)
REPLIES = {"a short reply": WORDS, "a long story": WORDS * 40}


async def measure(seconds: float) -> Section:
    """The baseline writes the same reply as JSON, which is done to each of them anyway."""
    figures: list[Figure] = []
    for name, text in REPLIES.items():
        share = seconds / (2 * len(REPLIES))
        checked = _times(partial(quality.issues, text, 900, PRESET), share)
        written = _times(partial(json.dumps, text), share)
        figures += [
            Figure(f"{name}, p50", quantile(checked, 0.5), "ms", quantile(written, 0.5)),
            Figure(f"{name}, p95", quantile(checked, 0.95), "ms", quantile(written, 0.95), Target(TARGET_P95_MS)),
        ]
    lengths = ", ".join(f"{name} of {len(text):,} characters" for name, text in REPLIES.items())
    return Section("quality", f"all checks of one reply: {lengths}", figures)


def _times(work: Callable[[], object], seconds: float) -> list[float]:
    durations = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        work()
        durations.append(1000 * (time.perf_counter() - began))
    return durations
