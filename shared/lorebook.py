"""Lore that is told only when it matters: which entries of a lorebook fire for a conversation, and why.

Read are the books of V2 and V3 character cards and SillyTavern's world info.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from shared import tokens
from shared.fields import Fields, invalid
from shared.pattern import Budget, OutOfBudget, Pattern, Unsupported

ENTRIES = 2_000
KEYS_PER_ENTRY = 200
KEYS = 10_000
CONTENT_CHARS = 50_000
DEFAULT_SCAN_DEPTH = 4
DEFAULT_DEPTH = 4
DEFAULT_ORDER = 100.0
# How far back keys look, whatever the scan depth: the end of the text counts.
SCANNED_CHARS = 20_000
REGEX_SCANNED_CHARS = 10_000
# What looking for keys may cost, in the steps of `shared/pattern.py`: each about a microsecond at worst.
REGEX_STEPS = 200_000
WORD_STEPS = 400_000
STEPS_PER_KEY = 20
# How many times entries may be fired by entries that were fired by entries …
RECURSIONS = 5
# What a book without a budget may take of the model's context, which is taken to be this long when it is not known.
CONTEXT_SHARE = 0.25
UNKNOWN_CONTEXT_TOKENS = 8_000

Position = Literal["before_char", "after_char", "at_depth"]
Role = Literal["system", "user", "assistant"]
# Of the secondary keys: one is there, not all are there, none is there, all are there.
Logic = Literal["and_any", "not_all", "not_any", "and_all"]

_LOGICS: tuple[Logic, ...] = ("and_any", "not_all", "not_any", "and_all")
_ROLES: tuple[Role, ...] = ("system", "user", "assistant")
# SillyTavern's numbers: before, after, around the author's note (2, 3), at depth, around the examples (5, 6), outlet.
_POSITIONS: tuple[Position, ...] = (
    *("before_char", "after_char", "at_depth", "at_depth", "at_depth"),
    *("after_char", "after_char", "after_char"),
)
_SLASHED = re.compile(r"/(.+)/([a-z]*)", re.DOTALL)
_DECORATOR = re.compile(r"@@@?(\w+)[ \t]*(.*)")
# From here on scripts do without spaces, so that a word has no visible end.
_UNSPACED = "\u2e80"


@dataclass(frozen=True, slots=True)
class Entry:
    """A piece of lore and when to tell it. `scan_depth` None means the book's."""

    name: str
    content: str
    keys: tuple[str, ...] = ()
    secondary_keys: tuple[str, ...] = ()
    logic: Logic = "and_any"
    is_enabled: bool = True
    is_constant: bool = False
    is_regex: bool = False
    is_case_sensitive: bool = False
    takes_whole_words: bool = True
    is_fired_by_lore: bool = True
    fires_lore: bool = True
    order: float = DEFAULT_ORDER
    priority: float = DEFAULT_ORDER
    position: Position = "before_char"
    depth: int = DEFAULT_DEPTH
    role: Role = "system"
    scan_depth: int | None = None


