"""A piece of creative writing as the model is asked for it."""

from functions.creative_writing.contract import CreativeWritingRequest
from shared import templates
from shared.conversation import Conversation, Prompt
from shared.routing import Preset
from shared.safety import Passage


def messages(request: CreativeWritingRequest) -> Prompt:
    """The preset's sentence, a line for each wish, then the conversation unchanged."""

    def build(preset: Preset, context_length: int | None) -> Conversation:
        wishes = {"Form": request.form, "Tone": request.tone, "Style": request.style}
        lines = [preset.system_prompt or "", *(f"{what}: {text}" for what, text in wishes.items() if text)]
        return Conversation([*templates.system_message("\n".join(lines).lstrip("\n")), *request.turns()])

    return build


def passages(request: CreativeWritingRequest) -> list[Passage]:
    """What the caller wrote, for the check of `shared/safety.py`."""
    wishes = [Passage(name, text) for name in ("form", "tone", "style") if (text := getattr(request, name))]
    return [*(Passage("messages", turn["content"]) for turn in request.turns()), *wishes]
