"""A prompt as the model is asked to enhance it."""

from collections.abc import Mapping
from typing import Any

from functions.prompt_enhancement.contract import EnhancementRequest
from shared import templates
from shared.conversation import Conversation, Prompt
from shared.routing import Preset

# CLIP, the reader of image models, reads 77 tokens, of which two mark begin and end.
CLIP_TOKENS = 75
# English has about this many CLIP tokens per word, commas included.
TOKENS_PER_WORD = 1.35
# Up to here the preset's limit for the answer (the manual's 200 tokens) has room for the target.
TARGET_WITHIN_PRESET = 150

INSTRUCTIONS = (
    "Keep the subject of the prompt and everything it names. "
    "Answer with the enhanced prompt only, without quotes, headings or explanations."
)


def messages(request: EnhancementRequest) -> Prompt:
    """The preset's sentence with the content type, how to answer, then the prompt unchanged."""

    def build(preset: Preset, context_length: int | None) -> Conversation:
        # The manual writes ${contentType}; admins who copy its sentence are understood.
        kind = request.content_type.strip()
        sentence = templates.render(preset.system_prompt or "", content_type=kind, contentType=kind)
        limit = target(request)
        words = f" Use at most {max(1, int(limit / TOKENS_PER_WORD))} words." if limit is not None else ""
        system = f"{sentence}\n\n{INSTRUCTIONS}{words}".lstrip()
        return Conversation([*templates.system_message(system), {"role": "user", "content": request.prompt}])

    return build


def target(request: EnhancementRequest) -> int | None:
    """The most CLIP tokens that the enhanced prompt may have. None: no limit."""
    if request.max_tokens_target is None and request.content_type.strip().lower() == "image":
        return CLIP_TOKENS
    return request.max_tokens_target


def params(request: EnhancementRequest) -> Mapping[str, Any]:
    """The caller's parameters; a large target brings a limit in which it fits."""
    given = request.params()
    if request.max_tokens_target is not None and request.max_tokens_target > TARGET_WITHIN_PRESET:
        given.setdefault("max_tokens", request.max_tokens_target * 4 // 3)
    return given
