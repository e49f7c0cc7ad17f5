"""Reads what a caller sent: bytes within limits and time, then a contract, or the names of the wrong fields."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Sequence
from typing import Annotated, Any, Final, TypeVar, Union, get_args, get_origin
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_snake
from pydantic_core import ErrorDetails, from_json
from starlette.types import Receive

from shared.edge.exchange import ClientLeft
from shared.errors import Detail, InvalidRequest, PayloadTooLarge

# A client that is still sending cannot hear us. So we listen on, past the limit and keeping nothing, before we answer.
DRAIN_FACTOR: Final = 8
DRAIN_AT_LEAST_BYTES: Final = 8_000_000

QUERY_MAX_FIELDS: Final = 100
# supabase-js adds it to every address when a region is wished for; Supabase's own gateway reads it, no door does.
QUERY_IGNORED: Final = frozenset({"forceFunctionRegion"})
DETAILS_MAX: Final = 20
ERRORS_MAX: Final = 500
FIELD_MAX_CHARS: Final = 200
PART_MAX_CHARS: Final = 64
MESSAGE_MAX_CHARS: Final = 300

ContractT = TypeVar("ContractT", bound=BaseModel)


class IncomingBody:
    """The body of one request, as far as it came. Bytes are counted: Content-Length is only what the client says."""

    def __init__(self, receive: Receive, *, expected: bool) -> None:
        self.is_finished = not expected
        self._receive = receive
        self._size = 0

    async def read(self, limit: int, timeout_s: float) -> bytes:
        """The whole body.

        Raises PayloadTooLarge beyond `limit` bytes, InvalidRequest when it does not arrive within `timeout_s`,
        ClientLeft when the client goes.
        """
        body = bytearray()
        try:
            async with asyncio.timeout(timeout_s):
                while not self.is_finished and self._size <= max(limit * DRAIN_FACTOR, DRAIN_AT_LEAST_BYTES):
                    chunk = await self._next()
                    if self._size <= limit:
                        body += chunk
                    else:
                        body.clear()
        except TimeoutError:
            if self._size <= limit:
                raise InvalidRequest(details=[Detail("body", "The body did not arrive in time")]) from None
        if self._size > limit:
            raise PayloadTooLarge(f"The request body is too large: at most {limit} bytes are accepted")
        return bytes(body)

    async def drain(self, timeout_s: float) -> None:
        """Let an ordinary client finish sending a body that nobody wants, so that it can read its refusal."""
        try:
            async with asyncio.timeout(timeout_s):
                while not self.is_finished and self._size <= DRAIN_AT_LEAST_BYTES:
                    await self._next()
        except TimeoutError:
            return

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk: bytes = message.get("body", b"")
        self._size += len(chunk)
        self.is_finished = not message.get("more_body", False)
        return chunk


def parse_body(contract: type[ContractT], body: bytes) -> ContractT:
    """The body as its contract. Raises InvalidRequest that names fields as the caller wrote them, never values."""
    if not body.strip():
        # `curl -X POST` of a door that needs nothing sends nothing.
        if any(known.is_required() for known in contract.model_fields.values()):
            raise InvalidRequest(details=[Detail("body", "The body is empty: a JSON object is expected")])
        body = b"{}"
    try:
        return contract.model_validate_json(body)
    except ValidationError as wrong:
        raise InvalidRequest(details=_details(wrong, body)) from None


def parse_query(contract: type[ContractT], query: bytes) -> ContractT:
    """The query string as its contract. Lists are repeated or separated by commas; anything else comes once."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_MAX_FIELDS)
    except ValueError:
        raise InvalidRequest(details=[Detail("query", f"At most {QUERY_MAX_FIELDS} parameters are accepted")]) from None
    lists = _list_names(contract)
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name in QUERY_IGNORED:
            continue
        if name in lists:
            given.setdefault(name, []).extend(part for part in value.split(",") if part)
        elif name in given:
            raise InvalidRequest(details=[Detail(_readable(name), "This parameter was given more than once")])
        else:
            given[name] = value
    try:
        # Text is all that a query has, so even a strict contract reads its numbers from text here.
        return contract.model_validate(given, strict=False)
    except ValidationError as wrong:
        raise InvalidRequest(details=_details_within(wrong, given, whole="query")) from None


