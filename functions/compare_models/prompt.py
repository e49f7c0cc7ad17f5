"""The question as every compared model reads it."""

from typing import Any

from functions.compare_models.contract import CompareModelsRequest
from shared.generation import turns


def messages(request: CompareModelsRequest) -> list[dict[str, Any]]:
    """The caller's words unchanged, the same for every model."""
    if request.messages is None:
        return [{"role": "user", "content": request.prompt}]
    return turns(request.messages)
