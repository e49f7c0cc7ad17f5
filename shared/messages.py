"""Messages, tools and answer formats that pass through to the model, for doors that build no prompt of their own."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from shared.edge.contract import Contract, refuse_unstorable
from shared.generation import MESSAGE_CHARS, MESSAGES, GenerationRequest

PARTS = 100
TOOLS = 128


def _storable(value: Any) -> Any:
    refuse_unstorable(value)
    return value


class Passed(Contract):
    """A piece that goes to the model as it came: names we do not know (cache_control, …) go with it."""

    model_config = ConfigDict(strict=True, extra="allow")

    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_storable)]] = Field(init=False)

    def as_sent(self) -> dict[str, Any]:
        """What the caller wrote, in snake_case."""
        return self.model_dump(exclude_unset=True)


LongText = Annotated[str, StringConstraints(max_length=MESSAGE_CHARS)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,128}$")]
Id = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class TextPart(Passed):
    """Words."""

    type: Literal["text"]
    text: LongText


class ImageAddress(Passed):
    """Where an image is. It is never fetched here: the model's provider does that, or reads the data."""

    url: Annotated[str, StringConstraints(pattern=r"^(https://|data:image/)")]


class ImagePart(Passed):
    """An image for models that can see."""

    type: Literal["image_url"]
    image_url: ImageAddress


Parts = Annotated[list[Annotated[TextPart | ImagePart, Field(discriminator="type")]], Field(max_length=PARTS)]


class CalledFunction(Passed):
    """What the model wanted to run; the arguments are JSON text, as the model wrote it."""

    name: Name
    arguments: LongText


class ToolCall(Passed):
    """A call that the model asked for in an earlier turn."""

    id: Id
    type: Literal["function"]
    function: CalledFunction


class Message(Passed):
    """One turn: words, pictures, calls of tools, or what a tool answered."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    name: Annotated[str, StringConstraints(max_length=256)] | None = None
    # Before the content: an assistant who calls a tool need not speak.
    tool_calls: Annotated[list[ToolCall], Field(max_length=TOOLS)] | None = None
    refusal: LongText | None = None
    tool_call_id: Id | None = Field(default=None, validate_default=True)
    content: LongText | Parts | None = Field(default=None, validate_default=True)

    @field_validator("tool_calls")
    @classmethod
    def _only_the_assistant_calls(cls, value: list[ToolCall] | None, info: ValidationInfo) -> list[ToolCall] | None:
        if value and info.data.get("role") not in ("assistant", None):
            raise PydanticCustomError("misplaced", "Only the assistant calls tools")
        return value

    @field_validator("tool_call_id")
    @classmethod
    def _a_tool_answers_a_call(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and info.data.get("role") == "tool":
            raise PydanticCustomError("missing", "A tool's message names the call that it answers")
        return value

    @field_validator("content")
    @classmethod
    def _somebody_says_something(cls, value: Any, info: ValidationInfo) -> Any:
        role = info.data.get("role")
        silent = role == "assistant" and (info.data.get("tool_calls") or info.data.get("refusal"))
        if value is None and role is not None and not silent:
            # Pydantic's own word for it: the door then names a field that the caller did not write.
            raise PydanticCustomError("missing", "This message needs content")
        if role == "user" and not value:
            raise PydanticCustomError("empty", "A user's message needs something in it")
        return value

    def as_sent(self) -> dict[str, Any]:
        """What the caller wrote. Null is what clients write for "not there", which some providers refuse."""
        return {name: value for name, value in super().as_sent().items() if value is not None or name == "content"}


class ToolFunction(Passed):
    """A function that the model may ask for; `parameters` is its JSON schema."""

    name: Name
    description: LongText | None = None
    parameters: dict[str, Any] | None = None


class Tool(Passed):
    """A tool of the caller's, who runs it. Tools that run at the provider cost extra and are not offered."""

    type: Literal["function"]
    function: ToolFunction


class NamedFunction(Passed):
    """The name of one of the tools."""

    name: Name


class NamedTool(Passed):
    """The one tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class NamedSchema(Passed):
    """A JSON schema that the answer follows; `schema`, `strict` and `description` go with the name."""

    name: Name


class ResponseFormat(Passed):
    """How the answer is written."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: NamedSchema | None = Field(default=None, validate_default=True)

    @field_validator("json_schema")
    @classmethod
    def _a_schema_is_given(cls, value: NamedSchema | None, info: ValidationInfo) -> NamedSchema | None:
        if value is None and info.data.get("type") == "json_schema":
            raise PydanticCustomError("missing", "The type json_schema needs a json_schema")
        return value


class MessagesRequest(GenerationRequest):
    """A conversation that goes to the model unchanged, with tools and a wanted format."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)]
    tools: Annotated[list[Tool], Field(max_length=TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None

    def turns(self) -> list[dict[str, Any]]:
        """The conversation, as the model reads it."""
        return [message.as_sent() for message in self.messages]

    def params(self) -> dict[str, Any]:
        given = super().params()
        if self.tools and self.parallel_tool_calls is not None:
            given["parallel_tool_calls"] = self.parallel_tool_calls
        return given

    def wishes(self) -> dict[str, Any]:
        """The fields of `completion.Ask` for tools and format. Plain text is what models write unasked."""
        choice, wanted = self.tool_choice, self.response_format
        return {
            "tools": [tool.as_sent() for tool in self.tools] if self.tools else None,
            "tool_choice": choice.as_sent() if isinstance(choice, NamedTool) else choice,
            "response_format": wanted.as_sent() if wanted is not None and wanted.type != "text" else None,
        }
