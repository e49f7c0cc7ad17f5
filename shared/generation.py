"""What every generation door accepts, and how its answer is shaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, field_validator, model_validator

from shared import completion
from shared.conversation import Prompt
from shared.edge import Call, EventStream, Reply
from shared.edge.contract import Contract

if TYPE_CHECKING:
    from shared.services import Services

MESSAGE_CHARS = 200_000
MESSAGES = 1_000
METADATA_PAIRS = 16

Slug = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^\S+$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=MESSAGE_CHARS)]
# Some words on one line that become part of an instruction: a genre, a tone.
Phrase = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\r\n]*\S[^\r\n]*$")]
Stops = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=200)]], Field(max_length=4)]


class Message(Contract):
    """One turn of a conversation."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "user", "assistant"]
    content: Text


class GenerationRequest(Contract):
    """The input that all generation doors share. What is not given is decided by rows: model, preset, default."""

    model_config = ConfigDict(strict=True)

    model: Slug | None = Field(default=None, description="Slug of the wanted model; the use case's models follow it.")
    models: Annotated[list[Slug], Field(max_length=8)] = Field(
        default_factory=list, description="Own fallback order: these models and no others."
    )
    max_tokens: int | None = Field(default=None, ge=1, le=200_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: Stops | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    stream: bool = False
    fallback_to_chat_worker: bool | None = Field(
        default=None, description="Whether the chat worker may answer when OpenRouter fails."
    )
    metadata: dict[
        Annotated[str, StringConstraints(min_length=1, max_length=64)],
        Annotated[str, StringConstraints(max_length=512)],
    ] = Field(default_factory=dict)

    @field_validator("metadata")
    @classmethod
    def _few_pairs(cls, value: dict[str, str]) -> dict[str, str]:
        if len(value) > METADATA_PAIRS:
            raise ValueError(f"at most {METADATA_PAIRS} pairs")
        return value

    def params(self) -> dict[str, Any]:
        """The parameters that the caller gave. An explicit 0 is given; null is not."""
        names = ("max_tokens", "temperature", "top_p", "stop", "seed")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class ConversationRequest(GenerationRequest):
    """A conversation: `messages`, or the one `message` of somebody who has just begun."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                for name in ("messages", "message")
            ]
        }
    )

    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)] | None = None
    message: Text | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> ConversationRequest:
        if (self.messages is None) == (self.message is None):
            raise ValueError("give either messages or message")
        return self

    def turns(self) -> list[dict[str, Any]]:
        """The conversation so far, as the model reads it."""
        if self.messages is None:
            return [{"role": "user", "content": self.message}]
        return turns(self.messages)


def turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as the model reads them."""
    return [{"role": message.role, "content": message.content} for message in messages]


async def reply(call: Call[Any, Services], use_case: str, prompt: Prompt, **more: Any) -> Reply | EventStream:
    """Tell the story of `shared/completion.py` for this call and shape its end as JSON or as an event stream.

    `more` are further fields of `completion.Ask`: an editor, what to itemize, what to add to the reply.
    """
    asked = ask(call, use_case, prompt, **more)
    if call.body.stream:
        return EventStream(completion.stream(asked, call.services))
    return Reply(await completion.answer(asked, call.services))


def ask(call: Call[Any, Services], use_case: str, prompt: Prompt, **more: Any) -> completion.Ask:
    """What this call wants, in the story's words."""
    body: GenerationRequest = call.body
    return completion.Ask(
        **{
            "request_id": call.request_id,
            "caller": call.caller,
            "use_case": use_case,
            "prompt": prompt,
            "model": body.model,
            "models": tuple(body.models),
            "params": body.params(),
            "fallback_to_chat_worker": body.fallback_to_chat_worker,
            "metadata": body.metadata,
            "deadline": call.deadline,
            "log": call.log,
            **more,
        }
    )
