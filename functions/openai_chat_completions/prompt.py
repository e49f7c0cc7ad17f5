"""A conversation as the model reads it."""

from functions.openai_chat_completions.contract import ChatCompletionRequest
from shared.conversation import Conversation, Prompt
from shared.routing import Preset


def messages(request: ChatCompletionRequest) -> Prompt:
    """The caller's messages unchanged: clients of OpenAI write their own system message."""

    def build(preset: Preset, context_length: int | None) -> Conversation:
        return Conversation(request.turns())

    return build
