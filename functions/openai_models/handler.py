"""The door `openai/v1/models`: the models, and one name for each use case."""

from typing import Any

from shared import openai_dialect, routing
from shared.edge import Call, Door, Reply
from shared.services import Services


async def handle(call: Call[Any, Services]) -> Reply:
    found = await routing.models(call.services.database, call.services.settings)
    return Reply(openai_dialect.model_list(found))


door = Door(
    name="openai/v1/models",
    methods=("GET",),
    caller="user",
    contract=None,
    handle=handle,
    summary="Models and use cases as OpenAI's clients list them.",
)
