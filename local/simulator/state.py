"""The state of one simulator: its ledger, its pace, and the faults and answers that wait in line."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from local.simulator import answers, catalog
from local.simulator.catalog import Json
from local.simulator.faults import BadFault, Fault, Options, Value, from_model, named
from local.simulator.ledger import Clock, Ledger
from local.simulator.wire import Pace

ANY = "*"


@dataclass(frozen=True)
class Defaults:
    """What holds for every request; `_sim/defaults` changes it."""

    latency_ms: float = 0
    tokens_per_second: float = 0
    comment_interval_ms: float = 600
    tokens_per_delta: int = 3
    generation_lag_ms: float = 3000
    total_credits: Decimal = Decimal(1000)

    def changed(self, values: Mapping[str, Any]) -> "Defaults":
        """Other values for some of them; an unknown name or a value of the wrong kind raises BadFault."""
        kinds = {field.name: type(getattr(self, field.name)) for field in dataclasses.fields(self)}
        unknown = sorted(set(values) - set(kinds))
        if unknown:
            raise BadFault(f"There is no default called {', '.join(unknown)}; there are {', '.join(kinds)}.")
        try:
            given = {name: Decimal(str(value)) for name, value in values.items()}
        except InvalidOperation as exc:
            raise BadFault("Defaults are numbers.") from exc
        numbers: dict[str, Any] = {
            name: value if name == "total_credits" else int(value) if name == "tokens_per_delta" else float(value)
            for name, value in given.items()
        }
        return dataclasses.replace(self, **numbers)

    @property
    def pace(self) -> Pace:
        return Pace(self.latency_ms, self.tokens_per_second, self.comment_interval_ms, max(1, self.tokens_per_delta))

    @property
    def generation_lag(self) -> timedelta:
        return timedelta(milliseconds=self.generation_lag_ms)

    def json(self) -> Json:
        return dataclasses.asdict(self) | {"total_credits": format(self.total_credits, "f")}


@dataclass
class Waiting:
    """A fault or an answer that waits for requests to `model`: a slug, a path such as /models, or *."""

    model: str
    times: int | None
    fault: str | None = None
    options: dict[str, Value] = field(default_factory=dict)
    text: str | None = None

    def fits(self, target: str) -> bool:
        # A * means every chat model; other paths must be named.
        return self.model == target or (self.model == ANY and not target.startswith("/"))

    def json(self) -> Json:
        return dict(vars(self))


class Simulator:
    def __init__(self, *, seed: int = 0, clock: Clock | None = None) -> None:
        self.seed = seed
        self.clock: Clock = (lambda: datetime.now(UTC)) if clock is None else clock
        self.catalog = catalog.load()
        self.ledger = Ledger(self.clock)
        self.defaults = Defaults()
        self.queue: list[Waiting] = []
        self._made = 0
        self._failed: Counter[tuple[str, str, str | None]] = Counter()
        self._active = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def next_generation_id(self) -> str:
        """`gen-<unix>-<20 characters>`, never the same twice."""
        self._made += 1
        return f"gen-{int(self.clock().timestamp())}-{answers.identifier(self.seed, 'generation', self._made)}"

    def fault_for(self, target: str, key_hash: str, session_id: str | None) -> tuple[Fault, Options] | None:
        """The fault that this request meets, if any: its model's own, else the first in line."""
        own = from_model(target)
        if own is not None:
            fault, options, times = own
            counted = (key_hash, target, session_id)
            if times is None or self._failed[counted] < times:
                self._failed[counted] += 1
                return fault, options
        waiting = self._next(target, is_fault=True)
        return None if waiting is None or waiting.fault is None else named(waiting.fault, waiting.options)

    def text_for(self, target: str) -> str | None:
        """The words that a test put into this model's mouth."""
        waiting = self._next(target, is_fault=False)
        return None if waiting is None else waiting.text

    def _next(self, target: str, *, is_fault: bool) -> Waiting | None:
        for waiting in self.queue:
            if (waiting.fault is not None) is is_fault and waiting.fits(target):
                if waiting.times is not None:
                    waiting.times -= 1
                    if waiting.times <= 0:
                        self.queue.remove(waiting)
                return waiting
        return None

    def begin(self) -> None:
        self._active += 1
        self._quiet.clear()

    def end(self) -> None:
        self._active -= 1
        if self._active == 0:
            self._quiet.set()

    async def until_quiet(self) -> None:
        """Wait until no answer is on its way, so that bill and requests are complete."""
        await self._quiet.wait()

    def reset(self) -> None:
        """Forget the bill, the requests and all faults; pace and credit return to their defaults."""
        self.ledger.clear()
        self.queue.clear()
        self._failed.clear()
        self.defaults = Defaults()
