"""OpenAPI 3.1 of the doors: what they take, from their contracts; what they answer; how they fail."""

from __future__ import annotations

import http
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from shared import errors
from shared.edge import Door
from shared.edge.status import status_of
from shared.errors import Failure
from shared.generation import GenerationRequest

Json = dict[str, Any]
AnyDoor = Door[Any, Any]
Schema = tuple[type[BaseModel], Literal["validation", "serialization"]]

SCHEMAS = "#/components/schemas/"
SECURITY: Mapping[str, list[Json]] = {
    "anyone": [],
    "user": [{"user": []}],
    "admin": [{"user": []}],
    "service": [{"user": []}],
    "webhook": [{"webhook": []}],
}

# A model may fail in each of these ways, and so may every door that asks one.
UPSTREAM = (
    errors.RateLimited,
    errors.PaymentRequired,
    errors.UpstreamUnavailable,
    errors.UpstreamError,
    errors.UpstreamTimeout,
    errors.EmptyResponse,
    errors.ModelGone,
    errors.ContextTooLong,
)
GENERATION: tuple[type[Failure], ...] = (
    *UPSTREAM,
    errors.ModelNotFound,
    errors.BudgetExceeded,
    errors.LimitExceeded,
    errors.ContentBlocked,
    errors.Conflict,
    errors.AllRoutesFailed,
    errors.FallbackDisabled,
)

CODES = sorted({kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Failure)})


class ErrorDetail(BaseModel):
    """One wrong field: its dotted path as the caller wrote it, and what is wrong with it."""

    field: str
    message: str


class ErrorAttempt(BaseModel):
    """One HTTP call towards the answer that did not come."""

    provider: str
    model: str
    status: int | None
    code: str | None
    duration_ms: int


class ErrorObject(BaseModel):
    """What went wrong. `code` is stable; `message` is for people."""

    code: str
    message: str
    request_id: str
    retryable: bool
    retry_after_s: float | None
    fallback: bool
    details: list[ErrorDetail]
    attempts: list[ErrorAttempt]


class Error(BaseModel):
    """The one shape of every error, over JSON and as the last event of a stream."""

    error: ErrorObject


@dataclass(frozen=True, slots=True)
class Description:
    """What a contract cannot say of a door: its answer, its events by name, its own failures, and an example.

    `events` are the data of each server-sent event when `stream: true` is asked for; `streams_otherwise` tells of a
    stream in another dialect. `also` are further statuses that carry the answer and not an error. `example` is the
    body, or the query by name.
    """

    answer: type[BaseModel] | None = None
    events: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    streams_otherwise: str | None = None
    failures: Sequence[type[Failure]] = ()
    example: Json | None = None
    also: Sequence[int] = ()
    note: str = ""


def document(
    doors: Iterable[AnyDoor], describe: Mapping[str, Description], generation: Description, *, title: str, version: str
) -> Json:
    """The whole document. `describe` names doors as "POST chat"; `generation` is for every other door that asks models.

    A door that nobody described answers some object.
    """
    described = [
        (door, method, describe.get(f"{method} {door.name}") or _by_contract(door, generation))
        for door in doors
        for method in door.methods
    ]
    references, schemas = _schemas(described)
    paths: dict[str, Json] = {}
    for door, method, description in described:
        paths.setdefault(f"/{door.name}", {})[method.lower()] = _operation(
            door, method, description, references, schemas
        )
    schemas["ErrorObject"]["properties"]["code"]["enum"] = CODES
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "description": "Names are snake_case; the same names in camelCase are accepted as input. Every answer is "
            "JSON, errors too, unless a stream was asked for. OPTIONS is answered everywhere; a method that a path "
            "does not have is refused with 405 METHOD_NOT_ALLOWED, an unknown path with 404 NOT_FOUND.",
        },
        "servers": [
            {"url": "/", "description": "Short paths."},
            {"url": "/functions/v1", "description": "The paths of Supabase edge functions."},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "user": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "The access token of somebody who is signed in with Supabase, or the service key. "
                    "Admins are users whose token says `app_metadata.role = admin`.",
                },
                "webhook": {"type": "apiKey", "in": "header", "name": "x-webhook-secret"},
            },
            "parameters": {
                "IdempotencyKey": {
                    "name": "Idempotency-Key",
                    "in": "header",
                    "required": False,
                    "description": "Repeats of the same request with the same key are answered once. Empty is none.",
                    "schema": {"type": "string", "maxLength": 255, "pattern": "^[\\x21-\\x7e]*$"},
                },
                "RequestId": {
                    "name": "X-Request-Id",
                    "in": "header",
                    "required": False,
                    "description": "Returned and logged when it is a plain name (letters, digits, ._:-).",
                    "schema": {"type": "string"},
                },
            },
            "headers": {
                "RequestId": {"description": "Names this request in our logs.", "schema": {"type": "string"}},
                "RetryAfter": {"description": "Seconds, where a wait is known.", "schema": {"type": "integer"}},
            },
        },
    }


def _by_contract(door: AnyDoor, generation: Description) -> Description:
    asks_models = isinstance(door.contract, type) and issubclass(door.contract, GenerationRequest)
    return generation if asks_models else Description()


