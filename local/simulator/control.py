"""The paths under /_sim by which a test or a developer steers the simulator and reads what it saw."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.simulator.catalog import Json
from local.simulator.faults import FAULTS, BadFault, named
from local.simulator.state import Simulator, Waiting

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(simulator: Simulator) -> list[Route]:
    """Routes for the bill, the requests, faults, answers, defaults and generations."""

    async def bill(request: Request) -> Response:
        return JSONResponse(simulator.ledger.bill())

    async def requests(request: Request) -> Response:
        return JSONResponse([recorded.json() for recorded in simulator.ledger.requests])

    async def idle(request: Request) -> Response:
        await simulator.until_quiet()
        return JSONResponse({"idle": True})

    async def reset(request: Request) -> Response:
        simulator.reset()
        return JSONResponse({"reset": True})

    async def registry(request: Request) -> Response:
        return JSONResponse(
            [
                {
                    "name": fault.name,
                    "description": fault.description,
                    "section": fault.section,
                    "status": fault.status,
                    "plain_ends": fault.plain_ends,
                    "stream_ends": fault.stream_ends,
                    "options": dict(fault.options),
                }
                for fault in FAULTS.values()
            ]
        )

    async def faults(request: Request) -> Response:
        if request.method == "POST":
            for wanted in _listed(await _json(request)):
                name, options = str(wanted.get("fault")), wanted.get("options") or {}
                named(name, options)
                simulator.queue.append(Waiting(_target(wanted), _times(wanted), fault=name, options=options))
        elif request.method == "DELETE":
            simulator.queue[:] = [waiting for waiting in simulator.queue if waiting.fault is None]
        return JSONResponse([waiting.json() for waiting in simulator.queue if waiting.fault is not None])

    async def texts(request: Request) -> Response:
        if request.method == "POST":
            for wanted in _listed(await _json(request)):
                if not isinstance(wanted.get("text"), str):
                    raise BadFault("An answer needs `text`.")
                simulator.queue.append(Waiting(_target(wanted), _times(wanted), text=wanted["text"]))
        elif request.method == "DELETE":
            simulator.queue[:] = [waiting for waiting in simulator.queue if waiting.fault is not None]
        return JSONResponse([waiting.json() for waiting in simulator.queue if waiting.fault is None])

    async def defaults(request: Request) -> Response:
        if request.method == "POST":
            simulator.defaults = simulator.defaults.changed(_object(await _json(request)))
        return JSONResponse(simulator.defaults.json())

    async def generations(request: Request) -> Response:
        """Make one generation, or without an id every one, visible at once."""
        wanted = _object(await _json(request))
        if wanted.get("id") is None:
            simulator.ledger.all_shown = True
        else:
            simulator.ledger.shown_early.add(str(wanted["id"]))
        return JSONResponse({"visible": True})

    return [
        Route("/_sim/bill", bill),
        Route("/_sim/requests", requests),
        Route("/_sim/idle", idle),
        Route("/_sim/reset", reset, methods=["POST"]),
        Route("/_sim/registry", registry),
        Route("/_sim/faults", explaining_mistakes(faults), methods=["GET", "POST", "DELETE"]),
        Route("/_sim/answers", explaining_mistakes(texts), methods=["GET", "POST", "DELETE"]),
        Route("/_sim/defaults", explaining_mistakes(defaults), methods=["GET", "POST"]),
        Route("/_sim/generations", explaining_mistakes(generations), methods=["POST"]),
    ]


def explaining_mistakes(endpoint: Endpoint) -> Endpoint:
    """Tell a mistaken test what is wrong instead of failing with 500."""

    async def explained(request: Request) -> Response:
        try:
            return await endpoint(request)
        except BadFault as mistake:
            return mistaken(mistake)

    return explained


def mistaken(mistake: BadFault) -> Response:
    return JSONResponse({"error": {"code": 400, "message": f"Simulator: {mistake}"}}, status_code=400)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body() or b"{}")
    except ValueError as exc:
        raise BadFault("The body is no JSON.") from exc


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise BadFault("The body must be a JSON object.")
    return value


def _listed(value: Any) -> list[Json]:
    return [_object(item) for item in value] if isinstance(value, list) else [_object(value)]


def _target(wanted: Json) -> str:
    return str(wanted.get("model", "*"))


def _times(wanted: Json) -> int | None:
    times = wanted.get("times", 1)
    if times is not None and (not isinstance(times, int) or times < 1):
        raise BadFault("`times` is a positive number, or null for always.")
    return times
