"""What the caller of `prompt-enhancement` sends."""

from typing import Annotated

from pydantic import Field, StringConstraints

from shared.generation import GenerationRequest, Phrase


class EnhancementRequest(GenerationRequest):
    """A prompt for another model, and what that model makes."""

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=20_000, pattern=r"\S")]
    content_type: Phrase = Field(default="image", description="image, video, music, …")
    max_tokens_target: int | None = Field(
        default=None,
        ge=10,
        le=2_000,
        description="The enhanced prompt has at most so many CLIP tokens (estimated). For images 75 unless given: "
        "what CLIP reads beside its two marks.",
    )
