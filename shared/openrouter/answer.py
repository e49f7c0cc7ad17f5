"""Reading an answer: the completion in a whole body, and what such a body and an event of a stream share; pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any, cast

from shared.openrouter import classification
from shared.openrouter.classification import Envelope
from shared.openrouter.errors import (
    CallFailed,
    EmptyAnswer,
    ReasoningAteBudget,
    ServerFault,
    ToolCallCut,
    UnreadableAnswer,
)
from shared.openrouter.wire import Completion, FinishReason, Usage, text_of


def parse_json(body: bytes | str) -> Any:
    """The JSON value, with numbers that have a point as Decimal; NaN and Infinity, which are not JSON, as None."""
    try:
        text = body.decode("utf-8-sig", "replace") if isinstance(body, bytes) else body
        return json.loads(text, parse_float=_decimal, parse_constant=lambda _: None)
    except (ValueError, RecursionError) as exc:
        raise UnreadableAnswer(classification.redacted(f"not JSON: {_beginning(body)}")) from exc


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text)
    except InvalidOperation:
        return None


def _beginning(body: bytes | str) -> str:
    text = body[:300].decode("utf-8", "replace") if isinstance(body, bytes) else body[:300]
    return text.strip()[:200] or "(nothing)"


def parse_answer(body: bytes, envelope: Envelope) -> Completion:
    """The completion in a whole body that came with status 200, or the failure hidden in it."""
    answer = parse_json(body)
    if not isinstance(answer, dict):
        raise UnreadableAnswer(f"not an object: {type(answer).__name__}")
    answer = rescued(answer)
    try:
        return _answer(answer, envelope)
    except CallFailed as failure:
        failure.usage = parse_usage(answer.get("usage"))
        failure.generation_id = text_or_none(answer.get("id")) or failure.generation_id
        failure.upstream_provider = text_or_none(answer.get("provider")) or failure.upstream_provider
        raise


def rescued(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer itself, or the one that, rarely, arrives whole inside its `provider`."""
    nested = answer.get("provider")
    inside = isinstance(nested, dict) and isinstance(nested.get("choices"), list) and not answer.get("choices")
    return cast("dict[str, Any]", nested) if inside else answer


def _answer(answer: Mapping[str, Any], envelope: Envelope) -> Completion:
    raise_error_of(answer, envelope)
    if "choices" not in answer:
        raise UnreadableAnswer("no choices in the answer")
    choices = answer["choices"]
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        raise EmptyAnswer("no choice in the answer")
    raise_error_of(choice, envelope)
    message = choice.get("message")
    message = message if isinstance(message, dict) else {}
    details = message.get("reasoning_details")
    return judged(
        Completion(
            id=text_or_none(answer.get("id")) or classification.generation_id(envelope.headers),
            model=text_or_none(answer.get("model")),
            provider=text_or_none(answer.get("provider")),
            content=whole(text_of(message.get("content"))),
            reasoning=reasoning_text(message) or None,
            reasoning_details=_verbatim(details) if isinstance(details, list) else None,
            tool_calls=tuple(_tool_calls(message.get("tool_calls"))),
            refusal=text_or_none(message.get("refusal")),
            finish_reason=finish_reason(choice.get("finish_reason"), choice.get("native_finish_reason")),
            native_finish_reason=text_or_none(choice.get("native_finish_reason")),
            usage=parse_usage(answer.get("usage")),
        )
    )


def _verbatim(details: list[Any]) -> tuple[Mapping[str, Any], ...]:
    return tuple(plain_json(item) for item in details if isinstance(item, dict))


def raise_error_of(part: Mapping[str, Any], envelope: Envelope) -> None:
    """Raise if an answer, a choice or an event says that it failed, whatever else it holds."""
    error = part.get("error")
    if error is not None and error is not False and error != "":
        raise classification.from_error(error, envelope)
    if part.get("object") == "error" or part.get("type") == "error":
        raise classification.from_error(part, envelope)
    if part.get("finish_reason") == "error":
        raise ServerFault("finish_reason error without a word why", status=envelope.status, told=True)


_NATIVE_LENGTH = frozenset({"length", "max_output_tokens", "max_tokens"})
_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "completed": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos": "stop",
    "length": "length",
    "max_output_tokens": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "refusal": "content_filter",
}


def finish_reason(said: object, native: object) -> FinishReason | None:
    """Our four reasons from the normal or the provider's own one; a word not known yet means it simply stopped."""
    for word in (said, native):
        if isinstance(word, str) and word.lower() in _FINISH:
            return _FINISH[word.lower()]
    return "stop" if isinstance(said, str) and said else None


