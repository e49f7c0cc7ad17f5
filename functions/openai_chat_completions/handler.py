"""The door `openai/v1/chat/completions`: what speaks to OpenAI speaks to us."""

from functions.openai_chat_completions import prompt
from functions.openai_chat_completions.contract import ChatCompletionRequest
from shared import completion, generation
from shared.edge import Call, Door, EventStream, Reply
from shared.openai_dialect import Dialect
from shared.services import Services


async def handle(call: Call[ChatCompletionRequest, Services]) -> Reply | EventStream:
    body = call.body
    asked = generation.ask(call, body.use_case(), prompt.messages(body), **body.candidates(), **body.wishes())
    dialect = Dialect(
        request_id=call.request_id,
        created=int(call.services.now().timestamp()),
        usage_is_wanted=body.usage_is_wanted(),
        ignored=body.ignored(),
    )
    if body.stream:
        return EventStream(completion.stream(asked, call.services), encode=dialect.chunks)
    return Reply(dialect.whole(await completion.answer(asked, call.services)))


door = Door(
    name="openai/v1/chat/completions",
    methods=("POST",),
    caller="user",
    contract=ChatCompletionRequest,
    handle=handle,
    summary="Chat completions as OpenAI's clients ask for them.",
    # Images come inside the messages; 6 MB is what one invocation of Lambda takes.
    max_body_bytes=6_000_000,
)