def _schemas(described: Sequence[tuple[AnyDoor, str, Description]]) -> tuple[Mapping[type[BaseModel], Json], Json]:
    """Where each model's schema is, and all of them by name."""
    taken = dict.fromkeys(door.contract for door, _, _ in described if door.contract is not None)
    given: dict[type[BaseModel], None] = dict.fromkeys(
        model for _, _, one in described for model in (one.answer, *one.events.values()) if model is not None
    )
    by_name: list[Schema] = []
    given[Error] = None
    by_alias: list[Schema] = [(model, "serialization") for model in given]
    for contract in taken:
        # Ours know both spellings, and snake_case is what we speak; a foreign format has the names of its aliases only.
        (by_name if contract.model_config.get("validate_by_name") else by_alias).append((contract, "validation"))
    references: dict[type[BaseModel], Json] = {}
    schemas: Json = {}
    for models, aliased in ((by_name, False), (by_alias, True)):
        found, defined = models_json_schema(models, by_alias=aliased, ref_template=SCHEMAS + "{model}")
        references |= {model: found[model, mode] for model, mode in models}
        schemas |= defined.get("$defs", {})
    return references, schemas


def _operation(
    door: AnyDoor,
    method: str,
    description: Description,
    references: Mapping[type[BaseModel], Json],
    schemas: Mapping[str, Json],
) -> Json:
    takes_body = method in ("POST", "PATCH", "PUT")
    parameters: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _path_parameters(door.name)
    ]
    if door.contract is not None and not takes_body:
        schema = schemas[references[door.contract]["$ref"].removeprefix(SCHEMAS)]
        parameters.extend(_query_parameters(schema, description.example or {}))
    parameters.append({"$ref": "#/components/parameters/RequestId"})
    if takes_body:
        parameters.append({"$ref": "#/components/parameters/IdempotencyKey"})
    operation: Json = {
        "operationId": f"{method.lower()}_{door.name}".translate(str.maketrans("-/.{}", "_____")),
        "summary": door.summary,
        "tags": [door.caller],
        "security": SECURITY[door.caller],
        "parameters": parameters,
    }
    if description.note:
        operation["description"] = description.note
    if takes_body and door.contract is not None:
        media: Json = {"schema": references[door.contract]}
        if description.example is not None:
            media["examples"] = {"example": {"value": description.example}}
        needed = any(known.is_required() for known in door.contract.model_fields.values())
        operation["requestBody"] = {"required": needed, "content": {"application/json": media}}
    operation["responses"] = {**_answers(description, references), **_refusals(door, description, takes_body)}
    return operation


def _path_parameters(name: str) -> list[str]:
    return [part[1:-1] for part in name.split("/") if part.startswith("{")]


def _query_parameters(schema: Json, example: Json) -> Iterable[Json]:
    """Each field of the contract. All that a query has is text, so null and the other spelling of a number go."""
    required = schema.get("required", [])
    for name, known in schema.get("properties", {}).items():
        told = {key: value for key, value in known.items() if key not in ("title", "default", "description")}
        if "anyOf" in told:
            kinds = [kind for kind in told["anyOf"] if kind.get("type") != "null"]
            numbers = [kind for kind in kinds if kind.get("type") in ("number", "integer")]
            told = (numbers or kinds)[0]
        if known.get("default") is not None:
            told = {**told, "default": known["default"]}
        parameter: Json = {"name": name, "in": "query", "required": name in required, "schema": told}
        if "description" in known:
            parameter["description"] = known["description"]
        if name in example:
            parameter["example"] = example[name]
        yield parameter


def _answers(description: Description, references: Mapping[type[BaseModel], Json]) -> Json:
    schema = {"type": "object"} if description.answer is None else references[description.answer]
    content: Json = {"application/json": {"schema": schema}}
    if description.events:
        events: dict[str, type[BaseModel]] = {**description.events, "error": Error}
        content["text/event-stream"] = {
            "schema": {
                "description": "With `stream: true`. This is each server-sent event; exactly one of `done` and `error` "
                "ends the stream.",
                "oneOf": [_event(name, references[model]) for name, model in events.items()],
            }
        }
    elif description.streams_otherwise:
        content["text/event-stream"] = {"schema": {"description": description.streams_otherwise}}
    headers = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    return {
        str(status): {"description": http.HTTPStatus(status).phrase, "headers": headers, "content": content}
        for status in (200, *description.also)
    }


def _event(name: str, data: Json) -> Json:
    """One server-sent event: its name, and JSON in its only line of data."""
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"const": name},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
        },
    }


def _refusals(door: AnyDoor, description: Description, takes_body: bool) -> Json:
    """The errors of a door by status, each with its codes."""
    # An Idempotency-Key that cannot be compared is refused everywhere.
    failures: list[type[Failure]] = [errors.InvalidRequest, errors.Internal, *description.failures]
    if door.caller != "anyone":
        failures += [errors.Unauthenticated, errors.ConfigError]
    if door.caller in ("user", "admin", "service"):
        failures += [errors.Forbidden, errors.Unavailable]
    if takes_body:
        failures.append(errors.PayloadTooLarge)
    by_status: dict[int, dict[str, str]] = {}
    for kind in failures:
        by_status.setdefault(status_of(kind), {}).setdefault(kind.code, kind.default_message)
    return {
        str(status): {
            "description": "\n".join(f"- `{code}`: {message}." for code, message in sorted(codes.items())),
            "headers": {
                "X-Request-Id": {"$ref": "#/components/headers/RequestId"},
                **({"Retry-After": {"$ref": "#/components/headers/RetryAfter"}} if status in (429, 503) else {}),
            },
            "content": {"application/json": {"schema": {"$ref": SCHEMAS + "Error"}}},
        }
        for status, codes in sorted(by_status.items())
        if status not in description.also
    }
