"""The simulated OpenRouter: the paths under /api/v1."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.simulator import asking, control, wire
from local.simulator.asking import Ask, Refused
from local.simulator.catalog import FAULT_FAMILY, Json, Model, stand_in
from local.simulator.faults import BadFault, Fault, Options, from_header, from_model
from local.simulator.ledger import Clock, Recorded, fingerprint
from local.simulator.performance import Outcome, Performance
from local.simulator.state import Simulator
from local.simulator.wire import Reply, Script, Usage

BASE = "/api/v1"
FAULT_HEADER = "x-sim-fault"
_PAGE = 500
_MOST_PER_PAGE = 1000

Chosen = tuple[Fault, Options] | None
Endpoint = Callable[[Request], Awaitable[Response]]
Reading = Callable[[Request], Response]


def create_app(*, seed: int = 0, clock: Clock | None = None) -> Starlette:
    """A new OpenRouter with an empty bill.

    The same seed and the same questions give the same answers. `clock` dates ids and bill and decides when a
    generation becomes visible; it does not drive the waiting between tokens.
    """
    simulator = Simulator(seed=seed, clock=clock)
    readings: dict[str, Reading] = {
        "/models": lambda request: _models(simulator, request),
        "/models/count": lambda request: _data({"count": len(simulator.catalog.models)}),
        "/models/user": lambda request: _for_key(request, lambda key: _models(simulator, request)),
        "/models/{author}/{slug}/endpoints": lambda request: _endpoints(simulator, request),
        "/model/{author}/{slug}": lambda request: _one_model(simulator, request),
        "/key": lambda request: _for_key(request, lambda key: _key_facts(simulator, key)),
        "/auth/key": lambda request: _for_key(request, lambda key: _key_facts(simulator, key)),
        "/credits": lambda request: _for_key(request, lambda key: _credits(simulator)),
        "/generation": lambda request: _for_key(request, lambda key: _generation(simulator, request)),
    }
    app = Starlette(
        routes=[
            Route(f"{BASE}/chat/completions", _chat(simulator), methods=["POST"]),
            *(Route(f"{BASE}{path}", _reading(simulator, reading)) for path, reading in readings.items()),
            *control.routes(simulator),
        ],
        exception_handlers={HTTPException: _http_error},
    )
    app.state.simulator = simulator
    return app


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return JSONResponse({"error": {"message": exc.detail, "code": exc.status_code}}, status_code=exc.status_code)


def _chat(simulator: Simulator) -> Endpoint:
    async def chat(request: Request) -> Response:
        raw = await request.body()
        recorded = simulator.ledger.record(request, _readable(raw))
        recorded.generation_id = simulator.next_generation_id()
        ask, key, requested = None, "", ""
        try:
            key = _key(request)
            ask = asking.read(raw, request.headers)
            header = request.headers.get(FAULT_HEADER)
            script, requested = _script(simulator, ask, recorded, key, from_header(header) if header else None)
        except Refused as refused:
            script = _refusal(refused, recorded)
        except BadFault as mistake:
            return control.mistaken(mistake)

        def ended(outcome: Outcome) -> None:
            recorded.status, recorded.disconnected, recorded.ended = outcome.status, outcome.disconnected, True
            if ask is not None:
                simulator.ledger.charge(
                    script,
                    outcome,
                    requested=requested,
                    key_hash=key,
                    streamed=ask.stream,
                    echo={**ask.body, "session_id": ask.session_id},
                )
            simulator.end()

        simulator.begin()
        return Performance(script, ended)

    return chat


def _script(simulator: Simulator, ask: Ask, recorded: Recorded, key: str, ordered: Chosen) -> tuple[Script, str]:
    """The first candidate that answers, or else what the last one said, with the slug it was asked by."""
    script, slug = Script(()), ""
    for slug in ask.candidates:
        try:
            model = _model(simulator, slug)
            fault = simulator.fault_for(slug, key, ask.session_id) if ordered is None else ordered
            reply = _reply(simulator, ask, recorded, slug, model)
        except Refused as refused:
            script = _refusal(refused, recorded)
            continue
        if fault is None:
            return Script(wire.stream(reply) if ask.stream else wire.plain(reply), reply), slug
        recorded.fault = fault[0].name
        script = (fault[0].stream if ask.stream else fault[0].plain)(reply, fault[1])
        # A fault ordered by header is meant for the whole request, not for one of its models.
        if ordered is not None or not fault[0].refuses:
            return script, slug
    return script, slug


def _model(simulator: Simulator, slug: str) -> Model:
    if slug.startswith(FAULT_FAMILY) and from_model(slug) is None:
        raise Refused(400, f"{slug} is not a valid model ID")
    return simulator.catalog.serving(asking.find(slug, simulator.catalog))


def _reply(simulator: Simulator, ask: Ask, recorded: Recorded, slug: str, model: Model) -> Reply:
    reply = asking.plan(
        ask,
        model,
        seed=simulator.seed,
        generation_id=recorded.generation_id or "",
        created=int(recorded.at.timestamp()),
        pace=simulator.defaults.pace,
        balance=simulator.defaults.total_credits - simulator.ledger.total(),
        text=simulator.text_for(slug),
    )
    if recorded.headers.get("x-openrouter-metadata") != "enabled":
        return reply
    trace = {
        "requested": slug,
        "strategy": "direct",
        "attempt": ask.candidates.index(slug) + 1,
        "endpoints": {
            "total": len(model.providers),
            "available": [{"provider": name, "selected": name == reply.provider} for name in model.providers],
        },
    }
    return replace(reply, extras={**reply.extras, "openrouter_metadata": trace})


def _refusal(refused: Refused, recorded: Recorded) -> Script:
    return Script(wire.refused(refused.refusal, recorded.generation_id), charge="nothing")


def _readable(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def _key(request: Request) -> str:
    """The fingerprint of the caller's key; any key is good unless it starts with `bad`."""
    authorization = request.headers.get("authorization")
    if authorization is None:
        raise Refused(401, "No auth credentials found")
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Refused(401, "Missing Authentication header")
    if key.strip().startswith("bad"):
        raise Refused(401, "User not found.")
    return fingerprint(key)


