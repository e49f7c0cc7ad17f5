"""The door `roleplay`: the next line of a scene."""

from functions.roleplay import prompt
from functions.roleplay.contract import BODY_BYTES, RoleplayRequest
from shared import generation
from shared.edge import Call, Door, EventStream, Reply
from shared.services import Services


async def handle(call: Call[RoleplayRequest, Services]) -> Reply | EventStream:
    scene = prompt.scene(call.body)
    return await generation.reply(
        call,
        "roleplay",
        prompt.messages(scene),
        params=scene.params(),
        editor=scene.editor,
        session_id=call.body.session_id,
        itemize=call.body.itemize,
    )


door = Door(
    name="roleplay",
    methods=("POST",),
    caller="user",
    contract=RoleplayRequest,
    handle=handle,
    summary="Answer in character.",
    max_body_bytes=BODY_BYTES,
)
