"""Who is played: a character from a sentence, an object, or a character card (V1, V2, V3) in any of its files."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared import character_file, lorebook
from shared.fields import Fields, invalid
from shared.lorebook import Lorebook

SENTENCE_CHARS = 20_000
NAME_CHARS = 200
GREETINGS = 200
DEFAULT_DEPTH = 4
# A longer text describes somebody; it is not what others call them.
CALLED_CHARS = 80


@dataclass(frozen=True, slots=True)
class Note:
    """A reminder that stands `depth` messages before the end of the conversation."""

    text: str
    depth: int = DEFAULT_DEPTH


@dataclass(frozen=True, slots=True)
class Character:
    """What is known of a character. Texts may hold macros; nothing is filled in yet.

    `called` is the name that stands for {{char}} and before the character's lines, None where nobody said it.
    `greetings` are the first message and its alternatives, in the card's order. `ages` are ages given as fields.
    """

    name: str
    called: str | None
    description: str = ""
    personality: str = ""
    scenario: str = ""
    greetings: tuple[str, ...] = ()
    examples: str = ""
    system_prompt: str = ""
    post_history: str = ""
    note: Note | None = None
    book: Lorebook | None = None
    ages: tuple[str, ...] = ()


def read(given: str | Mapping[str, Any], field: str = "character") -> Character:
    """The character. Raises InvalidRequest that names the wrong field. Unknown fields are ignored."""
    if isinstance(given, str):
        if character_file.is_file(given):
            return _from_object(character_file.card_in(given, field), field)
        if len(given) > SENTENCE_CHARS:
            raise invalid(field, f"At most {SENTENCE_CHARS} characters are accepted, unless it is a file in base64")
        if not given.strip():
            raise invalid(field, "The character has no name")
        is_name = len(given) <= CALLED_CHARS and "\n" not in given
        return Character(name=given, called=given.strip() if is_name else None)
    return _from_object(given, field)


def example_blocks(examples: str) -> tuple[str, ...]:
    """The example conversations of a card, which `<START>` separates."""
    blocks = (block.strip() for block in re.split(r"<START>", examples, flags=re.IGNORECASE))
    return tuple(block for block in blocks if block)


def _from_object(card: Mapping[str, Any], field: str) -> Character:
    """Fields of V1 stand at the top, those of V2 and V3 in `data`. Older tools said char_name and the like."""
    outer = Fields(card, field)
    data = outer.object("data") if outer.has("data") or outer.has("spec") else outer
    name = data.text("name", "char_name", limit=NAME_CHARS)
    if not name.strip():
        raise invalid(data.raw("name", "char_name")[0], "The character has no name")
    extensions = data.extension("extensions")
    path, book = data.raw("character_book")
    greetings = (
        data.text("first_mes", "first_message", "char_greeting"),
        *data.texts("alternate_greetings", most=GREETINGS),
    )
    return Character(
        name=name,
        called=data.text("nickname", limit=NAME_CHARS).strip() or name.strip(),
        description=data.text("description", "char_persona"),
        personality=data.text("personality"),
        scenario=data.text("scenario", "world_scenario"),
        greetings=greetings if any(greetings) else (),
        examples=data.text("mes_example", "example_dialogue"),
        system_prompt=data.text("system_prompt"),
        post_history=data.text("post_history_instructions"),
        note=_note(extensions.extension("depth_prompt")),
        book=None if book is None else lorebook.read(book, path),
        ages=tuple(
            str(age)
            for held in (data, extensions)
            for _, age in [held.raw("age")]
            if isinstance(age, str | int | float)
        ),
    )


def _note(fields: Fields) -> Note | None:
    """The character's note, which one application keeps among its extensions."""
    text, depth = fields.text("prompt"), fields.number("depth")
    return Note(text, DEFAULT_DEPTH if depth is None else max(0, int(depth))) if text.strip() else None