@dataclass(frozen=True, slots=True)
class Lorebook:
    """Entries in the book's order. `token_budget` None means a share of the model's context."""

    entries: tuple[Entry, ...]
    scan_depth: int = DEFAULT_SCAN_DEPTH
    token_budget: int | None = None
    is_recursive: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of an entry."""

    entry: Entry
    fired: bool
    reason: str

    @property
    def tokens(self) -> int:
        """Estimated before macros are filled in."""
        return tokens.estimate(self.entry.content)

    def account(self) -> dict[str, Any]:
        """For a caller who wants to know."""
        position = f"depth {self.entry.depth}" if self.entry.position == "at_depth" else self.entry.position
        return {
            "name": self.entry.name,
            "fired": self.fired,
            "reason": self.reason,
            "tokens": self.tokens,
            "position": position,
        }


def read(given: Any, field: str = "lorebook") -> Lorebook:
    """The book. Raises InvalidRequest that names the wrong field. Unknown fields are ignored."""
    if isinstance(given, list):
        given = {"entries": given}
    if not isinstance(given, Mapping):
        raise invalid(field, "This should be an object")
    book = Fields(given, field)
    if book.has("data") and not book.has("entries"):
        book = book.object("data")
    scan_depth, budget = book.number("scan_depth"), book.number("token_budget")
    entries = tuple(
        _entry(fields, f"entry {place}") for place, fields in enumerate(book.objects("entries", most=ENTRIES))
    )
    if sum(len(entry.keys) + len(entry.secondary_keys) for entry in entries) > KEYS:
        raise invalid(book.at("entries"), f"At most {KEYS} keys are accepted in one book")
    return Lorebook(
        entries=entries,
        scan_depth=DEFAULT_SCAN_DEPTH if scan_depth is None else max(0, int(scan_depth)),
        token_budget=None if budget is None else max(0, int(budget)),
        is_recursive=book.flag("recursive_scanning"),
    )


def findings(book: Lorebook, messages: Sequence[str], fill: Callable[[str], str]) -> tuple[Finding, ...]:
    """What becomes of each entry, in the book's order, before anything is dropped for its size.

    `messages` are the texts of the conversation, oldest first; `fill` fills in macros.
    """
    return _Scan(book, messages, fill).findings()


def within_budget(found: Sequence[Finding], book: Lorebook, context_length: int | None) -> tuple[Finding, ...]:
    """The same findings, with those dropped that the budget has no room for: the lowest priority first.

    Constant entries stay longest, so that the part of the prompt in which they stand changes least.
    """
    room = UNKNOWN_CONTEXT_TOKENS if context_length is None else context_length
    left = int(room * CONTEXT_SHARE) if book.token_budget is None else min(book.token_budget, room)
    kept: dict[int, Finding] = {}
    fired = [place for place, finding in enumerate(found) if finding.fired]
    fired.sort(key=lambda place: (not found[place].entry.is_constant, -found[place].entry.priority, place))
    is_full = False
    for place in fired:
        # What has less priority never takes the room of what had more.
        is_full = is_full or found[place].tokens > left
        if is_full:
            kept[place] = replace(found[place], fired=False, reason="over the token budget")
        else:
            left -= found[place].tokens
    return tuple(kept.get(place, finding) for place, finding in enumerate(found))


def in_order(found: Sequence[Finding]) -> list[Finding]:
    """Those that fired, in the order in which they are told: the lower number first."""
    return sorted((finding for finding in found if finding.fired), key=lambda finding: finding.entry.order)


class _Scan:
    """One reading of the conversation for one book."""

    def __init__(self, book: Lorebook, messages: Sequence[str], fill: Callable[[str], str]) -> None:
        self._book = book
        self._messages = messages
        self._fill = fill
        self._regex_budget = Budget(REGEX_STEPS)
        self._word_budget = Budget(WORD_STEPS)
        self._found: dict[int, Finding] = {}
        self._texts: dict[int, _Text] = {}

    def findings(self) -> tuple[Finding, ...]:
        entries = self._book.entries
        for place, entry in enumerate(entries):
            self._judge(place, entry, self._recent(entry), "")
        news = [finding for finding in self._found.values() if finding.fired]
        for _ in range(RECURSIONS if self._book.is_recursive else 0):
            lore = _Text("\n".join(found.entry.content for found in news if found.entry.fires_lore)[:SCANNED_CHARS])
            silent = [place for place, finding in self._found.items() if not finding.fired]
            for place in silent:
                if lore.text and entries[place].is_enabled and entries[place].is_fired_by_lore:
                    self._judge(place, entries[place], lore, "in other lore: ")
            news = [self._found[place] for place in silent if self._found[place].fired]
        return tuple(self._found[place] for place in range(len(entries)))

    def _judge(self, place: int, entry: Entry, text: _Text, where: str) -> None:
        fired, reason = self._verdict(entry, text)
        if fired or place not in self._found:
            self._found[place] = Finding(entry, fired, where + reason if fired else reason)

    def _verdict(self, entry: Entry, text: _Text) -> tuple[bool, str]:
        if not entry.is_enabled:
            return False, "disabled"
        if not entry.content:
            return False, "empty"
        if entry.is_constant:
            return True, "constant"
        try:
            key = next((key for key in entry.keys if self._matches(entry, key, text)), None)
            if key is None:
                return False, "no key found"
            if not entry.secondary_keys:
                return True, f"key {key!r}"
            second = [key for key in entry.secondary_keys if self._matches(entry, key, text)]
        except Unsupported as why:
            return False, f"a regular expression cannot be used: {why}"
        except OutOfBudget:
            return False, "looking for the keys of this book took too long"
        if not _holds(entry.logic, len(second), len(entry.secondary_keys)):
            return False, f"key {key!r}, but the secondary keys say no"
        return True, f"key {key!r} and the secondary keys"

    def _matches(self, entry: Entry, key: str, text: _Text) -> bool:
        if "{{" in key:
            key = self._fill(key)
        slashed = _SLASHED.fullmatch(key)
        if slashed or entry.is_regex:
            # JavaScript's flags; without slashes there are none, and the entry decides.
            source, flags = (slashed[1], slashed[2]) if slashed else (key, "" if entry.is_case_sensitive else "i")
            return Pattern(source, flags, self._regex_budget).found_in(text.text[-REGEX_SCANNED_CHARS:])
        self._word_budget.spend(STEPS_PER_KEY)
        return text.contains(key.strip(), entry.is_case_sensitive, entry.takes_whole_words, self._word_budget)

    def _recent(self, entry: Entry) -> _Text:
        depth = self._book.scan_depth if entry.scan_depth is None else entry.scan_depth
        depth = min(depth, len(self._messages))
        if depth not in self._texts:
            recent = self._messages[len(self._messages) - depth :]
            self._texts[depth] = _Text("\n".join(recent)[-SCANNED_CHARS:])
        return self._texts[depth]


@dataclass(slots=True)
class _Text:
    """A text to look for keys in."""

    text: str
    lower: str = field(init=False)

    def __post_init__(self) -> None:
        self.lower = self.text.lower()

    def contains(self, key: str, is_case_sensitive: bool, takes_whole_words: bool, budget: Budget) -> bool:
        text, key = (self.text, key) if is_case_sensitive else (self.lower, key.lower())
        if not key:
            return False
        place = text.find(key)
        if not takes_whole_words:
            return place >= 0
        while place >= 0:
            budget.spend(1)
            end = place + len(key)
            if not (_joined(text[place - 1 : place], key[0]) or _joined(key[-1], text[end : end + 1])):
                return True
            place = text.find(key, place + 1)
        return False


def _joined(left: str, right: str) -> bool:
    """Whether two neighbours belong to one word."""
    return all(mark.isalnum() and mark < _UNSPACED for mark in (left, right))


def _holds(logic: Logic, found: int, all_keys: int) -> bool:
    if logic == "and_any":
        return found > 0
    if logic == "and_all":
        return found == all_keys
    return found < all_keys if logic == "not_all" else found == 0


def _entry(fields: Fields, number: str) -> Entry:
    """An entry of a card's book, or one of SillyTavern's, which has other names for the same things."""
    more = fields.extension("extensions")
    told, content = _undecorated(fields.text("content", limit=CONTENT_CHARS))
    keys = fields.texts("keys", "key", most=KEYS_PER_ENTRY)
    second = fields.texts("secondary_keys", "keysecondary", most=KEYS_PER_ENTRY)
    logic = _one_of(_LOGICS, fields.raw("selective_logic")[1], more.raw("selective_logic")[1])
    order = fields.number("insertion_order", "order")
    order = DEFAULT_ORDER if order is None else order
    priority = fields.number("priority")
    depth = _first(_whole(told.get("depth")), fields.number("depth"), _number(more, "depth"))
    scan_depth = _first(_whole(told.get("scan_depth")), fields.number("scan_depth"), _number(more, "scan_depth"))
    return Entry(
        name=(fields.text("name") or fields.text("comment") or ", ".join(keys[:1]) or number)[:200],
        content=content.strip(),
        keys=keys,
        secondary_keys=second if fields.flag("selective", default=bool(second)) else (),
        logic=logic or "and_any",
        is_enabled=fields.flag("enabled", default=True)
        and not fields.flag("disable")
        and "dont_activate" not in told
        and not _is_never(fields, more),
        is_constant=fields.flag("constant") or "constant" in told or "activate" in told,
        is_regex=fields.flag("use_regex"),
        is_case_sensitive=fields.flag("case_sensitive", default=more.raw("case_sensitive")[1] is True),
        takes_whole_words=fields.flag("match_whole_words", default=more.raw("match_whole_words")[1] is not False),
        is_fired_by_lore=not (fields.flag("exclude_recursion") or more.raw("exclude_recursion")[1] is True),
        fires_lore=not (fields.flag("prevent_recursion") or more.raw("prevent_recursion")[1] is True),
        order=order,
        priority=order if priority is None else priority,
        position=_position(fields, more, told),
        depth=DEFAULT_DEPTH if depth is None else max(0, int(depth)),
        role=_one_of(_ROLES, told.get("role"), fields.raw("role")[1], more.raw("role")[1]) or "system",
        scan_depth=None if scan_depth is None else max(0, int(scan_depth)),
    )


def _position(fields: Fields, more: Fields, told: Mapping[str, str]) -> Position:
    if "depth" in told:
        return "at_depth"
    if "position" in told:
        return "before_char" if told["position"].startswith("before") else "after_char"
    # SillyTavern keeps its finer number beside the word of the specification.
    return _one_of(_POSITIONS, more.raw("position")[1], fields.raw("position")[1]) or "before_char"


def _undecorated(content: str) -> tuple[dict[str, str], str]:
    """The decorators of a V3 entry, its first lines that begin with @@, and the rest."""
    told: dict[str, str] = {}
    lines = content.split("\n")
    while lines and (decorator := _DECORATOR.fullmatch(lines[0].strip())):
        told.setdefault(decorator[1], decorator[2].strip())
        lines.pop(0)
    return told, "\n".join(lines) if told else content


def _is_never(fields: Fields, more: Fields) -> bool:
    """Chance is left out, so that the same chat gets the same prompt; a probability of 0 is no chance at all."""
    return 0 in (_number(fields, "probability"), _number(more, "probability"))


def _number(fields: Fields, name: str) -> float | None:
    """A number among fields that applications use as they like."""
    value = fields.raw(name)[1]
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return max(-1e9, min(1e9, value)) if is_number else None


def _whole(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d{1,6}", text) else None


def _first(*numbers: float | None) -> float | None:
    return next((number for number in numbers if number is not None), None)


def _one_of(known: tuple[Any, ...], *given: Any) -> Any:
    """The first that is known, by its word or by its number."""
    for value in given:
        if isinstance(value, str) and value in known:
            return value
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(known):
            return known[value]
    return None
