"""Texts with places to fill in: ${names} in the sentences of admins, {{macros}} in the texts of character cards."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from string import Template
from typing import Any

_MACRO = re.compile(r"\{\{([^{}]{1,2000})\}\}|<(user|char|bot)>", re.IGNORECASE)
# Notes of a card's author to readers; the V3 specification takes them out of prompts.
_SILENT = ("//", "comment:", "hidden_key:")
_COMMA = re.compile(r"(?<!\\),")


def render(template: str, **values: str) -> str:
    """Fill in the names, once: a value that looks like a placeholder stays text. An unknown name is left as written."""
    return Template(template).safe_substitute(values)


def system_message(text: str | None) -> list[dict[str, Any]]:
    """The system message, or none where there is nothing to say."""
    return [{"role": "system", "content": text}] if text and text.strip() else []


@dataclass(frozen=True, slots=True)
class Macros:
    """What the macros of a character card stand for.

    {{char}}, {{user}}, {{original}} and the older <BOT>, <CHAR>, <USER>, in any case. {{random:a,b}}, {{pick:a,b}} and
    {{roll:6}} choose by `seed`: always the same in one chat, so that its prompts stay byte for byte what they were.
    Comments are removed. Macros that nobody knows are left as written.
    """

    char: str
    user: str
    seed: str = ""

    def fill(self, text: str, original: str = "") -> str:
        """Fill in the macros, once: a value that looks like a macro stays text."""
        return _MACRO.sub(lambda found: self._value(found, original), text)

    def _value(self, found: re.Match[str], original: str) -> str:
        word = (found[1] or found[2]).strip()
        known = {"char": self.char, "bot": self.char, "user": self.user, "original": original}.get(word.lower())
        if known is not None and (found[2] or word.lower() != "bot"):
            return known
        if word.lower().startswith(_SILENT):
            return ""
        name, mark, rest = word.partition("::" if "::" in word else ":")
        if mark and name.lower() in ("random", "pick"):
            choices = rest.split("::") if mark == "::" else _COMMA.split(rest)
            return choices[self._chosen(word, len(choices))].strip().replace("\\,", ",")
        sides = re.fullmatch(r"1?d?(\d{1,6})", rest.strip(), re.IGNORECASE)
        if mark and name.lower() == "roll" and sides and int(sides[1]) > 0:
            return str(1 + self._chosen(word, int(sides[1])))
        return found[0]

    def _chosen(self, word: str, choices: int) -> int:
        told = hashlib.sha256(f"{self.seed}\0{self.char}\0{word}".encode("utf-8", "replace")).digest()
        return int.from_bytes(told[:8], "big") % choices
