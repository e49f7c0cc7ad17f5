"""Learning later what an attempt cost: a cancelled stream and a lost answer bring no usage, but they may be billed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Literal

from pydantic import TypeAdapter

from shared import observability, routing, usage
from shared.errors import ConfigError, Upstream

if TYPE_CHECKING:
    from shared.database import Database
    from shared.services import Services

# What one sweep takes on. The worst case, a provider that hangs, lasts BATCH / AT_ONCE * PATIENCE_S: 70 s.
BATCH = 56
AT_ONCE = 8
PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Booking:
    """What a provider's books say of one generation: USD, and tokens as far as they are told (None: not told)."""

    generation_id: str
    cost_usd: Decimal
    source: Literal["generation", "broadcast"]
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class PendingGeneration:
    """A generation whose cost is estimated or unknown, and who can be asked about it."""

    generation_id: str
    provider: str
    provider_type: str
    base_url: str | None
    secret_name: str | None


async def sweep(services: Services) -> dict[str, int]:
    """Do what was left undone: replay the spool, then ask for the bookings that are due.

    Answers {spooled_replayed, generations_checked, generations_reconciled}. A provider that does not answer is logged
    and asked again when the next check is due. Raises `Unavailable` when the database is away.
    """
    database = services.database
    replayed = await usage.replay(services.spool, database)
    due = _due().validate_python(await database.call("pending_generations", {"batch": BATCH}))
    return {
        "spooled_replayed": replayed,
        "generations_checked": len(due),
        "generations_reconciled": await reconcile(await _bookings(due, services), database),
    }


async def reconcile(bookings: Iterable[Booking], database: Database) -> int:
    """Write what was learnt into the ledger; how many attempts that changed.

    Told twice it changes nothing. What is no attempt of ours, or has a cost from the provider already, is left alone.
    """
    changed = 0
    for booking in bookings:
        changed += bool(await database.call("reconcile_generation", {"generation": asdict(booking)}))
    return changed


async def _bookings(due: Sequence[PendingGeneration], services: Services) -> list[Booking]:
    """The bookings that exist by now. Nothing is raised: what cannot be read today is due again later."""
    gate = asyncio.Semaphore(AT_ONCE)
    failures: dict[str, Exception] = {}

    async def ask(one: PendingGeneration) -> Booking | None:
        async with gate:
            try:
                endpoint = routing.endpoint(one, services.settings)
                async with asyncio.timeout(PATIENCE_S):
                    known = await services.openrouter.generation(endpoint, one.generation_id)
            except (ConfigError, Upstream, TimeoutError) as failure:
                failures.setdefault(one.provider, failure)
                return None
        if known is None or known.total_cost is None:
            return None
        return Booking(
            generation_id=one.generation_id,
            cost_usd=known.total_cost,
            source="generation",
            input_tokens=known.prompt_tokens,
            output_tokens=known.completion_tokens,
            cached_tokens=known.cached_tokens,
            reasoning_tokens=known.reasoning_tokens,
        )

    found = await asyncio.gather(*(ask(one) for one in due))
    for provider, failure in failures.items():
        # One line for each provider, not for each generation: the others fail for the same reason.
        observability.log_problem(f"{provider} does not tell what generations cost", failure)
    return [booking for booking in found if booking is not None]


@cache
def _due() -> TypeAdapter[list[PendingGeneration]]:
    return TypeAdapter(list[PendingGeneration])
