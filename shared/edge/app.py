"""The ASGI application: finds the door, calls it, answers for it, and writes one log line."""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

import shared
from shared.edge.body import IncomingBody, parse_body, parse_query
from shared.edge.door import Call, Door, EdgeServices, EventStream, Reply
from shared.edge.encoding import encode_json
from shared.edge.exchange import ClientLeft, Exchange, Origins, Presence, RequestHeaders
from shared.edge.status import status_of
from shared.edge.stream import relay
from shared.errors import ConfigError, Failure, Forbidden, Internal, MethodNotAllowed, NotFound, Unauthenticated
from shared.identity import ANONYMOUS, Caller, CallerKind
from shared.observability import SERVICE, RequestLine, log_request, open_log

if TYPE_CHECKING:
    from aws_lambda_powertools.logging import Logger

KEEP_ALIVE_S: Final = 15.0
BODY_TIMEOUT_S: Final = 20.0
DRAIN_TIMEOUT_S: Final = 5.0
# Lambda ends the process without a word; this is kept back for the answer and its record.
LAMBDA_MARGIN_S: Final = 1.0

PREFIX: Final = "/functions/v1"
BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
ALL_METHODS: Final = ("GET", "HEAD", "POST", "PATCH", "OPTIONS")

_ADMITTED: Final[Mapping[str, frozenset[CallerKind]]] = {
    "user": frozenset({"user", "admin", "service"}),
    "admin": frozenset({"admin", "service"}),
    "service": frozenset({"service"}),
}

AnyDoor = Door[Any, Any]


