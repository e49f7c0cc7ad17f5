"""A conversation as the model reads it."""

from typing import Any

from functions.chat.contract import ChatRequest
from shared.generation import Prompt, turns
from shared.routing import Preset


def messages(request: ChatRequest) -> Prompt:
    """The caller's messages unchanged: who speaks through this door writes the system message too."""

    def build(preset: Preset) -> list[dict[str, Any]]:
        return turns(request.messages)

    return build
