"""Regular expressions written by strangers, searched in time that grows with the text and never explodes.

Python's `re` backtracks: a pattern such as (a+)+b stops the whole process for minutes. Here all ways through the
pattern are followed at once, so each character of the text is read once, and all work is paid from a budget. A library
with this property (google-re2) would be a binary dependency for this one use. What needs backtracking is refused:
lookaround, backreferences.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

PATTERN_CHARS = 500
STATES = 2_000
NESTING = 20
REPEATS = 200

Test = Callable[[str], bool]
Assertion = Literal["^", "$", "b", "B"]


class Unsupported(Exception):
    """This pattern cannot be used; the message says why."""


class OutOfBudget(Exception):
    """The search was ended before it was over."""


@dataclass(slots=True)
class Budget:
    """How much work is left, in steps: one for a character read, one for a state that is made or looked at anew."""

    steps: int

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise OutOfBudget


@dataclass(slots=True)
class _State:
    """Reads a character that passes `test`, or holds where `assertion` does, or forks; then goes to `following`."""

    following: list[int] = field(default_factory=list)
    test: Test | None = None
    assertion: Assertion | None = None


@dataclass(frozen=True, slots=True)
class _Repeat:
    node: _Node
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class _Choice:
    branches: tuple[tuple[_Node, ...], ...]


_Node = Test | Assertion | _Repeat | _Choice


class Pattern:
    """A pattern as JavaScript writes them, which is what character cards hold. `flags`: i, m, s count."""

    def __init__(self, source: str, flags: str, budget: Budget) -> None:
        """Raises Unsupported or OutOfBudget."""
        self._budget = budget
        if len(source) > PATTERN_CHARS:
            raise Unsupported(f"longer than {PATTERN_CHARS} characters")
        self._multiline = "m" in flags
        self._states: list[_State] = [_State()]
        self._end = 0
        self._start = self._link_choice(_Parser(source, flags).parsed(), self._end)
        self._known: dict[tuple[frozenset[int], str, str], frozenset[int] | None] = {}

    def found_in(self, text: str) -> bool:
        """Whether the pattern matches anywhere. Raises OutOfBudget."""
        active: frozenset[int] = frozenset()
        before = ""
        for mark in (*text, ""):
            self._budget.spend(1)
            key = (active, before, mark)
            if key in self._known:
                following = self._known[key]
            else:
                following = self._known[key] = self._step(active, before, mark)
            if following is None:
                return True
            active, before = following, _neighbour(mark)
        return False

    def _step(self, active: frozenset[int], before: str, mark: str) -> frozenset[int] | None:
        """The states after reading `mark` ("" at the end of the text); None when the end of the pattern is reached."""
        reached: set[int] = set()
        waiting = [self._start, *active]
        while waiting:
            place = waiting.pop()
            if place in reached:
                continue
            self._budget.spend(1)
            if place == self._end:
                return None
            reached.add(place)
            state = self._states[place]
            if state.test is None and (state.assertion is None or self._holds(state.assertion, before, mark)):
                waiting.extend(state.following)
        return frozenset(
            following
            for place in reached
            if (state := self._states[place]).test is not None and mark and state.test(mark)
            for following in state.following
        )

    def _holds(self, assertion: Assertion, before: str, mark: str) -> bool:
        if assertion == "^":
            return before == "" or (self._multiline and before == "\n")
        if assertion == "$":
            return mark == "" or (self._multiline and mark == "\n")
        return ((before == "w") != _is_word(mark)) is (assertion == "b")

    def _link(self, node: _Node, after: int) -> int:
        if isinstance(node, _Choice):
            return self._link_choice(node, after)
        if isinstance(node, _Repeat):
            return self._link_repeat(node, after)
        if callable(node):
            return self._add(_State([after], test=node))
        return self._add(_State([after], assertion=node))

    def _link_choice(self, choice: _Choice, after: int) -> int:
        starts = []
        for branch in choice.branches:
            start = after
            for node in reversed(branch):
                start = self._link(node, start)
            starts.append(start)
        return starts[0] if len(starts) == 1 else self._add(_State(starts))

    def _link_repeat(self, repeat: _Repeat, after: int) -> int:
        start = after
        if repeat.most is None:
            start = self._add(_State([after]))
            self._states[start].following.append(self._link(repeat.node, start))
        else:
            for _ in range(repeat.most - repeat.least):
                start = self._add(_State([self._link(repeat.node, start), after]))
        for _ in range(repeat.least):
            start = self._link(repeat.node, start)
        return start

    def _add(self, state: _State) -> int:
        if len(self._states) >= STATES:
            raise Unsupported("too many repetitions")
        self._budget.spend(1)
        self._states.append(state)
        return len(self._states) - 1


def _neighbour(mark: str) -> str:
    """All that an assertion wants to know of the character before."""
    return "w" if _is_word(mark) else mark if mark == "\n" else "x"


def _is_word(mark: str) -> bool:
    return mark.isalnum() or mark == "_"


_CLASSES: dict[str, Test] = {
    "d": str.isdecimal,
    "w": _is_word,
    "s": str.isspace,
    "D": lambda mark: not mark.isdecimal(),
    "W": lambda mark: not _is_word(mark),
    "S": lambda mark: not mark.isspace(),
}
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,5})\}")
_COUNT = re.compile(r"\{(\d{1,4})(?:(,)(\d{1,4})?)?\}")


class _Parser:
    def __init__(self, source: str, flags: str) -> None:
        self._source = source
        self._place = 0
        self._ignores_case = "i" in flags
        self._dot_takes_newline = "s" in flags

    def parsed(self) -> _Choice:
        choice = self._choice(0)
        if self._place < len(self._source):
            raise Unsupported("a parenthesis too many")
        return choice

    def _choice(self, depth: int) -> _Choice:
        if depth > NESTING:
            raise Unsupported("nested too deeply")
        branches: list[tuple[_Node, ...]] = []
        branch: list[_Node] = []
        while (mark := self._peek()) not in ("", ")"):
            if mark == "|":
                self._place += 1
                branches.append(tuple(branch))
                branch = []
            else:
                branch.append(self._repeated(self._atom(depth)))
        return _Choice((*branches, tuple(branch)))

    def _repeated(self, node: _Node) -> _Node:
        while True:
            counted = _COUNT.match(self._source, self._place)
            if counted:
                least = int(counted[1])
                most = int(counted[3]) if counted[3] else None if counted[2] else least
                self._place = counted.end()
            elif self._peek() in ("*", "+", "?") and self._peek():
                mark = self._take()
                least, most = (1 if mark == "+" else 0), (1 if mark == "?" else None)
            else:
                return node
            if max(least, most or 0) > REPEATS or (most is not None and most < least):
                raise Unsupported("a repetition out of range")
            # Greedy or lazy: whether there is a match is the same.
            if self._peek() == "?":
                self._place += 1
            if isinstance(node, str):
                raise Unsupported("a repeated assertion")
            node = _Repeat(node, least, most)

    def _atom(self, depth: int) -> _Node:
        mark = self._take()
        if mark == "(":
            return self._group(depth)
        if mark == "[":
            return self._set()
        if mark == ".":
            return _anything if self._dot_takes_newline else _not_newline
        if mark == "^":
            return "^"
        if mark == "$":
            return "$"
        if mark == "\\":
            return self._escape()
        if mark in ("*", "+", "?"):
            raise Unsupported("nothing to repeat")
        return self._literal(mark)

    def _group(self, depth: int) -> _Choice:
        if self._peek() == "?":
            named = re.compile(r"\?(?::|<[A-Za-z_]\w*>)").match(self._source, self._place)
            if named is None:
                raise Unsupported("lookaround and the like")
            self._place = named.end()
        choice = self._choice(depth + 1)
        if self._take() != ")":
            raise Unsupported("a parenthesis is missing")
        return choice

    def _escape(self) -> _Node:
        mark = self._peek()
        if mark == "b":
            self._place += 1
            return "b"
        if mark == "B":
            self._place += 1
            return "B"
        escaped = self._escaped()
        return escaped if callable(escaped) else self._literal(escaped)

    def _escaped(self) -> Test | str:
        """What follows a backslash: a class, or one character."""
        coded = _HEX.match(self._source, self._place)
        if coded:
            self._place = coded.end()
            return chr(int(coded[1] or coded[2] or coded[3], 16))
        mark = self._take()
        if mark in _CLASSES:
            return _CLASSES[mark]
        if mark in _CONTROLS:
            return _CONTROLS[mark]
        if not mark or mark.isalnum():
            raise Unsupported("backreferences and the like")
        return mark

    def _set(self) -> Test:
        is_negated = self._peek() == "^"
        if is_negated:
            self._place += 1
        tests: list[Test] = []
        while (low := self._member()) != "]":
            if callable(low):
                tests.append(low)
                continue
            # A hyphen before the closing bracket is a hyphen.
            if self._peek() == "-" and self._source[self._place + 1 : self._place + 2] not in ("]", ""):
                self._place += 1
                high = self._member()
                if callable(high):
                    raise Unsupported("a range without an end")
                tests.append(self._range(low[-1], high[-1]))
            else:
                tests.append(self._literal(low[-1]))
        if is_negated:
            return lambda mark: not any(test(mark) for test in tests)
        return lambda mark: any(test(mark) for test in tests)

    def _member(self) -> Test | str:
        """A class or one character of a set; an escaped one keeps its backslash, so that ] is only the end."""
        mark = self._take()
        if not mark:
            raise Unsupported("a bracket is missing")
        if mark != "\\":
            return mark
        escaped = "\b" if self._peek() == "b" else None
        if escaped:
            self._place += 1
            return "\\" + escaped
        member = self._escaped()
        return member if callable(member) else "\\" + member

    def _range(self, low: str, high: str) -> Test:
        if low > high:
            raise Unsupported("a range that is upside down")
        return self._folded(lambda mark: low <= mark <= high)

    def _literal(self, wanted: str) -> Test:
        return self._folded(lambda mark: mark == wanted)

    def _folded(self, test: Test) -> Test:
        if not self._ignores_case:
            return test
        return lambda mark: test(mark) or test(mark.lower()) or test(mark.upper())

    def _peek(self) -> str:
        return self._source[self._place : self._place + 1]

    def _take(self) -> str:
        mark = self._peek()
        self._place += 1
        return mark


def _anything(mark: str) -> bool:
    return True


def _not_newline(mark: str) -> bool:
    return mark not in "\n\r"
