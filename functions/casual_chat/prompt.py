"""A casual conversation as the model reads it."""

from functions.casual_chat.contract import CasualChatRequest
from shared import templates
from shared.conversation import Conversation, Prompt
from shared.routing import Preset


def messages(request: CasualChatRequest) -> Prompt:
    """The preset's sentence, if it has one, then the conversation unchanged."""

    def build(preset: Preset, context_length: int | None) -> Conversation:
        return Conversation([*templates.system_message(preset.system_prompt), *request.turns()])

    return build
