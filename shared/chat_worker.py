"""The app's own chat worker: a second voice beside OpenRouter, in either of its two wire forms.

The worker's own form is `POST /chat {messages, max_tokens, temperature, top_p}` -> `{success, response, …}`; it cannot
stream. A base URL that ends in /v1 is an OpenAI-compatible server (vLLM, Ollama, llama.cpp), asked by its model's slug.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import httpx

from shared import tokens
from shared.openrouter import (
    Attempt,
    ChatRequest,
    Completion,
    Endpoint,
    Finished,
    OpenRouter,
    RetryPolicy,
    StreamEvent,
    TextDelta,
    Usage,
    answer,
    classification,
    network,
    retry,
    wire,
)
from shared.openrouter.classification import Envelope
from shared.openrouter.errors import (
    BadRequest,
    CallFailed,
    EmptyAnswer,
    KeyRejected,
    Misdirected,
    OutOfTime,
    Overloaded,
    ServerFault,
    TooSlow,
    Unreachable,
    UnreadableAnswer,
)
from shared.openrouter.wire import Action, Question

State = Literal["ok", "no_model", "down"]

# The manual's patience with one call; the deadline of the request cuts it.
ATTEMPT_S = 60.0
CONNECT_S = 5.0
# A worker that is being restarted refuses connections for a moment: one more knock, and no more.
KNOCK_AGAIN_AFTER_S = 0.25
HEALTH_S = 2.0
MOST_BODY_BYTES = 8 * 1024 * 1024

ACCEPTED = frozenset({"max_tokens", "temperature", "top_p"})
_TEXT_FIELDS = ("response", "text", "content")
_NOT_READY = re.compile(
    r"model[^.]{0,40}\bnot\b[^.]{0,20}\b(loaded|ready|initiali[sz]ed)|no model (is )?loaded|loading (the )?model"
    r"|model is (still )?(loading|starting|warming)",
    re.IGNORECASE,
)


class ChatWorker:
    """Asks the worker once; only a refused connection is tried a second time, because nothing was sent.

    The interface is that of `shared.openrouter.OpenRouter`: the same values, failures and attempts. A failed call of
    the worker's own form is never billed, and its tokens are estimates: the worker does not count.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        attempt_s: float = ATTEMPT_S,
        health_s: float = HEALTH_S,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._attempt_s, self._health_s = attempt_s, health_s
        self._monotonic, self._now, self._sleep = monotonic, now, sleep
        # The same wire as OpenRouter's; the one retry mends a refused connection or a refused parameter.
        policy = RetryPolicy(retries=1, attempt_s=attempt_s, connect_s=CONNECT_S)
        self._openai = OpenRouter(http, policy=policy, monotonic=monotonic, now=now, sleep=sleep)

    async def complete(
        self, endpoint: Endpoint, request: ChatRequest, *, deadline: float, attempts: list[Attempt]
    ) -> Completion:
        """The worker's whole answer. Raises CallFailed."""
        if speaks_openai(endpoint):
            return await self._openai.complete(endpoint, request, deadline=deadline, attempts=attempts)
        return await self._whole(endpoint, request, deadline, attempts)

    def stream(
        self, endpoint: Endpoint, request: ChatRequest, *, deadline: float, attempts: list[Attempt]
    ) -> AsyncGenerator[StreamEvent, None]:
        """The answer as it comes. In the worker's own form that is all at once: its first token comes with its last."""
        if speaks_openai(endpoint):
            return self._openai.stream(endpoint, request, deadline=deadline, attempts=attempts)
        return self._at_once(endpoint, request, deadline, attempts)

    async def health(self, endpoint: Endpoint) -> State:
        """Whether it could answer now. Never raises; a worker that is silent for two seconds is down.

        The worker calls itself healthy even when no model is loaded, so that is looked at too.
        """
        try:
            request = self._http.build_request(
                "GET",
                f"{_base(endpoint)}/{'models' if speaks_openai(endpoint) else 'health'}",
                headers=_headers(endpoint),
                timeout=self._health_s,
            )
            async with asyncio.timeout(self._health_s):
                response = await self._http.send(request, stream=True, auth=None, follow_redirects=False)
                body = await _body(response)
        except (CallFailed, ValueError):
            return "down"
        except network.faults():
            return "down"
        if response.status_code != 200:
            return "down"
        try:
            said = answer.parse_json(body)
        except UnreadableAnswer:
            return "ok"
        empty = isinstance(said, dict) and (said.get("model_loaded") is False or said.get("data") == [])
        return "no_model" if empty else "ok"

    async def _at_once(
        self, endpoint: Endpoint, request: ChatRequest, deadline: float, attempts: list[Attempt]
    ) -> AsyncGenerator[StreamEvent, None]:
        completion = await self._whole(endpoint, request, deadline, attempts)
        first_token_ms = attempts[-1].duration_ms
        attempts[-1] = replace(attempts[-1], first_token_ms=first_token_ms)
        if completion.content:
            yield TextDelta(completion.content)
        yield Finished(replace(completion, first_token_ms=first_token_ms))

    async def _whole(
        self, endpoint: Endpoint, request: ChatRequest, deadline: float, attempts: list[Attempt]
    ) -> Completion:
        question = _question(request)
        has_knocked = False
        while True:
            call = _Call(request.model, self._monotonic)
            try:
                completion = await self._ask(endpoint, question, call, deadline)
            except CallFailed as failure:
                failure.disposition = retry.row_for(failure).then
                again = isinstance(failure, Unreachable) and not has_knocked
                again = again and self._monotonic() + KNOCK_AGAIN_AFTER_S < deadline
                call.record(attempts, "retried" if again else "gave up", failure=failure)
                if not again:
                    raise
                has_knocked = True
            except asyncio.CancelledError:
                call.record(attempts, "cancelled", code="CANCELLED")
                raise
            else:
                call.record(attempts, "answered", usage=completion.usage)
                return replace(completion, dropped=question.dropped, parameters=question.parameters)
            await self._sleep(KNOCK_AGAIN_AFTER_S)

    async def _ask(self, endpoint: Endpoint, question: Question, call: _Call, deadline: float) -> Completion:
        try:
            request = self._http.build_request(
                "POST",
                f"{_base(endpoint)}/chat",
                headers=_headers(endpoint) | {"Content-Type": "application/json"},
                content=question.encoded(),
                timeout=httpx.Timeout(None, connect=CONNECT_S, pool=CONNECT_S),
            )
        except (httpx.InvalidURL, ValueError) as exc:
            raise Misdirected(f"the address {endpoint.base_url!r} cannot be asked") from exc
        due = min(call.started + self._attempt_s, deadline)
        timer = asyncio.timeout(max(due - self._monotonic(), 0.0))
        call.begun = True
        try:
            async with timer:
                response = await self._http.send(request, stream=True, auth=None, follow_redirects=False)
                call.status = response.status_code
                body = await _body(response)
        except TimeoutError as exc:
            if timer.expired():
                late = OutOfTime if due >= deadline else TooSlow
                raise late("no answer came in time", status=call.status) from None
            raise network.translated(exc, call.status) from exc
        except network.faults() as exc:
            raise network.translated(exc, call.status) from exc
        envelope = Envelope(response.status_code, response.headers, self._now(), (endpoint.key,))
        return _read(body, envelope, question.body["messages"])


