"""A scene as the model reads it."""

from typing import Any

from functions.roleplay.contract import Character, RoleplayRequest
from shared import templates
from shared.generation import Prompt
from shared.routing import Preset

# What the sentence says when the caller set no scene.
OPEN_SCENE = "an open-ended conversation"


def messages(request: RoleplayRequest) -> Prompt:
    """The preset's sentence with character and scenario, what else is known of them, then the turns."""

    def build(preset: Preset) -> list[dict[str, Any]]:
        name, description, personality = _character(request)
        sentence = templates.render(preset.system_prompt or "", character=name, scenario=request.scenario or OPEN_SCENE)
        known = {"Description": description, "Personality": personality, "The user's name": request.user_name}
        lines = [sentence, *(f"{what}: {text}" for what, text in known.items() if text)]
        return [*templates.system_message("\n".join(lines)), *request.turns()]

    return build


def _character(request: RoleplayRequest) -> tuple[str, str | None, str | None]:
    if isinstance(request.character, Character):
        return request.character.name, request.character.description, request.character.personality
    return request.character, None, None
