"""The simulated chat worker: the app's own language model server, which costs nothing and reports no cost."""

import json
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from local.simulator import answers, control, wire
from local.simulator.catalog import Json, stand_in
from local.simulator.faults import BadFault, Fault, Options, from_header
from local.simulator.ledger import Clock, Recorded
from local.simulator.performance import Outcome, Performance
from local.simulator.state import Simulator
from local.simulator.wire import DONE, JSON_HEADERS, STREAM_HEADERS, Data, Head, Reply, Script, Step, Usage, Wait

MODEL = "chat-worker"
FAULT_HEADER = "x-sim-fault"
_LIMIT = 500


class _Worker:
    def __init__(self, *, seed: int, model_loaded: bool, token: str | None, clock: Clock | None) -> None:
        self.simulator = Simulator(seed=seed, clock=clock)
        self.model_loaded = model_loaded
        self.token = token

    async def health(self, request: Request) -> Response:
        """Healthy even without a model: only `model_loaded` tells whether a chat can be answered."""
        self.simulator.ledger.record(request, None)
        return JSONResponse({"status": "healthy", "model_loaded": self.model_loaded})

    async def chat(self, request: Request) -> Response:
        body, recorded = await self._received(request)
        if not self._is_known(request):
            return _failed("Unauthorized", 401)
        if not self.model_loaded:
            return _failed("Model not loaded", 200)
        messages = _messages(body)
        if messages is None:
            return _failed("messages must be a list of {role, content}", 400)
        reply = self._reply(recorded, messages, body)
        spent_ms = reply.pace.latency_ms + reply.pace.generation_ms(reply.usage.completion_tokens)
        said = {"success": True, "response": reply.content, "generation_time": round(spent_ms / 1000, 3)}
        pause = (Wait(spent_ms),) if spent_ms else ()
        script = Script((*pause, Head(200, JSON_HEADERS), Data(wire.encoded(said))), reply)
        return self._played(request, recorded, reply, script, stream=False)

    async def completions(self, request: Request) -> Response:
        body, recorded = await self._received(request)
        if not self._is_known(request):
            return _openai_error("Incorrect API key provided", "invalid_request_error", 401)
        if not self.model_loaded:
            return _openai_error("Model not loaded", "server_error", 503)
        messages = _messages(body)
        if messages is None:
            return _openai_error("messages must be a list of {role, content}", "invalid_request_error", 400)
        reply = self._reply(recorded, messages, body)
        stream = body.get("stream") is True
        wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        steps = _streamed(reply, wants_usage) if stream else _answered(reply)
        return self._played(request, recorded, reply, Script(steps, reply), stream=stream)

    async def steer(self, request: Request) -> Response:
        """Load or unload the model: `{"model_loaded": bool}`."""
        wanted = await request.json()
        if not isinstance(wanted, dict) or not isinstance(wanted.get("model_loaded"), bool):
            raise BadFault("The body must be {model_loaded: bool}.")
        self.model_loaded = wanted["model_loaded"]
        return JSONResponse({"model_loaded": self.model_loaded})

    async def _received(self, request: Request) -> tuple[Json, Recorded]:
        raw = await request.body()
        try:
            body = json.loads(raw)
        except ValueError:
            body = raw.decode("utf-8", "replace")
        return body if isinstance(body, dict) else {}, self.simulator.ledger.record(request, body)

    def _is_known(self, request: Request) -> bool:
        return self.token is None or request.headers.get("authorization") == f"Bearer {self.token}"

    def _reply(self, recorded: Recorded, messages: list[Json], body: Json) -> Reply:
        model = stand_in(MODEL)
        told = self.simulator.text_for(recorded.path)
        words = answers.written(self.simulator.seed, MODEL, messages) if told is None else told
        limit = body.get("max_completion_tokens")
        limit = body.get("max_tokens") if limit is None else limit
        pieces = answers.tokens(words)
        kept = pieces[: _LIMIT if limit is None else int(limit)]
        finish = "length" if len(kept) < len(pieces) else "stop"
        prompt_tokens = answers.prompt_tokens(messages)
        return Reply(
            generation_id=f"chatcmpl-{answers.identifier(self.simulator.seed, MODEL, recorded.order)}",
            created=int(recorded.at.timestamp()),
            model=replace(model, permaslug=MODEL),
            provider="Chat worker",
            content="".join(kept),
            finish_reason=finish,
            native_finish_reason=finish,
            usage=Usage(prompt_tokens, len(kept), 0, model.prices(prompt_tokens, model.providers[0])),
            pace=self.simulator.defaults.pace,
        )

    def _played(self, request: Request, recorded: Recorded, reply: Reply, script: Script, *, stream: bool) -> Response:
        header = request.headers.get(FAULT_HEADER)
        try:
            fault: tuple[Fault, Options] | None = (
                from_header(header) if header else self.simulator.fault_for(recorded.path, "", None)
            )
        except BadFault as mistake:
            return control.mistaken(mistake)
        if fault is not None:
            recorded.fault = fault[0].name
            script = (fault[0].stream if stream else fault[0].plain)(reply, fault[1])

        def ended(outcome: Outcome) -> None:
            recorded.status, recorded.disconnected, recorded.ended = outcome.status, outcome.disconnected, True
            self.simulator.end()

        self.simulator.begin()
        return Performance(script, ended)


