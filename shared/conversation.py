"""What a door wants said to the model, and how what the model says is edited before the caller sees it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.quality import Issue
from shared.routing import Preset


@dataclass(frozen=True, slots=True)
class Section:
    """A named part of a prompt, for the account of its tokens."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """The messages as the model reads them, oldest first; a stable part stands at the head so that caches work.

    `sections` and `notes` explain them to a caller who asked to `itemize`: where the tokens went, and what the prompt
    decided on the way (which lore fired, what was dropped and why).
    """

    messages: Sequence[Mapping[str, Any]]
    sections: Sequence[Section] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


# From the preset of the use case and the context length of the model that is about to be asked (None: unknown).
Prompt = Callable[[Preset, int | None], Conversation]


class Editor(Protocol):
    """Edits one reply while it is written. What it holds back is shown by `finish`, or never.

    The same editor serves a whole reply: `feed` it once, then `finish`.
    """

    def feed(self, text: str) -> str:
        """The text that may be shown now."""
        ...

    def finish(self) -> str:
        """The rest, when the model has ended."""
        ...

    def issues(self) -> Sequence[Issue]:
        """What had to be done, as flags."""
        ...


class Unedited:
    """Shows what the model says."""

    def feed(self, text: str) -> str:
        return text

    def finish(self) -> str:
        return ""

    def issues(self) -> Sequence[Issue]:
        return ()