class _Call:
    """One HTTP call while it runs, until it is written down."""

    def __init__(self, model: str, monotonic: Callable[[], float]) -> None:
        self._model = model
        self._monotonic = monotonic
        self.started = monotonic()
        self.begun = False
        self.status: int | None = None

    def record(
        self,
        attempts: list[Attempt],
        action: Action,
        *,
        code: str | None = None,
        failure: CallFailed | None = None,
        usage: Usage | None = None,
    ) -> None:
        """Append the Attempt; a call that was never begun leaves none."""
        if not self.begun:
            return
        attempts.append(
            Attempt(
                model=self._model,
                status=self.status,
                code=failure.code if failure is not None else code,
                duration_ms=max(0, round((self._monotonic() - self.started) * 1000)),
                action=action,
                usage=usage,
                # The worker does not notice that its reader left: it writes on to its limit.
                billed_unknown=action == "cancelled",
                billing_stops=False if action == "cancelled" else None,
                cause_text=failure.cause_text if failure is not None else "",
            )
        )


def speaks_openai(endpoint: Endpoint) -> bool:
    """Whether the worker is an OpenAI-compatible server: its base URL ends in /v1."""
    return _base(endpoint).endswith("/v1")


def _base(endpoint: Endpoint) -> str:
    return endpoint.base_url.rstrip("/")


