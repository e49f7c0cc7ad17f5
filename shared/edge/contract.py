"""The base of everything a caller may send: strict about names, honest about what cannot be stored."""

from __future__ import annotations

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError


class Contract(BaseModel):
    """What a caller sends. snake_case and camelCase names are both accepted; unknown names are refused.

    Strings that Postgres cannot store are refused here, before anything was spent on them.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        allow_inf_nan=False,
        str_strip_whitespace=False,
        hide_input_in_errors=True,
        # `model` is the LLM; pydantic would reserve every name that starts with it.
        protected_namespaces=(),
    )

    @field_validator("*", mode="after")
    @classmethod
    def _can_be_stored(cls, value: Any) -> Any:
        refuse_unstorable(value)
        return value


def refuse_unstorable(value: Any) -> None:
    """Raise for text that Postgres cannot hold, anywhere in plain JSON; a nested Contract has walked its own."""
    if isinstance(value, str):
        # Two checks instead of a pattern: both run at memory speed over a long message.
        if "\0" in value:
            raise PydanticCustomError("unstorable_text", "Text must not contain the character U+0000")
        if not value.isascii() and not _is_encodable(value):
            raise PydanticCustomError("unstorable_text", "Text must not contain half of a surrogate pair")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise PydanticCustomError("finite_number", "Input should be a finite number")
    elif isinstance(value, dict):
        for name, held in value.items():
            refuse_unstorable(name)
            refuse_unstorable(held)
    elif isinstance(value, list | tuple | set | frozenset):
        for held in value:
            refuse_unstorable(held)


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
