"""What is written when a completion ended: the record, and where it goes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared import observability
from shared.database import Database
from shared.errors import Failure, Unavailable
from shared.openrouter import Attempt, Usage
from shared.openrouter.wire import text_of
from shared.routing import Candidate

if TYPE_CHECKING:
    from shared.spool import Spool

# What a provider writes about itself is bounded before it becomes a row.
NAME_LIMIT = 200
# A rule of thumb for English; only for estimates, which are marked as such.
CHARS_PER_TOKEN = 4
CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class Cost:
    """USD and how we know it; `cost_usd` is None exactly when the source is unknown."""

    cost_usd: Decimal | None
    source: str


@dataclass(frozen=True, slots=True)
class Try:
    """One HTTP call towards a completion, the candidate it asked, and the slug that answered if one did."""

    candidate: Candidate
    attempt: Attempt
    upstream_model: str | None = None


async def record(entry: Mapping[str, Any], tries: Sequence[Try], database: Database, spool: Spool) -> Cost:
    """Write a completion to the ledger, once; the answer is what it cost.

    When the database is away the record goes to the spool and the cost is what the provider reported.
    Never raises for the ledger's sake: the reply was paid for and still goes out.
    """
    full = {**entry, "attempts": [_attempt(one, entry["prompt_tokens"]) for one in tries]}
    try:
        answer = await database.call("record_completion", {"record": full})
    except Failure as error:
        if not isinstance(error, Unavailable):
            observability.log_problem("the ledger refused a record; it is kept in the spool", error)
        await spool.keep(full)
        return reported(tries)
    if spool.waiting:
        await replay(spool, database)
    return Cost(money(answer["cost_usd"]), answer["cost_source"])


async def replay(spool: Spool, database: Database) -> int:
    """Write what the spool kept into the ledger; how many records no longer wait."""
    return await spool.replay(lambda kept: database.call("record_completion", {"record": dict(kept)}))


def reported(tries: Sequence[Try]) -> Cost:
    """The cost as far as the providers' own answers tell it."""
    costs = [one.attempt.usage.cost for one in tries if one.attempt.usage is not None]
    if not costs or any(cost is None for cost in costs):
        return Cost(None, "unknown")
    return Cost(sum((cost for cost in costs if cost is not None), Decimal(0)), "provider")


def prompt_figures(messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Size and hash of a prompt: enough to see that two were the same, nothing of what was said."""
    text = "\n".join(f"{message.get('role')}: {message.get('content')}" for message in messages)
    return {
        "prompt_chars": sum(len(text_of(message.get("content"))) for message in messages),
        "prompt_sha256": hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest(),
    }


def _attempt(one: Try, prompt_tokens: int) -> dict[str, Any]:
    attempt, candidate = one.attempt, one.candidate
    used = attempt.usage
    estimated = used is not None and used.estimated
    if used is None and attempt.billed_unknown and (attempt.characters or attempt.code in (None, CANCELLED)):
        used, estimated = _guess(one, prompt_tokens), True
    if used is not None:
        billing = "tokens"
    elif attempt.billed_unknown:
        billing = "unknown"
    else:
        billing = "none" if attempt.code is not None else "tokens"
    return {
        "provider": candidate.provider,
        "model_id": candidate.model_id,
        "model": candidate.model,
        "upstream_model": printable(one.upstream_model),
        "upstream_provider": printable(attempt.upstream_provider),
        "generation_id": printable(attempt.generation_id),
        "status": attempt.status,
        "code": attempt.code,
        "duration_ms": attempt.duration_ms,
        "first_token_ms": attempt.first_token_ms,
        "billing": billing,
        "estimated": estimated,
        "input_tokens": used.prompt_tokens if used else None,
        "output_tokens": used.completion_tokens if used else None,
        "cached_tokens": used.cached_tokens if used else None,
        "cache_write_tokens": used.cache_write_tokens if used else None,
        "reasoning_tokens": used.reasoning_tokens if used else None,
        "cost_usd": used.cost if used else None,
    }


def _guess(one: Try, prompt_tokens: int) -> Usage:
    """Tokens of an answer that came without its usage: cut off by its reader, broken off, or never counted.

    A provider that keeps billing after its reader left writes on to its limit, so the limit is the estimate
    (API facts, Cancellation); the true figure comes later.
    """
    written = math.ceil(one.attempt.characters / CHARS_PER_TOKEN)
    if one.attempt.code == CANCELLED and not one.attempt.billing_stops:
        written = max(written, int(one.candidate.params.get("max_tokens") or 0))
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=written, total_tokens=prompt_tokens + written)


def printable(text: str | None) -> str | None:
    """Text of foreign origin as Postgres can store it: no NUL, no lone surrogate, bounded."""
    if text is None:
        return None
    return text[:NAME_LIMIT].replace("\x00", "").encode(errors="replace").decode()


def money(value: Any) -> Decimal | None:
    """An amount as SQL tells it: whole numbers come as integers; null is unknown."""
    return None if value is None else Decimal(str(value))
