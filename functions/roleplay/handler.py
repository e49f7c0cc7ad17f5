"""The door `roleplay`: the next line of a scene."""

from functions.roleplay import prompt
from functions.roleplay.contract import RoleplayRequest
from shared import generation
from shared.edge import Call, Door, EventStream, Reply
from shared.services import Services


async def handle(call: Call[RoleplayRequest, Services]) -> Reply | EventStream:
    return await generation.reply(call, "roleplay", prompt.messages(call.body))


door = Door(
    name="roleplay",
    methods=("POST",),
    caller="user",
    contract=RoleplayRequest,
    handle=handle,
    summary="Answer in character.",
)
