"""Reads objects that strangers wrote to formats of strangers: known fields are checked, unknown ones ignored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from shared.errors import Detail, InvalidRequest

PASSAGE_CHARS = 200_000
NAME_SHOWN_CHARS = 64


def invalid(field: str, message: str) -> InvalidRequest:
    """What to raise for one wrong field."""
    return InvalidRequest(details=[Detail(field, message)])


class Fields:
    """One object and the dotted path at which it stands in the request.

    A field may go by several names, the first that is there counts; null is the same as absent. A value of the wrong
    kind raises InvalidRequest with the path of the field, never with the value.
    """

    def __init__(self, held: Mapping[str, Any], path: str) -> None:
        self._held = held
        self.path = path

    def at(self, name: str) -> str:
        """The dotted path of a field."""
        return f"{self.path}.{name}"

    def has(self, name: str) -> bool:
        return self._held.get(name) is not None

    def raw(self, *names: str) -> tuple[str, Any]:
        """The path of the first name that is there and its value, or the first name and None."""
        for name in names:
            for spelling in (name, _camel(name)):
                if self.has(spelling):
                    return self.at(spelling), self._held[spelling]
        return self.at(names[0]), None

    def text(self, *names: str, limit: int = PASSAGE_CHARS) -> str:
        """The text, or nothing."""
        path, value = self.raw(*names)
        return "" if value is None else _text(value, path, limit)

    def texts(self, *names: str, most: int) -> tuple[str, ...]:
        """A list of texts. One text stands for a list that was written with commas."""
        path, value = self.raw(*names)
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",")]
        return tuple(_text(held, f"{path}.{index}", PASSAGE_CHARS) for index, held in _listed(value, path, most))

    def number(self, *names: str) -> float | None:
        path, value = self.raw(*names)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid(path, "This should be a number")
        if isinstance(value, float) and not math.isfinite(value):
            raise invalid(path, "This should be a finite number")
        # Beyond this a float could not hold the integer; nobody counts so far.
        return float(max(-(2**53), min(2**53, value)))

    def flag(self, *names: str, default: bool = False) -> bool:
        path, value = self.raw(*names)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise invalid(path, "This should be true or false")
        return value

    def object(self, *names: str) -> Fields:
        """The object in a field, or an empty one."""
        path, value = self.raw(*names)
        if value is None:
            return Fields({}, path)
        if not isinstance(value, Mapping):
            raise invalid(path, "This should be an object")
        return Fields(value, path)

    def extension(self, *names: str) -> Fields:
        """The object in a field that applications use as they like: anything else counts as empty."""
        path, value = self.raw(*names)
        return Fields(value if isinstance(value, Mapping) else {}, path)

    def objects(self, *names: str, most: int) -> Iterator[Fields]:
        """The objects of a list, or of an object by number as some applications write lists."""
        path, value = self.raw(*names)
        items = value.items() if isinstance(value, Mapping) else _listed(value, path, most)
        if len(value or ()) > most:
            raise invalid(path, f"At most {most} are accepted")
        for name, held in items:
            inner = f"{path}.{_readable(name)}"
            if not isinstance(held, Mapping):
                raise invalid(inner, "This should be an object")
            yield Fields(held, inner)


def _listed(value: Any, path: str, most: int) -> Sequence[tuple[int, Any]]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise invalid(path, "This should be a list")
    if len(value) > most:
        raise invalid(path, f"At most {most} are accepted")
    return list(enumerate(value))


def _text(value: Any, path: str, limit: int) -> str:
    if not isinstance(value, str):
        raise invalid(path, "This should be text")
    if len(value) > limit:
        raise invalid(path, f"At most {limit} characters are accepted")
    if "\0" in value:
        raise invalid(path, "Text must not contain the character U+0000")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise invalid(path, "Text must not contain half of a surrogate pair") from None
    return value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def _readable(name: object) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in str(name)[:NAME_SHOWN_CHARS])