def _list_names(contract: type[BaseModel]) -> frozenset[str]:
    names: set[str] = set()
    for name, known in contract.model_fields.items():
        if _is_list(known.annotation):
            names.update(filter(None, (name, known.alias)))
    return frozenset(names)


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _is_list(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return any(_is_list(member) for member in get_args(annotation))
    return (origin or annotation) in (list, tuple, set, frozenset, Sequence)


def _details(wrong: ValidationError, body: bytes) -> list[Detail]:
    if wrong.error_count() == 1:
        (only,) = wrong.errors(include_url=False, include_input=False)
        if only["type"] == "json_invalid":
            return [Detail("body", f"The body is not valid JSON: {only['ctx']['error']}"[:MESSAGE_MAX_CHARS])]
    return _details_within(wrong, from_json(body), whole="body")


def _details_within(wrong: ValidationError, given: Any, *, whole: str) -> list[Detail]:
    """What is wrong, by dotted path as the caller wrote it, without the branches of unions that were not meant."""
    if wrong.error_count() > ERRORS_MAX:
        # Listing them all would cost seconds of everybody's time.
        return [Detail(whole, f"More than {ERRORS_MAX} things are wrong with this")]
    found: dict[str, list[str]] = {}
    errors = wrong.errors(include_url=False, include_input=False)
    paths = [_path(error, given) for error in errors]
    for error, path in zip(errors, paths, strict=True):
        if error["type"].endswith("_type") and any(other[: len(path)] == path != other for other in paths):
            # Another branch of the union got further inside: its complaint is the one that was meant.
            continue
        message = _message(error)
        messages = found.setdefault(".".join(map(_readable, path))[:FIELD_MAX_CHARS] or whole, [])
        if message not in messages:
            messages.append(message)
    details = [Detail(name, "; or: ".join(messages)[:MESSAGE_MAX_CHARS]) for name, messages in found.items()]
    return details[:DETAILS_MAX]


def _path(error: ErrorDetails, given: Any) -> tuple[str | int, ...]:
    """The parts of pydantic's location that stand in the request; its names for union branches do not."""
    path: list[str | int] = []
    held = given
    for part in error["loc"]:
        if _holds(held, part):
            held = held[part]
        elif error["type"] == "missing" and part == error["loc"][-1]:
            # The caller wrote no name, so the one of the contract is used.
            part = to_snake(str(part))
        else:
            continue
        path.append(part)
    return tuple(path)


def _holds(held: Any, part: str | int) -> bool:
    if isinstance(held, list):
        return isinstance(part, int) and part < len(held)
    return isinstance(held, dict) and part in held


def _readable(part: str | int) -> str:
    return "".join(mark if mark.isprintable() else "?" for mark in str(part)[:PART_MAX_CHARS])


def _message(error: ErrorDetails) -> str:
    """Pydantic's message, or our own where pydantic's would quote the value."""
    kind = error["type"]
    if kind == "union_tag_invalid":
        return f"Input should be tagged as one of: {error['ctx']['expected_tags']}"
    if kind in _QUOTING:
        return _QUOTING[kind]
    if kind == "extra_forbidden":
        return "There is no such field"
    if kind in ("value_error", "assertion_error"):
        return error["msg"].partition(", ")[2]
    return error["msg"]


_QUOTING: Final = {
    "uuid_parsing": "Input should be a valid UUID",
    "url_parsing": "Input should be a valid URL",
    "url_syntax_violation": "Input should be a valid URL",
}