def _reading(simulator: Simulator, reading: Reading) -> Endpoint:
    """A GET that is recorded and may meet a fault, by header or by its path in line."""

    async def read(request: Request) -> Response:
        recorded = simulator.ledger.record(request, None)
        header = request.headers.get(FAULT_HEADER)
        path = request.url.path.removeprefix(BASE)
        try:
            fault = from_header(header) if header else simulator.fault_for(path, "", None)
            if fault is None:
                response = reading(request)
                recorded.status, recorded.ended = response.status_code, True
                return response
        except Refused as refused:
            recorded.status, recorded.ended = refused.refusal.status, True
            return JSONResponse(refused.refusal.json(), status_code=refused.refusal.status)
        except BadFault as mistake:
            return control.mistaken(mistake)
        recorded.fault = fault[0].name

        def ended(outcome: Outcome) -> None:
            recorded.status, recorded.disconnected, recorded.ended = outcome.status, outcome.disconnected, True
            simulator.end()

        simulator.begin()
        return Performance(fault[0].plain(_nobody(simulator, recorded), fault[1]), ended)

    return read


def _nobody(simulator: Simulator, recorded: Recorded) -> Reply:
    """A reply to hang a fault on where no model was asked."""
    model = stand_in("sim/reading")
    return Reply(
        generation_id=simulator.next_generation_id(),
        created=int(recorded.at.timestamp()),
        model=model,
        provider=model.providers[0],
        content="Simulated.",
        finish_reason="stop",
        native_finish_reason="stop",
        usage=Usage(1, 2, 0, model.prices(1, model.providers[0])),
        pace=simulator.defaults.pace,
    )


