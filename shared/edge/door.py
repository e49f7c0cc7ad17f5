"""What a door is: its address, who may use it, what it takes, and what it may answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol

from pydantic import BaseModel
from typing_extensions import TypeVar

from shared.edge.encoding import encode_event
from shared.edge.events import Event, KeepAlive
from shared.identity import Caller

if TYPE_CHECKING:
    from shared.services import Services
    from shared.settings import Settings

Admission = Literal["anyone", "user", "admin", "service", "webhook"]

ContractT = TypeVar("ContractT", bound=BaseModel | None, default=Any)
# A string: naming the type for doors must not import the rooms behind it.
ServicesT = TypeVar("ServicesT", default="Services")


class Identifies(Protocol):
    async def identify(self, authorization: str | None, apikey: str | None) -> Caller: ...


class EdgeServices(Protocol):
    """What the edge itself uses; doors use the rest."""

    @property
    def settings(self) -> Settings: ...
    @property
    def identity(self) -> Identifies: ...
    @property
    def monotonic(self) -> Callable[[], float]: ...


@dataclass(frozen=True, slots=True)
class Call(Generic[ContractT, ServicesT]):
    """One request, checked: the caller may use this door and `body` is what its contract says.

    `deadline` is in seconds of the services' monotonic clock. `disconnected` is set when the client left.
    `log` takes fields for the log line of this request: names and numbers, never message text.
    """

    request_id: str
    caller: Caller
    body: ContractT
    path_params: Mapping[str, str]
    idempotency_key: str | None
    services: ServicesT
    deadline: float
    disconnected: asyncio.Event
    log: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in one piece, sent as JSON; models are answered in snake_case."""

    payload: BaseModel | Mapping[str, Any]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def _as_server_sent_event(event: Event) -> bytes:
    return encode_event(event.name, event.data)


@dataclass(frozen=True, slots=True)
class EventStream:
    """An answer in pieces, sent as server-sent events.

    A Failure before the first event is answered as plain JSON with its status. The iterator is closed when the
    client leaves; what it was awaiting is cancelled. `encode` puts an event on the wire, for doors with
    another dialect.
    """

    events: AsyncIterator[Event | KeepAlive]
    encode: Callable[[Event], bytes] = field(default=_as_server_sent_event)


Answer = Reply | EventStream


@dataclass(frozen=True, slots=True)
class Door(Generic[ContractT, ServicesT]):
    """One HTTP endpoint, at `/{name}` and `/functions/v1/{name}`.

    `name` may hold parameters: `jobs/{id}`. `contract` is the body of a POST or PATCH and the query of a GET.
    Two doors may share a name when their methods differ.
    """

    name: str
    methods: tuple[str, ...]
    caller: Admission
    contract: type[ContractT] | None
    handle: Callable[[Call[ContractT, ServicesT]], Awaitable[Answer]]
    summary: str
    max_body_bytes: int = 1_000_000