def application(
    doors: Sequence[AnyDoor],
    services: EdgeServices,
    *,
    log: Logger | None = None,
    keep_alive_s: float = KEEP_ALIVE_S,
    body_timeout_s: float = BODY_TIMEOUT_S,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """One application with these doors, and `GET /` that says what runs.

    `keep_alive_s` is the longest silence of a stream, `body_timeout_s` the longest wait for a body. Without `log`
    the log of the process is opened, on standard output. Services are closed by whoever opened them.
    """
    if log is None:
        log = open_log(services.settings.log_level, secrets=services.settings.secret_texts())
    edge = Edge([*doors, _index(doors)], services, log, keep_alive_s, body_timeout_s)
    return _Application(routes=[Mount("", app=edge)], lifespan=lifespan)


class _Application(Starlette):
    """Starlette without its error pages: the edge answers every error itself, and saves their cost."""

    def build_middleware_stack(self) -> ASGIApp:
        return self.router


@dataclass(frozen=True, slots=True)
class Address:
    """The doors at one path, by method."""

    route: str
    doors: Mapping[str, AnyDoor] = field(default_factory=dict)

    def methods(self) -> tuple[str, ...]:
        head = ("HEAD",) if "GET" in self.doors else ()
        return (*self.doors, *head, "OPTIONS")

    def door_for(self, method: str) -> AnyDoor | None:
        return self.doors.get("GET" if method == "HEAD" else method)


class Directory:
    """Finds what is at a path. Plain names are looked up; names with parameters are matched after them."""

    def __init__(self, doors: Iterable[AnyDoor]) -> None:
        by_name: dict[str, dict[str, AnyDoor]] = {}
        for door in doors:
            taken = by_name.setdefault(door.name, {})
            for method in door.methods:
                if method in taken:
                    raise ValueError(f"Two doors answer {method} /{door.name}")
                taken[method] = door
        self._plain = {f"/{name}": Address(f"/{name}", found) for name, found in by_name.items() if "{" not in name}
        self._patterns = [
            (_pattern(name), Address(f"/{name}", found)) for name, found in by_name.items() if "{" in name
        ]

    def find(self, path: str) -> tuple[Address | None, Mapping[str, str]]:
        """The address at a path and its path parameters; None when there is none."""
        if path.startswith(PREFIX) and path[len(PREFIX) : len(PREFIX) + 1] in ("", "/"):
            path = path[len(PREFIX) :]
        path = path.removesuffix("/") or "/"
        plain = self._plain.get(path)
        if plain is not None:
            return plain, {}
        if path.isprintable():
            for pattern, address in self._patterns:
                match = pattern.fullmatch(path)
                if match is not None:
                    return address, match.groupdict()
        return None, {}


class Edge:
    """The ASGI application behind the routes. It never raises to the server, unless it is cancelled."""

    def __init__(
        self,
        doors: Sequence[AnyDoor],
        services: EdgeServices,
        log: Logger,
        keep_alive_s: float,
        body_timeout_s: float,
    ) -> None:
        self._directory = Directory(doors)
        self._services = services
        self._log = log
        self._keep_alive_s = keep_alive_s
        self._body_timeout_s = body_timeout_s
        self._origins = Origins(services.settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request and write its log line, whatever happens in between."""
        now = self._services.monotonic
        started = now()
        headers = RequestHeaders(scope["headers"])
        address, path_params = self._directory.find(scope["path"])
        line = RequestLine(
            request_id=headers.request_id(),
            method=scope["method"],
            route=scope["path"] if address is None else address.route,
        )
        exchange = Exchange(scope, send, line.request_id, self._origins.headers(headers.origin))
        presence = Presence(receive)
        incoming = IncomingBody(receive, expected=scope["method"] in BODY_METHODS)
        try:
            if scope["method"] == "OPTIONS":
                await exchange.preflight(ALL_METHODS if address is None else address.methods())
                return
            try:
                door = _door_at(address, scope["method"])
                line.door = door.name
                await self._call(door, path_params, scope, headers, incoming, exchange, presence, line)
            except Failure as failure:
                line.error = failure if isinstance(failure, Internal) else None
                await _refuse(failure, exchange, presence, incoming, line)
            except ClientLeft:
                raise
            except Exception as error:  # noqa: BLE001 - nobody is behind the edge
                line.error = error
                await _refuse(Internal(), exchange, presence, incoming, line)
        except ClientLeft:
            presence.left.set()
        finally:
            await presence.stop()
            if exchange.status is not None and not presence.left.is_set():
                line.status = exchange.status
            line.duration_ms = round((now() - started) * 1000)
            log_request(self._log, line)

    async def _call(
        self,
        door: AnyDoor,
        path_params: Mapping[str, str],
        scope: Scope,
        headers: RequestHeaders,
        incoming: IncomingBody,
        exchange: Exchange,
        presence: Presence,
        line: RequestLine,
    ) -> None:
        """Admit the caller, read what it sent, call the door, send what the door answers."""
        deadline = self._deadline(scope)
        caller = await self._admit(door, headers)
        line.caller, line.user_id = caller.kind, caller.user_id
        idempotency_key = headers.checked_idempotency_key()
        if incoming.is_finished:
            body = None if door.contract is None else parse_query(door.contract, scope["query_string"])
        else:
            time_left = deadline - self._services.monotonic()
            raw = await incoming.read(door.max_body_bytes, min(self._body_timeout_s, time_left))
            body = None if door.contract is None else parse_body(door.contract, raw)
        presence.start()
        answer = await door.handle(
            Call(
                request_id=line.request_id,
                caller=caller,
                body=body,
                path_params=path_params,
                idempotency_key=idempotency_key,
                services=self._services,
                deadline=deadline,
                disconnected=presence.left,
                log=line.fields,
            )
        )
        if isinstance(answer, EventStream):
            await relay(answer, exchange, presence, line, self._keep_alive_s)
            return
        encoded = encode_json(answer.payload)
        if not presence.left.is_set():
            await presence.stop()
            await exchange.reply(answer.status, encoded, answer.headers)

    async def _admit(self, door: AnyDoor, headers: RequestHeaders) -> Caller:
        """The caller, if this door is open to it."""
        if door.caller == "anyone":
            return ANONYMOUS
        if door.caller == "webhook":
            return self._webhook(headers.x_webhook_secret)
        caller = await self._services.identity.identify(headers.authorization, headers.apikey)
        if caller.kind in _ADMITTED[door.caller]:
            return caller
        if caller.kind == "anonymous":
            raise Unauthenticated("This needs the access token of somebody who is signed in")
        raise Forbidden(f"This needs {'an admin' if door.caller == 'admin' else 'the service key'}")

    def _webhook(self, given: str | None) -> Caller:
        expected = self._services.settings.webhook_secret
        if expected is None:
            raise ConfigError("WEBHOOK_SECRET is not set: no webhook can be accepted")
        if given is None or not hmac.compare_digest(given.encode(), expected.get_secret_value().encode()):
            raise Unauthenticated("The header x-webhook-secret is missing or wrong")
        return Caller("service")

    def _deadline(self, scope: Scope) -> float:
        """When this request must be answered, on the services' monotonic clock."""
        left_s = self._services.settings.request_timeout_s
        context: Any = scope.get("aws.context")
        if context is not None:
            left_s = min(left_s, context.get_remaining_time_in_millis() / 1000 - LAMBDA_MARGIN_S)
        return self._services.monotonic() + left_s


def _door_at(address: Address | None, method: str) -> AnyDoor:
    if address is None:
        raise NotFound
    door = address.door_for(method)
    if door is None:
        raise _MethodRefused(address.methods())
    return door


async def _refuse(
    failure: Failure, exchange: Exchange, presence: Presence, incoming: IncomingBody, line: RequestLine
) -> None:
    """Answer a failure, once the client has finished speaking. Too late for that, it is only written down."""
    line.code = failure.code
    if status_of(type(failure)) >= 500:
        line.message = failure.message
    if exchange.status is not None or presence.left.is_set():
        return
    await presence.stop()
    await incoming.drain(DRAIN_TIMEOUT_S)
    headers = {} if incoming.is_finished else {"connection": "close"}
    if isinstance(failure, _MethodRefused):
        headers["allow"] = failure.allowed
    await exchange.refuse(failure, headers)


class _MethodRefused(MethodNotAllowed):
    """Carries the methods that are allowed, for the header `Allow`."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = ", ".join(allowed)
        super().__init__(f"This method is not allowed here: use {self.allowed}")


def _pattern(name: str) -> re.Pattern[str]:
    """`jobs/{id}` as a pattern whose groups are the path parameters."""
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(f"/{name}")))


def _index(doors: Sequence[AnyDoor]) -> AnyDoor:
    """The door at `/`: what runs here."""
    listing = {
        "name": SERVICE,
        "version": shared.__version__,
        "doors": [
            {"method": method, "path": f"/{door.name}", "who": door.caller, "summary": door.summary}
            for door in doors
            for method in door.methods
        ],
    }

    async def handle(_: Call[None, Any]) -> Reply:
        return Reply(listing)

    return Door(name="", methods=("GET",), caller="anyone", contract=None, handle=handle, summary="What runs here.")
