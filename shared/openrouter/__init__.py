"""The one OpenRouter module: asks a chat model over OpenRouter's wire, and is honest about every fault.

It knows nothing of this project but its tree of errors, and could be lifted out. Read client.py first; wire.py for the
values, stream.py for the bytes, errors.py and retry.py for what can go wrong and what is done about it.
"""

from shared.openrouter.cancellation import billing_stops
from shared.openrouter.catalog import CatalogModel, Generation, KeyStatus, PriceOverride, Prices
from shared.openrouter.client import OpenRouter, StreamTimers
from shared.openrouter.errors import CallFailed, Disposition
from shared.openrouter.retry import RetryPolicy
from shared.openrouter.stream import Finished, ReasoningDelta, Started, StreamEvent, TextDelta, ToolDelta
from shared.openrouter.wire import (
    Attempt,
    ChatRequest,
    Completion,
    Endpoint,
    FinishReason,
    Outcome,
    Sampling,
    Usage,
)

__all__ = [
    "Attempt",
    "CallFailed",
    "CatalogModel",
    "ChatRequest",
    "Completion",
    "Disposition",
    "Endpoint",
    "FinishReason",
    "Finished",
    "Generation",
    "KeyStatus",
    "OpenRouter",
    "Outcome",
    "PriceOverride",
    "Prices",
    "ReasoningDelta",
    "RetryPolicy",
    "Sampling",
    "Started",
    "StreamEvent",
    "StreamTimers",
    "TextDelta",
    "ToolDelta",
    "Usage",
    "billing_stops",
]
