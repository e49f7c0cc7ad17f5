"""What clients of OpenAI and OpenRouter send to `openai/v1/chat/completions`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shared.edge.contract import Contract
from shared.generation import Slug, Stops
from shared.messages import MessagesRequest
from shared.openai_dialect import USE_CASE_PREFIX

# Seen in the answer, so that a client learns that its wish was not heard; more of them help nobody.
IGNORED_NAMES = 20
IGNORED_NAME_CHARS = 64

Word = Annotated[str, StringConstraints(pattern=r"^[a-z_-]{1,32}$")]


def _listed(stop: Any) -> Any:
    return [stop] if isinstance(stop, str) else stop


class StreamOptions(Contract):
    """Whether the stream ends with a chunk of its own for the usage."""

    model_config = ConfigDict(extra="ignore")

    include_usage: bool | None = None


class ChatCompletionRequest(MessagesRequest):
    """OpenAI's request with OpenRouter's additions.

    Fields that this server does not know are ignored, and named in the answer: clients of OpenAI send new ones every
    month. Null means "not given", as these clients write it.
    """

    model_config = ConfigDict(extra="allow")

    model: Slug | None = Field(
        default=None,
        description=f"A slug: this model and no other. Or `{USE_CASE_PREFIX}<name>`: whichever model serves that.",
    )
    stop: Annotated[Stops | None, BeforeValidator(_listed)] = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: int | None = Field(
        default=None, ge=1, le=200_000, description="The newer name of max_tokens; it wins."
    )
    n: Literal[1] | None = None
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, ge=0, le=2)
    top_k: int | None = Field(default=None, ge=0, le=1_000_000)
    min_p: float | None = Field(default=None, ge=0, le=1)
    top_a: float | None = Field(default=None, ge=0, le=1)
    logit_bias: Annotated[dict[str, float], Field(max_length=1024)] | None = None
    reasoning: dict[str, Any] | None = None
    reasoning_effort: Word | None = None
    verbosity: Word | None = None
    provider: dict[str, Any] | None = Field(default=None, description="OpenRouter's routing preferences.")
    session_id: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    modalities: list[Literal["text"]] | None = None
    functions: None = Field(default=None, description="Not known here: use tools.")
    function_call: None = Field(default=None, description="Not known here: use tool_choice.")

    @model_validator(mode="before")
    @classmethod
    def _null_is_not_given(cls, sent: Any) -> Any:
        return {name: value for name, value in sent.items() if value is not None} if isinstance(sent, dict) else sent

    @field_validator("functions", "function_call", mode="before")
    @classmethod
    def _functions_became_tools(cls, value: Any) -> None:
        raise PydanticCustomError("replaced", "This field was replaced by tools and tool_choice")

    def use_case(self) -> str:
        """The use case that the model's name asks for, else casual chat."""
        named = self.model is not None and self.model.startswith(USE_CASE_PREFIX)
        return self.model[len(USE_CASE_PREFIX) :] if named and self.model else "casual_chat"

    def candidates(self) -> dict[str, Any]:
        """The fields of `completion.Ask` for models. Who names a model gets that one or an error."""
        slug = None if self.model is None or self.model.startswith(USE_CASE_PREFIX) else self.model
        alone = () if slug is None else (slug,)
        return {"model": slug, "models": tuple(self.models) or alone}

    def params(self) -> dict[str, Any]:
        names = (
            *("frequency_penalty", "presence_penalty", "repetition_penalty", "top_k", "min_p", "top_a", "logit_bias"),
            *("reasoning", "reasoning_effort", "verbosity"),
        )
        given = super().params() | {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.max_completion_tokens is not None:
            given["max_tokens"] = self.max_completion_tokens
        return given

    def wishes(self) -> dict[str, Any]:
        return super().wishes() | {"provider_preferences": self.provider, "session_id": self.session_id}

    def usage_is_wanted(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage is True

    def ignored(self) -> list[str]:
        """The names of the fields that were not heard."""
        return [name[:IGNORED_NAME_CHARS] for name in sorted(self.model_extra or {})[:IGNORED_NAMES]]