def _headers(endpoint: Endpoint) -> dict[str, str]:
    if not endpoint.key:
        return {}
    if not (endpoint.key.isascii() and endpoint.key.isprintable()):
        raise KeyRejected("the token holds characters that no header can carry")
    return {"Authorization": f"Bearer {endpoint.key}"}


def _question(request: ChatRequest) -> Question:
    """The worker's body: messages and the three parameters it knows, as far as its row does not deny them."""
    supported = ACCEPTED if request.supported_parameters is None else ACCEPTED & request.supported_parameters
    question = wire.build(replace(request, supported_parameters=supported), kind="openai_compatible")
    parameters = {name: value for name, value in question.parameters.items() if name in ACCEPTED}
    dropped = (*question.dropped, *(name for name in question.parameters if name not in ACCEPTED))
    return Question({"messages": question.body["messages"], **parameters}, parameters, dropped)


async def _body(response: httpx.Response) -> bytes:
    """The whole body, bounded; the response is closed, come what may."""
    body = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MOST_BODY_BYTES:
                raise UnreadableAnswer(
                    f"the answer is larger than {MOST_BODY_BYTES} bytes", status=response.status_code
                )
    finally:
        with contextlib.suppress(*network.faults()):
            await response.aclose()
    return bytes(body)


def _read(body: bytes, envelope: Envelope, messages: Sequence[Mapping[str, Any]]) -> Completion:
    """The completion in the worker's answer, under whichever of the known names it stands."""
    if envelope.status != 200:
        raise _named(classification.from_response(envelope, body))
    said = answer.parse_json(body)
    if not isinstance(said, dict):
        raise UnreadableAnswer(f"not an object: {type(said).__name__}")
    success, error = said.get("success"), said.get("error")
    if success is False or (error and success is not True):
        # Without a status the words are all there is: 400 has them read.
        told = error if isinstance(error, Mapping) else {"message": str(error or "no reason was given")}
        raise _named(classification.from_error({"code": 400, **told}, envelope))
    if "choices" in said:
        completion = answer.parse_answer(body, envelope)
    else:
        texts = (answer.whole(wire.text_of(said.get(name))) for name in _TEXT_FIELDS)
        content = next((text for text in texts if text.strip()), "")
        if not content:
            raise EmptyAnswer("no text in the answer")
        completion = Completion(
            id=answer.text_or_none(said.get("id")),
            model=answer.text_or_none(said.get("model")),
            provider=None,
            content=content,
            finish_reason=answer.finish_reason(said.get("finish_reason"), None) or "stop",
            usage=answer.parse_usage(said.get("usage")),
        )
    return completion if completion.usage else replace(completion, usage=_estimated(messages, completion.content))


def _named(failure: CallFailed) -> CallFailed:
    """The failure as a worker means it: it has neither a catalogue nor an account."""
    text, status, told = failure.cause_text, failure.status, failure.told
    if _NOT_READY.search(text):
        return Overloaded(text, status=status, retry_after_s=failure.retry_after_s, told=told)
    if status in (404, 405):
        return Misdirected(text, status=status, told=told)
    if status == 200 and type(failure) is BadRequest:
        return ServerFault(text, status=status, told=told)
    return failure


def _estimated(messages: Sequence[Mapping[str, Any]], content: str) -> Usage:
    asked, written = tokens.estimate_messages(messages), tokens.estimate(content)
    return Usage(prompt_tokens=asked, completion_tokens=written, total_tokens=asked + written, estimated=True)
