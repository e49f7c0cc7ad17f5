"""The door `creative-writing`: poems, essays, lyrics, scripts."""

from functions.creative_writing import prompt
from functions.creative_writing.contract import CreativeWritingRequest
from shared import generation, safety
from shared.edge import Call, Door, EventStream, Reply
from shared.services import Services


async def handle(call: Call[CreativeWritingRequest, Services]) -> Reply | EventStream:
    safety.refuse_sexual_content_with_minor(prompt.passages(call.body))
    return await generation.reply(call, "creative_writing", prompt.messages(call.body))


door = Door(
    name="creative-writing",
    methods=("POST",),
    caller="user",
    contract=CreativeWritingRequest,
    handle=handle,
    summary="Write a piece in any form.",
)
