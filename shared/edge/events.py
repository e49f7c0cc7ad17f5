"""What a stream of a door is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream. `done` and `error` are terminal: exactly one of them ends every stream."""

    name: Literal["start", "delta", "done", "error"]
    data: Mapping[str, Any] | BaseModel

    @property
    def is_terminal(self) -> bool:
        return self.name in ("done", "error")


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing to say yet. Before the first event it opens the stream, so later failures are events."""