def judged(answer: Completion) -> Completion:
    """The finished answer, or the failure it is in truth: nothing in it, all reasoning, or tool arguments cut off."""
    blank = not answer.content.strip()
    cut = answer.finish_reason == "length" or (answer.native_finish_reason or "").lower() in _NATIVE_LENGTH
    reason = answer.finish_reason or "stop"
    filtered = _FINISH.get((answer.native_finish_reason or "").lower()) == "content_filter"
    if answer.refusal or reason == "content_filter" or (filtered and blank):
        return _with_finish(answer, "content_filter")
    if answer.tool_calls:
        if (cut and reason == "tool_calls") or not all(_arguments_whole(call) for call in answer.tool_calls):
            raise ToolCallCut("tool arguments end before they are complete", usage=answer.usage)
        return _with_finish(answer, "length" if reason == "length" else "tool_calls")
    if blank:
        thought = answer.reasoning or answer.reasoning_details or (answer.usage and answer.usage.reasoning_tokens)
        if cut and thought:
            raise ReasoningAteBudget("the whole token limit went to reasoning", usage=answer.usage)
        raise EmptyAnswer("reasoning only" if thought else "no content", usage=answer.usage)
    # Some providers say stop when only their own word tells that the limit was reached.
    return _with_finish(answer, "length" if cut else "stop")


def _with_finish(answer: Completion, reason: FinishReason) -> Completion:
    return answer if answer.finish_reason == reason else replace(answer, finish_reason=reason)


def _arguments_whole(call: Mapping[str, Any]) -> bool:
    arguments = call["function"]["arguments"]
    if not arguments.strip():
        # How a call without arguments is often written.
        return True
    try:
        json.loads(arguments)
    except (ValueError, RecursionError):
        return False
    return True


def _tool_calls(value: object) -> list[Mapping[str, Any]]:
    calls = [call for call in value if isinstance(call, dict)] if isinstance(value, list) else []
    return [
        tool_call(call.get("id"), _function(call).get("name"), arguments_text(_function(call).get("arguments")))
        for call in calls
    ]


def _function(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def tool_call(id: object, name: object, arguments: str) -> Mapping[str, Any]:
    """A tool call in the wire's shape."""
    function = {"name": text_or_none(name) or "", "arguments": arguments}
    return {"id": text_or_none(id) or "", "type": "function", "function": function}


def arguments_text(value: object) -> str:
    """Arguments as JSON text; a server that sends the object itself is understood too."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(plain_json(value), ensure_ascii=False)


def reasoning_text(part: Mapping[str, Any]) -> str:
    """The reasoning of a message or delta, once: the same text comes in two fields, and in a third elsewhere."""
    for name in ("reasoning", "reasoning_content"):
        if isinstance(part.get(name), str) and part[name]:
            return str(part[name])
    details = part.get("reasoning_details")
    if not isinstance(details, list):
        return ""
    texts = (item.get("text") or item.get("summary") for item in details if isinstance(item, dict))
    return "".join(text for text in texts if isinstance(text, str))


def whole(text: str) -> str:
    """The text without half surrogate pairs, which can be stored and sent nowhere."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def plain_json(value: Any) -> Any:
    """The same value with Decimal turned back into plain numbers, so that it can be sent again as it came."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: plain_json(item) for name, item in value.items()}
    return [plain_json(item) for item in value] if isinstance(value, list) else value


# Above these a number is a fault of the sender: it would not fit the ledger's columns.
_MOST_TOKENS = 2_000_000_000
_MOST_DOLLARS = Decimal(100_000)


def parse_usage(value: object) -> Usage | None:
    """Token counts and cost, or None when nothing usable is said. A cost that is negative or absurd is unknown."""
    if not isinstance(value, Mapping):
        return None
    prompt, completion = count(value.get("prompt_tokens")), count(value.get("completion_tokens"))
    cost = dollars(value.get("cost"))
    if prompt is None and completion is None and cost is None:
        return None
    total = count(value.get("total_tokens"))
    read, written = _mapping(value.get("prompt_tokens_details")), _mapping(value.get("completion_tokens_details"))
    return Usage(
        prompt_tokens=prompt or 0,
        completion_tokens=completion or 0,
        total_tokens=total if total is not None else (prompt or 0) + (completion or 0),
        cached_tokens=count(read.get("cached_tokens")) or 0,
        cache_write_tokens=count(read.get("cache_write_tokens")) or 0,
        reasoning_tokens=count(written.get("reasoning_tokens")) or 0,
        cost=cost,
        upstream_cost=dollars(_mapping(value.get("cost_details")).get("upstream_inference_cost")),
        is_byok=value.get("is_byok") is True,
    )


def count(value: object) -> int | None:
    """A whole number that is not negative, or None."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return int(value) if 0 <= value <= _MOST_TOKENS else None


def dollars(value: object) -> Decimal | None:
    """An amount in US dollars from a JSON number or decimal text; None when missing, negative or absurd."""
    if isinstance(value, str):
        value = _decimal(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    amount = Decimal(value)
    return amount if amount.is_finite() and 0 <= amount <= _MOST_DOLLARS else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
