"""What the caller of `storytelling` sends."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from shared.generation import GenerationRequest, Phrase, Text


class StoryRequest(GenerationRequest):
    """What is to be told, in which manner, and how long."""

    prompt: Annotated[Text, StringConstraints(max_length=50_000, pattern=r"\S")] = Field(
        description="What the story is about, or what happens next."
    )
    genre: Phrase | None = None
    length: Literal["short", "medium", "long"] = Field(
        default="medium",
        description="short and medium are told in one completion, long in several. max_tokens wins over it.",
    )
    previous_text: Text | None = Field(default=None, description="The story so far; the reply continues it.")
    tone: Phrase | None = None
    point_of_view: Phrase | None = None
