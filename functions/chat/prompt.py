"""A conversation as the model reads it."""

from functions.chat.contract import ChatRequest
from shared.conversation import Conversation, Prompt
from shared.routing import Preset


def messages(request: ChatRequest) -> Prompt:
    """The caller's messages unchanged: who speaks through this door writes the system message too."""

    def build(preset: Preset, context_length: int | None) -> Conversation:
        return Conversation(request.turns())

    return build
