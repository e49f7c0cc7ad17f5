"""What the simulator saw and what it charged: the other side of our own ledger."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from starlette.requests import Request

from local.simulator.catalog import Json
from local.simulator.performance import Outcome
from local.simulator.wire import Reply, Script

Clock = Callable[[], datetime]
ECHOED = ("session_id", "user", "metadata", "trace")


@dataclass
class Recorded:
    """One request as it arrived, and how it ended."""

    order: int
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: Any
    at: datetime
    status: int | None = None
    fault: str | None = None
    generation_id: str | None = None
    disconnected: bool = False
    ended: bool = False

    def json(self) -> Json:
        return {**vars(self), "at": self.at.isoformat()}


@dataclass(frozen=True)
class Entry:
    """One generation and its price. Cancelled ones may cost less, or all the same, depending on the provider."""

    generation_id: str
    requested: str
    reply: Reply
    key_hash: str
    completion_tokens: int
    cost: Decimal
    cancelled: bool
    streamed: bool
    echo: Mapping[str, Any]
    at: datetime
    latency_ms: float

    def json(self) -> Json:
        return {
            "generation_id": self.generation_id,
            "model": self.reply.model.permaslug,
            "requested": self.requested,
            "provider": self.reply.provider,
            "cost": dollars(self.cost),
            "prompt_tokens": self.reply.usage.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "reasoning_tokens": min(self.reply.usage.reasoning_tokens, self.completion_tokens),
            "cancelled": self.cancelled,
            "streamed": self.streamed,
            **{name: self.echo.get(name) for name in ECHOED},
            "at": self.at.isoformat(),
        }

    def generation(self) -> Json:
        """The `data` of `GET /generation`."""
        usage = self.reply.usage
        cost = float(self.cost)
        permaslug, provider = self.reply.model.permaslug, self.reply.provider
        return {
            "id": self.generation_id,
            "total_cost": cost,
            "usage": cost,
            "upstream_inference_cost": 0,
            "cache_discount": None,
            "model": permaslug,
            "provider_name": provider,
            "upstream_id": f"chatcmpl-{self.generation_id[-20:]}",
            "provider_responses": [
                {"provider_name": provider, "model_permaslug": permaslug, "status": 200, "is_byok": False}
            ],
            "streamed": self.streamed,
            "cancelled": self.cancelled,
            "finish_reason": None if self.cancelled else self.reply.finish_reason,
            "native_finish_reason": None if self.cancelled else self.reply.native_finish_reason,
            "tokens_prompt": usage.prompt_tokens,
            "tokens_completion": self.completion_tokens,
            "native_tokens_prompt": usage.prompt_tokens,
            "native_tokens_completion": self.completion_tokens,
            "native_tokens_reasoning": min(usage.reasoning_tokens, self.completion_tokens),
            "native_tokens_cached": 0,
            "native_tokens_completion_images": None,
            "latency": int(self.latency_ms),
            "generation_time": int(self.reply.pace.generation_ms(self.completion_tokens)),
            "moderation_latency": None,
            "created_at": self.at.isoformat(),
            "api_type": "completions",
            "app_id": None,
            "is_byok": False,
            "origin": "",
            "http_referer": None,
            "session_id": self.echo.get("session_id"),
            "external_user": self.echo.get("user"),
            "request_id": None,
            "router": None,
            "preset_id": None,
            "service_tier": self.reply.extras.get("service_tier"),
            "data_region": "global",
        }


@dataclass
class Ledger:
    clock: Clock
    requests: list[Recorded] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    shown_early: set[str] = field(default_factory=set)
    all_shown: bool = False

    def record(self, request: Request, body: Any) -> Recorded:
        recorded = Recorded(
            order=len(self.requests),
            method=request.method,
            path=request.url.path,
            query=request.url.query,
            headers={name: _redacted(name, value) for name, value in request.headers.items()},
            body=body,
            at=self.clock(),
        )
        self.requests.append(recorded)
        return recorded

    def charge(
        self,
        script: Script,
        outcome: Outcome,
        *,
        requested: str,
        key_hash: str,
        streamed: bool,
        echo: Mapping[str, Any],
    ) -> None:
        """Enter a generation. Scripts without a reply are refusals: nothing was generated, nothing is entered."""
        reply = script.reply
        if reply is None:
            return
        cancelled = outcome.disconnected
        tokens = reply.usage.completion_tokens
        saved = cancelled and streamed and reply.stops_billing
        if saved or script.charge != "all":
            tokens = min(outcome.tokens_sent, tokens)
        # Nothing said and no finish reason: the zero-completion insurance pays.
        insured = script.charge == "nothing" or (saved and tokens == 0)
        cost = reply.usage.prompt_cost + tokens * reply.usage.prices.completion
        self.entries.append(
            Entry(
                generation_id=reply.generation_id,
                requested=requested,
                reply=reply,
                key_hash=key_hash,
                completion_tokens=tokens,
                cost=Decimal(0) if insured else cost,
                cancelled=cancelled,
                streamed=streamed,
                echo=echo,
                at=self.clock(),
                latency_ms=reply.pace.latency_ms,
            )
        )

    def generation(self, generation_id: str, lag: timedelta) -> Entry | None:
        """The entry, once it is old enough to be seen."""
        for entry in self.entries:
            if entry.generation_id == generation_id:
                early = self.all_shown or generation_id in self.shown_early
                return entry if early or self.clock() >= entry.at + lag else None
        return None

    def total(self, key_hash: str | None = None) -> Decimal:
        mine = (entry.cost for entry in self.entries if key_hash is None or entry.key_hash == key_hash)
        return sum(mine, Decimal(0))

    def bill(self) -> Json:
        by_model: dict[str, Json] = {}
        for entry in self.entries:
            row = by_model.setdefault(
                entry.reply.model.permaslug,
                {"requests": 0, "total_cost": Decimal(0), "prompt_tokens": 0, "completion_tokens": 0},
            )
            row["requests"] += 1
            row["total_cost"] += entry.cost
            row["prompt_tokens"] += entry.reply.usage.prompt_tokens
            row["completion_tokens"] += entry.completion_tokens
        return {
            "requests": len(self.entries),
            "total_cost": dollars(self.total()),
            "by_model": {model: row | {"total_cost": dollars(row["total_cost"])} for model, row in by_model.items()},
            "entries": [entry.json() for entry in self.entries],
        }

    def clear(self) -> None:
        self.requests.clear()
        self.entries.clear()
        self.shown_early.clear()
        self.all_shown = False


def dollars(amount: Decimal) -> str:
    """An exact amount as text, without an exponent or trailing zeros."""
    return format(amount.normalize(), "f")


def fingerprint(secret: str) -> str:
    """The first 16 hex digits of a secret's SHA-256, enough to tell two keys apart."""
    return hashlib.sha256(secret.encode()).hexdigest()[:16]


def _redacted(name: str, value: str) -> str:
    if name != "authorization":
        return value
    scheme, _, secret = value.partition(" ")
    return f"{scheme} sha256:{fingerprint(secret)}"
