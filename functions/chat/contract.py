"""What the caller of `chat` sends."""

from typing import Annotated

from pydantic import Field, StringConstraints

from shared.generation import MESSAGES, GenerationRequest, Message


class ChatRequest(GenerationRequest):
    """A conversation for any use case."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)]
    use_case: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "casual_chat"
