"""What the caller of `compare-models` sends."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StringConstraints, WithJsonSchema, field_validator, model_validator

from shared.generation import MESSAGES, GenerationRequest, Message, Slug, Text

Usd = Annotated[
    Decimal,
    Field(ge=0, le=1_000, max_digits=20, decimal_places=12),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": 1_000}),
]


class CompareModelsRequest(GenerationRequest):
    """One question to several models: `prompt` or `messages`. Each model answers for itself."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in ("prompt", "messages")
            ]
        }
    )

    prompt: Text | None = None
    messages: Annotated[list[Message], Field(min_length=1, max_length=MESSAGES)] | None = None
    models: Annotated[list[Slug], Field(min_length=2, max_length=8)] = Field(
        description="The models to compare, each named once.", json_schema_extra={"uniqueItems": True}
    )
    use_case: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "casual_chat"
    max_cost_usd: Usd | None = Field(
        default=None, description="The most that all models together may cost, by the estimate made beforehand."
    )
    max_cost_usd_per_model: Usd | None = Field(
        default=None, description="The most that one model may cost; one that may cost more is not asked."
    )
    model: None = Field(default=None, description="Not here: the models are named in `models`.")
    fallback_to_chat_worker: Literal[False] | None = Field(
        default=None, description="Nobody answers in a compared model's place."
    )

    @field_validator("models")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("name each model once, and at least two")
        return value

    @model_validator(mode="after")
    def _one_of_them(self) -> "CompareModelsRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages")
        return self
