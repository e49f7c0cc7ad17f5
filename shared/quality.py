"""What is wrong with a reply, as far as the reply itself shows it. Flags decide nothing."""

from __future__ import annotations

from dataclasses import dataclass

from shared.routing import Preset


@dataclass(frozen=True, slots=True)
class Issue:
    """A flag: its stable code and what was seen."""

    code: str
    detail: str


def issues(content: str, response_time_ms: int, preset: Preset) -> tuple[Issue, ...]:
    """The rules for every reply (Quality monitoring): slower than, and shorter than the use case's threshold."""
    found: list[Issue] = []
    if response_time_ms > preset.slow_response_ms:
        found.append(
            Issue("slow_openrouter_response", f"{response_time_ms} ms, more than {preset.slow_response_ms} ms")
        )
    if len(content) < preset.short_response_chars:
        found.append(
            Issue("short_openrouter_response", f"{len(content)} characters, fewer than {preset.short_response_chars}")
        )
    return tuple(found)
