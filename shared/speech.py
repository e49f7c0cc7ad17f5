"""Keeps a reply to the lines of the one who was asked to speak."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from shared.quality import Issue

# Markup that models put around a name at the start of a line, and what ends the name.
_LEAD = re.compile(r"[ \t]{0,8}[*_]{0,3}")
_TAIL = re.compile(r"[*_]{0,3}[ \t]?")
_COLONS = (":", "\uff1a")
# Room for all of that around a name.
_MARKUP_CHARS = 20

_Verdict = Literal["yes", "no", "maybe"]


class Speech:
    """Edits a reply in which `speaker` speaks: its own name before it is removed, a line of `others` ends it.

    `flag` is the code of the issue when somebody else's line was cut off. `already` is a text that the reply continues:
    a model that says it again is not shown saying it. Held back is only what could be the start of such a thing, and
    white space, so the result does not depend on how a stream is cut.
    """

    def __init__(
        self, speaker: str | None, others: Sequence[str], *, flag: str = "speaks_for_user", already: str = ""
    ) -> None:
        self._speaker = (speaker,) if speaker else ()
        self._others = tuple(name for name in others if name and not _same(name, speaker or ""))
        self._reach = max(map(len, self._others), default=0) + _MARKUP_CHARS
        self._flag = flag
        self._already = already.strip()
        self._held = ""
        self._is_open = not (self._speaker or self._already)
        self._closing: str | None = None
        self._is_new_line = True
        self._is_over = False
        self._issues: list[Issue] = []

    def feed(self, text: str) -> str:
        """The text that may be shown now."""
        return self._shown(text, is_last=False)

    def finish(self) -> str:
        """The rest, when the model has ended."""
        return self._shown("", is_last=True)

    def issues(self) -> Sequence[Issue]:
        """What was removed."""
        return tuple(self._issues)

    def _shown(self, text: str, *, is_last: bool) -> str:
        if self._is_over:
            return ""
        self._held += text
        if not self._is_open and not self._opens(is_last):
            return ""
        return self._spoken(is_last)

    def _opens(self, is_last: bool) -> bool:
        """Remove what must not stand at the start. False while that may still be on its way."""
        if self._already:
            start = self._held.lstrip()
            if len(start) < len(self._already) and self._already.startswith(start) and not is_last:
                return False
            if start.startswith(self._already):
                self._held = start[len(self._already) :]
                self._issues.append(Issue("repeats_itself", "The text that was to be continued was said again"))
            self._already = ""
        if self._closing is None:
            verdict, length = _name_in(self._held.lstrip(), self._speaker)
            if verdict == "maybe" and not is_last:
                return False
            if verdict == "yes":
                start = self._held.lstrip()
                lead = _LEAD.match(start)
                self._closing = lead[0].strip()[::-1] if lead else ""
                self._held = start[length:]
                self._issues.append(Issue("name_prefix", "The reply began with the speaker's name"))
            else:
                self._is_open = True
                return True
        # Behind a name in bold the asterisks may stand on the other side of the colon.
        if len(self._held) < len(self._closing) and self._closing.startswith(self._held) and not is_last:
            return False
        self._held = self._held.removeprefix(self._closing)
        self._closing = ""
        self._held = self._held.lstrip()
        if not self._held and not is_last:
            return False
        self._is_open = True
        return True

    def _spoken(self, is_last: bool) -> str:
        """What may be shown of the text that is held."""
        held = self._held
        starts = [0] if self._is_new_line else []
        starts += [place + 1 for place, mark in enumerate(held) if mark == "\n"]
        # Also at the end: a provider that stops at a name leaves the empty lines before it.
        end = len(held.rstrip())
        for start in starts:
            verdict, _ = _name_in(held[start : start + self._reach], self._others)
            if verdict == "yes":
                self._is_over = True
                self._issues.append(
                    Issue(self._flag, "The reply went on with a line of somebody else and was cut there")
                )
            if verdict == "yes" or (verdict == "maybe" and not is_last):
                end = min(end, len(held[:start].rstrip()))
                break
        self._held = held[end:]
        if end:
            self._is_new_line = False
        return held[:end]


def _name_in(text: str, names: Sequence[str]) -> tuple[_Verdict, int]:
    """Whether the text starts with one of the names and a colon, and how long that is."""
    is_possible = False
    lead = _LEAD.match(text)
    most = lead.end() if lead else 0
    for name in names:
        # The name itself may begin with markup, so every shorter lead counts too.
        for start in range(most, -1, -1):
            rest = text[start:]
            if len(rest) < len(name):
                is_possible = is_possible or _same(rest, name[: len(rest)])
            elif _same(rest[: len(name)], name):
                tail = _TAIL.match(rest, len(name))
                end = tail.end() if tail else len(name)
                if rest[end : end + 1] in _COLONS:
                    return "yes", start + end + 1
                is_possible = is_possible or end == len(rest)
    return ("maybe" if is_possible else "no"), 0


def _same(left: str, right: str) -> bool:
    return len(left) == len(right) and all(
        one == other or one.lower() == other.lower() for one, other in zip(left, right, strict=True)
    )
