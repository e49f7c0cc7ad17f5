"""What the caller of `creative-writing` sends."""

from pydantic import Field

from shared.generation import ConversationRequest, Phrase


class CreativeWritingRequest(ConversationRequest):
    """A piece to write or to work on: `messages` or `message`, and how it should be."""

    form: Phrase | None = Field(default=None, description="poem, essay, lyrics, script, …")
    tone: Phrase | None = None
    style: Phrase | None = None