def _data(data: Any) -> Response:
    return JSONResponse({"data": data})


def _for_key(request: Request, reading: Callable[[str], Response]) -> Response:
    return reading(_key(request))


def _models(simulator: Simulator, request: Request) -> Response:
    found = [model.wire for model in simulator.catalog.models if _matches(model, request)]
    following = None
    shown = found
    if {"offset", "limit"} & set(request.query_params):
        offset, limit = _number(request, "offset", 0), _number(request, "limit", _PAGE)
        end = offset + min(limit, _MOST_PER_PAGE)
        shown = found[offset:end]
        following = f"{BASE}/models?offset={end}&limit={limit}" if end < len(found) else None
    headers = {"cache-control": "public, max-age=300, stale-while-revalidate=3600"}
    envelope = {"data": shown, "total_count": len(found), "links": {"next": following}}
    return JSONResponse(envelope, headers=headers)


def _matches(model: Model, request: Request) -> bool:
    wanted = request.query_params
    parameters = {name for name in wanted.get("supported_parameters", "").split(",") if name}
    ceiling = wanted.get("max_price")
    words = wanted.get("q", "").lower()
    affordable = ceiling is None or Decimal(model.wire["pricing"]["prompt"]) * 1_000_000 <= Decimal(ceiling)
    named = words in model.id.lower() or words in model.wire["name"].lower()
    return parameters <= model.supported and affordable and named


def _number(request: Request, name: str, otherwise: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return otherwise
    if not text.isdigit():
        raise Refused(400, f"{name}: Invalid input: expected number")
    return int(text)


def _named_model(simulator: Simulator, request: Request) -> Model:
    slug = f"{request.path_params['author']}/{request.path_params['slug']}"
    model = None if slug.startswith(FAULT_FAMILY) else simulator.catalog.find(slug)
    if model is None:
        raise Refused(404, f"Model {slug} not found")
    return model


def _one_model(simulator: Simulator, request: Request) -> Response:
    return _data(simulator.catalog.serving(_named_model(simulator, request)).wire)


def _endpoints(simulator: Simulator, request: Request) -> Response:
    model = _named_model(simulator, request)
    shown = {name: model.wire[name] for name in ("id", "name", "created", "description", "architecture")}
    return _data(shown | {"endpoints": model.endpoints()})


def _key_facts(simulator: Simulator, key: str) -> Response:
    usage = float(simulator.ledger.total(key))
    facts: Json = {
        "label": f"sk-or-v1-{key[:3]}...{key[-3:]}",
        "limit": None,
        "limit_remaining": None,
        "limit_reset": None,
        "usage": usage,
        "usage_daily": usage,
        "usage_weekly": usage,
        "usage_monthly": usage,
        "byok_usage": 0,
        "byok_usage_daily": 0,
        "byok_usage_weekly": 0,
        "byok_usage_monthly": 0,
        "include_byok_in_limit": False,
        "is_free_tier": False,
        "is_management_key": False,
        "is_provisioning_key": False,
        "expires_at": None,
        "creator_user_id": wire.USER_ID,
        "free_model_daily_requests": {"limit": 1000, "used": 0, "remaining": 1000},
        "rate_limit": {"requests": -1, "interval": "10s", "note": "This field is deprecated and safe to ignore."},
    }
    return _data(facts)


def _credits(simulator: Simulator) -> Response:
    total = float(simulator.defaults.total_credits)
    return _data({"total_credits": total, "total_usage": float(simulator.ledger.total())})


def _generation(simulator: Simulator, request: Request) -> Response:
    wanted = request.query_params.get("id", "")
    entry = simulator.ledger.generation(wanted, simulator.defaults.generation_lag)
    if entry is None:
        # Without user_id, as recorded.
        return JSONResponse({"error": {"message": f"Generation {wanted} not found", "code": 404}}, status_code=404)
    return _data(entry.generation())
