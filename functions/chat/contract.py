"""What the caller of `chat` sends."""

from typing import Annotated

from pydantic import StringConstraints

from shared.messages import MessagesRequest


class ChatRequest(MessagesRequest):
    """A conversation for any use case, with tools and a wanted format if the model knows them."""

    use_case: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "casual_chat"
