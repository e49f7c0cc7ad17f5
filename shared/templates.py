"""System prompts as admins write them: a sentence with ${names} that the door fills in."""

from __future__ import annotations

from string import Template
from typing import Any


def render(template: str, **values: str) -> str:
    """Fill in the names, once: a value that looks like a placeholder stays text. An unknown name is left as written."""
    return Template(template).safe_substitute(values)


def system_message(text: str | None) -> list[dict[str, Any]]:
    """The system message, or none where there is nothing to say."""
    return [{"role": "system", "content": text}] if text and text.strip() else []
