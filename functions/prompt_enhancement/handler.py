"""The door `prompt-enhancement`: a better prompt for an image, a video, …, and nothing but the prompt."""

from functools import partial

from functions.prompt_enhancement import prompt
from functions.prompt_enhancement.contract import EnhancementRequest
from functions.prompt_enhancement.editor import PromptEditor, dressed
from shared import generation, safety
from shared.edge import Call, Door, EventStream, Reply
from shared.safety import Passage
from shared.services import Services


async def handle(call: Call[EnhancementRequest, Services]) -> Reply | EventStream:
    wanted = call.body
    safety.refuse_sexual_content_with_minor([Passage("prompt", wanted.prompt)])
    return await generation.reply(
        call,
        "prompt_enhancement",
        prompt.messages(wanted),
        params=prompt.params(wanted),
        editor=partial(PromptEditor, wanted.prompt, prompt.target(wanted)),
        dress=partial(dressed, wanted.prompt),
    )


door = Door(
    name="prompt-enhancement",
    methods=("POST",),
    caller="user",
    contract=EnhancementRequest,
    handle=handle,
    summary="Make a better prompt of a prompt.",
)
