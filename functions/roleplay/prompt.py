"""A scene as the model reads it.

The order is chosen for caches: what stays the same in a chat comes first and is the same byte for byte (one system
message: sentence, constant lore, character, examples), then the lore that the last messages called up, then the
conversation with its notes at their depths, the card's last instructions, and what is wanted now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from functions.roleplay.contract import Action, RoleplayRequest
from shared import character, lorebook, safety, templates, tokens
from shared.character import Character, Note
from shared.conversation import Conversation, Prompt, Section
from shared.fields import invalid
from shared.lorebook import Finding, Lorebook, Position
from shared.routing import Preset
from shared.safety import Passage
from shared.speech import Speech
from shared.templates import Macros

# What the sentence says when nobody set a scene.
OPEN_SCENE = "an open-ended conversation"
NOBODY = "the character"
SOMEBODY = "User"
MOST_STOPS = 4
# Example dialogue is left out from its end where it would take more of the model's context.
EXAMPLES_SHARE = 0.25

Turn = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that does not depend on who is asked. Texts still hold their macros."""

    request: RoleplayRequest
    character: Character
    macros: Macros
    turns: Sequence[Turn]
    wish: str
    lore: Sequence[tuple[Lorebook, Sequence[Finding]]]
    notes: Sequence[Note]

    @property
    def scenario(self) -> str:
        return self.macros.fill(self.request.scenario or self.character.scenario)

    def params(self) -> dict[str, Any]:
        """The caller's parameters, and as many of our stop strings as there is room for."""
        given = self.request.params()
        own = [f"\n{name}:" for name in self._others()]
        return {**given, "stop": list(dict.fromkeys([*given.get("stop", ()), *own]))[:MOST_STOPS]}

    def editor(self) -> Speech:
        """A new editor for one reply."""
        spoken = [turn["content"] for turn in self.turns if turn["role"] == "assistant"]
        already = spoken[-1] if self.request.action == "continue" else ""
        if self.request.action == "impersonate":
            return Speech(self.macros.user, self._others(), flag="speaks_for_character")
        return Speech(self.character.called, self._others(), already=already)

    def _others(self) -> list[str]:
        """Whose lines do not belong into the reply."""
        if self.request.action == "impersonate":
            return [self.character.called] if self.character.called else []
        names = dict.fromkeys([self.macros.user, SOMEBODY])
        return [name for name in names if name != self.character.called]


def scene(request: RoleplayRequest) -> Scene:
    """Raises InvalidRequest for a card, a book or an action that cannot be, and ContentBlocked (`shared/safety.py`)."""
    played = character.read(request.character)
    macros = Macros(char=played.called or NOBODY, user=request.user_name or SOMEBODY, seed=request.session_id or "")
    turns, wish = _acted(request.action, _opened(request, played, macros), macros)
    texts = [turn["content"] for turn in turns]
    books = [played.book, None if request.lorebook is None else lorebook.read(request.lorebook)]
    made = Scene(
        request=request,
        character=played,
        macros=macros,
        turns=turns,
        wish=wish,
        lore=[(book, lorebook.findings(book, texts, macros.fill)) for book in books if book is not None],
        notes=_notes(request, played),
    )
    _refuse_the_unspeakable(made)
    return made


def messages(scene: Scene) -> Prompt:
    """The scene for the preset's sentence and a model's context."""

    def build(preset: Preset, context_length: int | None) -> Conversation:
        fill, played = scene.macros.fill, scene.character
        lore = [
            finding for book, found in scene.lore for finding in lorebook.within_budget(found, book, context_length)
        ]
        told = lorebook.in_order(lore)

        def lines(position: Position, *, is_constant: bool) -> list[str]:
            entries = [found.entry for found in told if found.entry.is_constant is is_constant]
            return [fill(entry.content) for entry in entries if entry.position == position]

        sentence, bare = _sentence(scene, preset)
        scenario = scene.scenario if scene.scenario not in sentence else ""
        examples = _examples(scene, context_length)
        post_history = "" if scene.request.action == "impersonate" else fill(played.post_history).strip()
        known = (
            ("Description", fill(played.description)),
            ("Personality", fill(played.personality)),
            ("Scenario", scenario),
            ("The user's name", scene.request.user_name or ""),
        )
        stable = (
            sentence,
            *lines("before_char", is_constant=True),
            *(f"{what}: {text.strip()}" for what, text in known if text.strip()),
            *lines("after_char", is_constant=True),
            examples,
        )
        called_up = [*lines("before_char", is_constant=False), *lines("after_char", is_constant=False)]
        insertions = [
            (found.entry.depth, found.entry.role, fill(found.entry.content))
            for found in told
            if found.entry.position == "at_depth"
        ]
        insertions += [(note.depth, "system", fill(note.text)) for note in scene.notes]
        conversation = Conversation(
            [
                *templates.system_message("\n".join(part for part in stable if part)),
                *templates.system_message("\n".join(called_up)),
                *_inserted(scene.turns, insertions),
                *templates.system_message(post_history),
                *([{"role": "user", "content": scene.wish}] if scene.wish else ()),
            ]
        )
        if not scene.request.itemize:
            return conversation
        sections = (
            ("system_prompt", bare),
            ("description", fill(played.description)),
            ("personality", fill(played.personality)),
            ("scenario", scene.scenario),
            ("examples", examples),
            ("lore", "\n".join(fill(found.entry.content) for found in told)),
            ("author_note", "\n".join(fill(note.text) for note in scene.notes)),
            ("history", "\n".join(turn["content"] for turn in scene.turns)),
            ("post_history", post_history),
        )
        return Conversation(
            conversation.messages,
            sections=[Section(name, text) for name, text in sections],
            notes={"lore": [finding.account() for finding in lore]},
        )

    return build


