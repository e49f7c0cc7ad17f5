"""The door `casual-chat`: a conversation without a purpose."""

from functions.casual_chat import prompt
from functions.casual_chat.contract import CasualChatRequest
from shared import generation
from shared.edge import Call, Door, EventStream, Reply
from shared.services import Services


async def handle(call: Call[CasualChatRequest, Services]) -> Reply | EventStream:
    return await generation.reply(call, "casual_chat", prompt.messages(call.body))


door = Door(
    name="casual-chat",
    methods=("POST",),
    caller="user",
    contract=CasualChatRequest,
    handle=handle,
    summary="Chat about anything.",
)
