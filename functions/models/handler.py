"""The door `models`: what a model picker shows."""

from typing import Any

from shared import routing
from shared.edge import Call, Door, Reply
from shared.services import Services


async def handle(call: Call[Any, Services]) -> Reply:
    return Reply({"models": await routing.models(call.services.database, call.services.settings)})


door = Door(
    name="models",
    methods=("GET",),
    caller="anyone",
    contract=None,
    handle=handle,
    summary="Active models with prices, context and health.",
)
