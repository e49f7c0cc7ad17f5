"""What of a conversation fits into a model's context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import tokens
from shared.errors import ContextTooLong

if TYPE_CHECKING:
    from shared.conversation import Section

# Share of the prompt's room that is kept free, because the count is an estimate.
MARGIN = 0.03


@dataclass(frozen=True, slots=True)
class Fitted:
    """The messages that fit, how many messages were left out, and the sum.

    `tokens` has: `prompt` (the kept messages, estimated), `dropped` (the ones left out), `reply` (reserved for the
    answer), `available` (what a prompt may have; None when the context length is not known).
    """

    messages: Sequence[Mapping[str, Any]]
    dropped: int
    tokens: Mapping[str, int | None]


def fit(
    messages: Sequence[Mapping[str, Any]],
    *,
    context_length: int | None,
    max_tokens: int,
    family: str | None = None,
) -> Fitted:
    """The conversation without its oldest exchanges, as many as it takes to fit.

    Always kept: the system messages at the head, and everything from the last user message on (what stands behind it
    are instructions for the reply, or the results of tools). What is dropped is a whole exchange, from a user message
    to the next one, so no answer stays without its question and no tool result without its call. What stands before
    the first user message, a greeting, goes first. Order is never changed.

    `context_length` is the model's, for prompt and reply together; None (not known) drops nothing. `max_tokens` are
    reserved for the reply. `family` is as in `tokens.estimate`. Raises ContextTooLong when even what must be kept does
    not fit.
    """
    sizes = [tokens.estimate_message(message, family) for message in messages]
    total = sum(sizes) + tokens.REPLY_TOKENS
    if context_length is None:
        return Fitted(messages, 0, _sum(total, 0, max_tokens, None))
    available = int((context_length - max_tokens) * (1 - MARGIN))

    head, exchanges = _droppable(messages)
    end, dropped_tokens = head, 0
    for exchange_end in exchanges:
        if total - dropped_tokens <= available:
            break
        dropped_tokens += sum(sizes[end:exchange_end])
        end = exchange_end
    kept = total - dropped_tokens
    if kept > available:
        raise ContextTooLong(
            f"The conversation is longer than the model can read: about {kept} tokens cannot be left out, "
            f"and {max_tokens} are reserved for the reply, of a context of {context_length}"
        )
    if end == head:
        return Fitted(messages, 0, _sum(total, 0, max_tokens, available))
    return Fitted([*messages[:head], *messages[end:]], end - head, _sum(kept, dropped_tokens, max_tokens, available))


def itemize(sections: Sequence[Section], family: str | None = None) -> list[dict[str, Any]]:
    """Where the tokens of a prompt went: one row per section in order, estimated, empty sections too."""
    return [{"section": section.name, "tokens": tokens.estimate(section.text, family)} for section in sections]


def _droppable(messages: Sequence[Mapping[str, Any]]) -> tuple[int, list[int]]:
    """How many messages stand at the head, and where each exchange that may be dropped ends."""
    roles = [message.get("role") for message in messages]
    head = next((place for place, role in enumerate(roles) if role not in ("system", "developer")), len(roles))
    # Before the first user message stands at most a greeting; every user message begins an exchange.
    return head, [place for place in range(head + 1, len(roles)) if roles[place] == "user"]


def _sum(prompt: int, dropped: int, reply: int, available: int | None) -> dict[str, int | None]:
    return {"prompt": prompt, "dropped": dropped, "reply": reply, "available": available}
