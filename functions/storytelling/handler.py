"""The door `storytelling`: a story from a prompt, or the next piece of one."""

from functools import partial

from functions.storytelling import prompt
from functions.storytelling.contract import StoryRequest
from shared import generation, safety, serial
from shared.edge import Call, Door, EventStream, Reply
from shared.seam import Continuation
from shared.services import Services


async def handle(call: Call[StoryRequest, Services]) -> Reply | EventStream:
    story = call.body
    safety.refuse_sexual_content_with_minor(prompt.passages(story))
    editor = partial(Continuation, story.previous_text or "")
    more = {"params": prompt.params(story), "editor": editor}
    parts = prompt.serial(story)
    if parts is None:
        return await generation.reply(call, "storytelling", prompt.messages(story), **more)
    ask = generation.ask(call, "storytelling", prompt.messages(story))
    if story.stream:
        return EventStream(serial.stream(ask, parts, call.services))
    return Reply(await serial.answer(ask, parts, call.services))


door = Door(
    name="storytelling",
    methods=("POST",),
    caller="user",
    contract=StoryRequest,
    handle=handle,
    summary="Tell a story, or go on with one.",
)