def create_worker(
    *, seed: int = 0, model_loaded: bool = True, token: str | None = None, clock: Clock | None = None
) -> Starlette:
    """A chat worker; with `token` it wants that bearer, without it anybody may ask.

    Faults come by `X-Sim-Fault`, or in line under the path (`/chat` or `/v1/chat/completions`) as model. Those
    that hang and then answer give OpenRouter's kind of body.
    """
    worker = _Worker(seed=seed, model_loaded=model_loaded, token=token, clock=clock)
    app = Starlette(
        routes=[
            Route("/health", worker.health),
            Route("/chat", worker.chat, methods=["POST"]),
            Route("/v1/chat/completions", worker.completions, methods=["POST"]),
            Route("/_sim/worker", control.explaining_mistakes(worker.steer), methods=["POST"]),
            *control.routes(worker.simulator),
        ]
    )
    app.state.simulator = worker.simulator
    return app


def _messages(body: Json) -> list[Json] | None:
    messages: Any = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return None
    return messages if all(isinstance(message, dict) and "role" in message for message in messages) else None


def _failed(error: str, status: int) -> Response:
    return JSONResponse({"success": False, "error": error}, status_code=status)


def _openai_error(message: str, kind: str, status: int) -> Response:
    return JSONResponse({"error": {"message": message, "type": kind, "code": None}}, status_code=status)


def _openai_usage(reply: Reply) -> Json:
    usage = reply.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _answered(reply: Reply) -> tuple[Step, ...]:
    body: Json = {
        "id": reply.generation_id,
        "object": "chat.completion",
        "created": reply.created,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.content},
                "finish_reason": reply.finish_reason,
            }
        ],
        "usage": _openai_usage(reply),
    }
    spent_ms = reply.pace.latency_ms + reply.pace.generation_ms(reply.usage.completion_tokens)
    return (*((Wait(spent_ms),) if spent_ms else ()), Head(200, JSON_HEADERS), Data(wire.encoded(body)))


def _streamed(reply: Reply, wants_usage: bool) -> tuple[Step, ...]:
    def chunk(choices: list[Json]) -> Json:
        return {
            "id": reply.generation_id,
            "object": "chat.completion.chunk",
            "created": reply.created,
            "model": MODEL,
            "choices": choices,
        }

    def choice(delta: Json, finish_reason: str | None = None) -> Data:
        return Data(wire.event(chunk([{"index": 0, "delta": delta, "finish_reason": finish_reason}])))

    steps: list[Step] = [Head(200, STREAM_HEADERS)]
    if reply.pace.latency_ms:
        steps.append(Wait(reply.pace.latency_ms))
    steps.append(choice({"role": "assistant", "content": ""}))
    for delta, count in wire.deltas(reply):
        pause_ms = reply.pace.generation_ms(count)
        steps += [Wait(pause_ms)] if pause_ms else []
        steps.append(choice({"content": delta["content"]}))
    steps.append(choice({}, reply.finish_reason))
    if wants_usage:
        steps.append(Data(wire.event(chunk([]) | {"usage": _openai_usage(reply)})))
    return (*steps, Data(DONE))
