"""What the caller of `roleplay` sends."""

from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator

from shared.edge.contract import Contract
from shared.generation import MESSAGES, GenerationRequest, Message, Text, turns

# A card of 9 MB in base64, and the conversation beside it.
BODY_BYTES = 13_000_000
FILE_CHARS = 12_500_000
CONVERSATION_CHARS = 1_000_000

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Passage = Annotated[str, StringConstraints(max_length=20_000)]
# Sealed, so that megabytes of a card that nobody reads are not looked through; `shared/fields.py` checks what is read.
Sealed = Annotated[dict[str, Any], AfterValidator(MappingProxyType)]
Action = Literal["reply", "continue", "regenerate", "impersonate"]


class AuthorNote(Contract):
    """A reminder within the conversation, `depth` messages before its end."""

    model_config = ConfigDict(strict=True)

    text: Passage
    depth: int = Field(default=4, ge=0, le=MESSAGES)


class RoleplayRequest(GenerationRequest):
    """A scene: who is played, where, what was said so far, and what is wanted next."""

    character: Sealed | Annotated[str, StringConstraints(min_length=1, max_length=FILE_CHARS)] = Field(
        description="A name or a sentence, an object, or a character card (V1, V2, V3) as JSON, or as JSON, PNG or "
        "CHARX file in base64, with or without `data:`. Fields that are not known are ignored."
    )
    scenario: Passage | None = Field(default=None, description="The scene; without it that of the card.")
    user_name: Name | None = Field(default=None, description="Who the caller plays: {{user}}.")
    messages: Annotated[list[Message], Field(max_length=MESSAGES)] | None = None
    message: Text | None = Field(default=None, description="The one message of somebody who has just begun.")
    action: Action = Field(
        default="reply",
        description="reply; continue the character's last message; regenerate it; impersonate: write the user's next.",
    )
    greeting: int | None = Field(
        default=None, ge=0, description="Which first message opens the chat: 0 is the card's, then the alternatives."
    )
    lorebook: Sealed | None = Field(
        default=None, description="A book as in V2 and V3 cards, or SillyTavern's world info; added to the card's."
    )
    author_note: AuthorNote | Passage | None = None
    session_id: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = Field(
        default=None, description="Keeps a chat with one provider, whose cache then knows it."
    )
    itemize: bool = Field(default=False, description="Whether the reply tells where the prompt's tokens went.")

    @field_validator("messages")
    @classmethod
    def _not_too_long(cls, value: list[Message] | None) -> list[Message] | None:
        """The large body is for cards."""
        if sum(len(message.content) for message in value or ()) > CONVERSATION_CHARS:
            raise ValueError(f"at most {CONVERSATION_CHARS} characters in all messages together")
        return value

    @model_validator(mode="after")
    def _not_both(self) -> "RoleplayRequest":
        if self.messages is not None and self.message is not None:
            raise ValueError("give either messages or message")
        return self

    def turns(self) -> list[dict[str, Any]]:
        """The conversation so far; empty for somebody who has not begun."""
        if self.message is not None:
            return [{"role": "user", "content": self.message}]
        return turns(self.messages or ())
