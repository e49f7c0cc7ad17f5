"""A story as the model is asked for it: at once, or outlined and in parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from functions.storytelling.contract import StoryRequest
from shared import templates, tokens
from shared.conversation import Conversation, Prompt
from shared.routing import Preset
from shared.safety import Passage
from shared.seam import tail
from shared.serial import Serial, Told

DEFAULT_GENRE = "general fiction"
# The manual (Storytelling optimization): 500 tokens if the length is short, else 1000; a long story has several such.
SHORT_TOKENS = 500
TOKENS = 1000
MOST_PARTS = 3
OUTLINE_TOKENS = 300
# How much of the story so far is shown again: a page or two of our own, more of what the caller sent.
OWN_TAIL_CHARS = 6_000
PREVIOUS_TAIL_CHARS = 40_000

CONTINUE = "Continue the story from there. Do not repeat what is already told."


def messages(request: StoryRequest) -> Prompt:
    """The preset's sentence with the genre, then the prompt; after the story so far when there is one."""

    def build(preset: Preset, context_length: int | None) -> Conversation:
        if not request.previous_text:
            return _asked(request, preset, request.prompt)
        so_far = _so_far(request.previous_text, PREVIOUS_TAIL_CHARS, context_length)
        return _asked(request, preset, so_far, CONTINUE, request.prompt)

    return build


def passages(request: StoryRequest) -> list[Passage]:
    """What the caller wrote, for the check of `shared/safety.py`."""
    names = ("prompt", "previous_text", "genre", "tone", "point_of_view")
    return [Passage(name, text) for name in names if (text := getattr(request, name))]


def params(request: StoryRequest) -> Mapping[str, Any]:
    """The caller's parameters. A length that the caller chose sets the limit; one not chosen leaves it to the rows."""
    given = request.params()
    if "length" in request.model_fields_set:
        given.setdefault("max_tokens", SHORT_TOKENS if request.length == "short" else TOKENS)
    return given


def serial(request: StoryRequest) -> Serial | None:
    """How a long story is told in parts; None for one that fits a single completion.

    A caller's max_tokens is the budget of the whole, the outline included.
    """
    if request.length != "long":
        return None
    if request.max_tokens is None:
        parts, outline_tokens, budget = MOST_PARTS, OUTLINE_TOKENS, MOST_PARTS * TOKENS
    else:
        parts = min(MOST_PARTS, -(-request.max_tokens // TOKENS))
        outline_tokens = min(OUTLINE_TOKENS, request.max_tokens // 10)
        budget = request.max_tokens - outline_tokens
    if parts == 1:
        return None
    share, rest = divmod(budget, parts)
    return Serial(
        outline=_outline(request, parts),
        outline_tokens=outline_tokens,
        part=lambda told: _part(request, told),
        part_tokens=tuple(share + (1 if number < rest else 0) for number in range(parts)),
        before=request.previous_text or "",
    )


def _outline(request: StoryRequest, parts: int) -> Prompt:
    def build(preset: Preset, context_length: int | None) -> Conversation:
        so_far = _so_far(request.previous_text or "", PREVIOUS_TAIL_CHARS, context_length)
        task = (
            f"First write a brief outline of {'what follows' if so_far else 'this story'} in {parts} parts, "
            "one or two sentences for each. Write only the outline."
        )
        return _asked(request, preset, request.prompt, so_far, task)

    return build


def _part(request: StoryRequest, told: Told) -> Prompt:
    def build(preset: Preset, context_length: int | None) -> Conversation:
        chars = OWN_TAIL_CHARS if told.part > 1 else PREVIOUS_TAIL_CHARS
        so_far = _so_far(told.text, chars, context_length)
        ending = "bring the story to its end" if told.part == told.parts else "do not end the story yet"
        return _asked(
            request,
            preset,
            # What all parts share stands first, so that caches work.
            request.prompt,
            f"Outline:\n{told.outline}" if told.outline else "",
            so_far,
            CONTINUE if so_far else "",
            f"Write part {told.part} of {told.parts}, without a heading, and {ending}.",
        )

    return build


def _asked(request: StoryRequest, preset: Preset, *paragraphs: str) -> Conversation:
    sentence = templates.render(preset.system_prompt or "", genre=request.genre or DEFAULT_GENRE)
    manner = {"Tone": request.tone, "Point of view": request.point_of_view}
    lines = [sentence, *(f"{what}: {text}" for what, text in manner.items() if text)]
    user = "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
    return Conversation([*templates.system_message("\n".join(lines)), {"role": "user", "content": user}])


def _so_far(text: str, chars: int, context_length: int | None) -> str:
    """The end of the story, in at most a third of the model's context: the rest is for the answer and the request."""
    end = tail(text, chars)
    while context_length is not None and len(end) > 1 and tokens.estimate(end) > context_length // 3:
        end = tail(end, len(end) * 3 // 4)
    return f"The story so far:\n{end}" if end.strip() else ""
