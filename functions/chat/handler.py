"""The door `chat`: messages in, reply out, for any use case."""

from functions.chat import prompt
from functions.chat.contract import ChatRequest
from shared import generation
from shared.edge import Call, Door, EventStream, Reply
from shared.services import Services


async def handle(call: Call[ChatRequest, Services]) -> Reply | EventStream:
    return await generation.reply(call, call.body.use_case, prompt.messages(call.body), **call.body.wishes())


door = Door(
    name="chat",
    methods=("POST",),
    caller="user",
    contract=ChatRequest,
    handle=handle,
    summary="Ask the models of any use case.",
)