def _opened(request: RoleplayRequest, played: Character, macros: Macros) -> list[Turn]:
    """The turns, after the chosen first message if the character has one and the conversation has no opening."""
    turns: list[Turn] = list(request.turns())
    if request.greeting is not None and request.greeting >= len(played.greetings):
        raise invalid("greeting", f"This character has {len(played.greetings)} first messages, counted from 0")
    first = next((turn["role"] for turn in turns if turn["role"] != "system"), None)
    greeting = played.greetings[request.greeting or 0] if played.greetings else ""
    if greeting.strip() and first != "assistant":
        return [{"role": "assistant", "content": macros.fill(greeting)}, *turns]
    if first is None:
        raise invalid("messages", "Give messages or a message: this character has no first message to begin with")
    return turns


def _acted(action: Action, turns: list[Turn], macros: Macros) -> tuple[list[Turn], str]:
    """The turns that the model sees, and what it is told to do with them: nothing where an answer is natural.

    What is wanted is said as the user: some models refuse a conversation that ends with the assistant's own words.
    """
    spoken = [place for place, turn in enumerate(turns) if turn["role"] != "system"]
    is_characters = turns[spoken[-1]]["role"] == "assistant"
    char, user = macros.char, macros.user
    if action in ("continue", "regenerate") and not is_characters:
        raise invalid("action", f"There is nothing to {action}: the last message is not the character's")
    if action == "impersonate" and not is_characters:
        raise invalid("action", "There is nothing to impersonate: the last message is already the user's")
    if action == "continue":
        return turns, f"[Continue {char}'s last message from exactly where it ends. Do not repeat any of it.]"
    if action == "impersonate":
        return turns, f"[Write the next message of {user}, as {user}. Do not write anything for {char}.]"
    if action == "regenerate":
        turns = [*turns[: spoken[-1]], *turns[spoken[-1] + 1 :]]
        if len(spoken) == 1:
            return turns, f"[Begin the scene with {char}'s first message.]"
        is_characters = turns[spoken[-2]]["role"] == "assistant"
    return turns, f"[Write {char}'s next message.]" if is_characters else ""


def _notes(request: RoleplayRequest, played: Character) -> list[Note]:
    """The card's own note, then the author's, which so stands nearer to the end at the same depth."""
    given = request.author_note
    own = None if given is None else Note(given) if isinstance(given, str) else Note(given.text, given.depth)
    return [note for note in (played.note, own) if note is not None and note.text.strip()]


def _sentence(scene: Scene, preset: Preset) -> tuple[str, str]:
    """The preset's sentence, or what the card says instead of it; and the same without the scene, to be counted."""
    template, own = preset.system_prompt or "", scene.character.system_prompt
    name, scenario = scene.character.name, scene.scenario or OPEN_SCENE
    whole = templates.render(template, character=name, scenario=scenario)
    bare = templates.render(template, character=name, scenario="" if scene.scenario else OPEN_SCENE)
    if own.strip():
        return scene.macros.fill(own, whole).strip(), scene.macros.fill(own, bare).strip()
    return whole, bare


def _examples(scene: Scene, context_length: int | None) -> str:
    blocks = [scene.macros.fill(block) for block in character.example_blocks(scene.character.examples)]
    most = None if context_length is None else int(context_length * EXAMPLES_SHARE)
    while most is not None and blocks and tokens.estimate("\n\n".join(blocks)) > most:
        blocks.pop()
    return "\n\n".join(["Example dialogue, which shows the tone and did not happen:", *blocks]) if blocks else ""


def _inserted(turns: Sequence[Turn], insertions: Sequence[tuple[int, str, str]]) -> list[Turn]:
    """The turns with each text that many turns before their end, or at their start."""
    whole: list[Turn] = []
    for place in range(len(turns) + 1):
        whole += [
            {"role": role, "content": text} for depth, role, text in insertions if max(0, len(turns) - depth) == place
        ]
        whole += turns[place : place + 1]
    return whole


def _refuse_the_unspeakable(scene: Scene) -> None:
    played, request = scene.character, scene.request
    card = (
        *(played.name, played.description, played.personality, played.scenario, played.examples),
        *(played.system_prompt, played.post_history, *played.greetings),
    )
    told = [finding.entry.content for _, found in scene.lore for finding in found if finding.fired]
    safety.refuse_sexual_content_with_minor(
        [
            *(Passage("character.age", age, is_age=True) for age in played.ages),
            *(Passage("character", text) for text in card),
            *(Passage("scenario", text) for text in [request.scenario] if text),
            *(Passage("lorebook", text) for text in told),
            *(Passage("author_note", note.text) for note in scene.notes),
            *(Passage("messages", turn["content"]) for turn in request.turns()),
        ]
    )
