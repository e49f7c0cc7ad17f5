"""What the caller of `roleplay` sends."""

from typing import Annotated

from pydantic import ConfigDict, StringConstraints

from shared.edge.contract import Contract
from shared.generation import ConversationRequest

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Passage = Annotated[str, StringConstraints(max_length=20_000)]


class Character(Contract):
    """Who the model plays."""

    model_config = ConfigDict(strict=True)

    name: Name
    description: Passage | None = None
    personality: Passage | None = None


class RoleplayRequest(ConversationRequest):
    """A scene: who is played, where, and what was said so far."""

    character: Character | Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    scenario: Passage | None = None
    user_name: Name | None = None
