"""Where one text continues another: what the second repeats, where sentences end, what the model is shown again."""

# ruff: noqa: RUF001 - the punctuation of books, not look-alikes by mistake

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from shared.quality import Issue

# How far back a repeat is looked for. Models repeat a sentence or two, seldom a page.
REPEATED_CHARS = 2_000
# A shorter match, white space not counted, may be an echo that the author meant: '"Run!" … "Run!" she cried'.
LEAST_REPEAT = 16

_TITLES = "".join(rf"(?<!\b{title})" for title in ("Mr", "Mrs", "Ms", "Dr", "St"))
_CLOSING = r"[\"'”’»)\]*_]*"
_SENTENCE_END = re.compile(rf"{_TITLES}[.!?…]+{_CLOSING}(?=\s)|[。！？]+[」』”’]*(?=[^。！？」』”’])|\n")
_ENDED = re.compile(rf"(?:[.!?…]{_CLOSING}|[。！？][」』”’]*)\s*\Z")
_MARKS = ".!?…。！？」』\"'”’»)]*_"
_STRAIGHT = str.maketrans("“”„‘’", '"""\'\'')


def tail(text: str, chars: int) -> str:
    """At most `chars` characters from the end of a text, from the beginning of a sentence where there is one."""
    if len(text) <= chars:
        return text
    cut = text[len(text) - chars :]
    first_end = _SENTENCE_END.search(cut)
    return (cut[first_end.end() :].lstrip() if first_end else "") or cut


def overlap(before: str, after: str) -> int:
    """How many characters at the beginning of `after` repeat the end of `before`.

    The longest match counts. It begins where a sentence of `before` begins and has at least LEAST_REPEAT characters;
    case, white space and the shape of quotation marks do not matter.
    """
    repeat = _Repeat(before)
    repeat.feed(after)
    return repeat.length


class Continuation:
    """An editor: leaves out what the beginning of a continuation repeats of the text before it.

    `joined` also puts the break between the two: the texts can be written one after the other.
    """

    def __init__(self, before: str, *, joined: bool = False) -> None:
        self._repeat: _Repeat | None = _Repeat(before)
        self._heard = ""
        self._break = _break_after(before) if joined else None

    def feed(self, text: str) -> str:
        if self._repeat is None:
            return self._joined(text)
        self._heard += text
        if self._repeat.feed(text):
            return ""
        return self._decide()

    def finish(self) -> str:
        return self._decide() if self._repeat is not None else ""

    def issues(self) -> Sequence[Issue]:
        return ()

    def _decide(self) -> str:
        assert self._repeat is not None
        rest = self._heard[self._repeat.length :]
        self._repeat, self._heard = None, ""
        return self._joined(rest)

    def _joined(self, text: str) -> str:
        if self._break is None:
            return text
        text = text.lstrip()
        if not text:
            return ""
        between, self._break = self._break, None
        return between + text


class WholeSentences:
    """Holds back the sentence that is being written, so that a text which is cut off can end with a whole one."""

    def __init__(self) -> None:
        self._held = ""
        self._shown = False

    def feed(self, text: str) -> str:
        """The sentences that are whole by now."""
        # What was held before has no end in it, unless its last marks only waited for what follows them.
        unread = len(self._held.rstrip(_MARKS))
        held = self._held + text
        end = max((found.end() for found in _SENTENCE_END.finditer(held, unread)), default=0)
        self._held = held[end:]
        self._shown = self._shown or end > 0
        return held[:end]

    def finish(self, *, cut_off: bool) -> str:
        """The rest, without the sentence that was cut off; with it where there is no other."""
        rest, self._held = self._held, ""
        unfinished = cut_off and self._shown and not _ENDED.search(rest)
        return "" if unfinished else rest


class _Repeat:
    """Listens to a continuation until it is certain how much of its beginning is a repeat."""

    def __init__(self, before: str) -> None:
        end = before[-REPEATED_CHARS:]
        starts = [found.end() for found in _SENTENCE_END.finditer(end)]
        if len(end) == len(before):
            starts.insert(0, 0)
        written, places = _plain(end)
        ends = dict.fromkeys(written[bisect_left(places, start) :] for start in starts)
        self._open = [wanted for wanted in ends if len(wanted) >= LEAST_REPEAT]
        self._said = ""
        self._places: list[int] = []
        self._chars = 0
        self.length = 0

    def feed(self, text: str) -> bool:
        """Whether more must be heard; `length` is what is certain so far."""
        if not self._open:
            return False
        said, places = _plain(text)
        self._said += said
        self._places += [self._chars + place for place in places]
        self._chars += len(text)
        still_open = []
        for wanted in self._open:
            if self._said.startswith(wanted):
                self.length = max(self.length, self._places[len(wanted) - 1] + 1)
            elif wanted.startswith(self._said):
                still_open.append(wanted)
        self._open = still_open
        return bool(still_open)


def _plain(text: str) -> tuple[str, list[int]]:
    """The text as it is compared, and where each of its characters stood."""
    characters: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text.translate(_STRAIGHT)):
        if not character.isspace():
            for folded in character.casefold():
                characters.append(folded)
                places.append(place)
    return "".join(characters), places


def _break_after(text: str) -> str:
    lines = len(text) - len(text.rstrip("\n"))
    if lines or _ENDED.search(text):
        return "\n\n"[lines:]
    return "" if text[-1:].isspace() else " "
