"""Reads a chat request the way OpenRouter does, and plans the answer or the refusal."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from local.simulator import answers
from local.simulator.catalog import Catalog, Json, Model, slug_of
from local.simulator.wire import Pace, Refusal, Reply, ToolCall, Usage

_FIELDS_OF_THE_ENVELOPE = frozenset(
    {
        "messages", "prompt", "model", "models", "stream", "stream_options", "usage", "provider", "plugins",
        "session_id", "user", "metadata", "trace", "preset", "route", "transforms", "debug", "service_tier",
        "modalities", "cache_control", "prediction", "n",
    }
)  # fmt: skip
_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "frequency_penalty": (-2, 2),
    "presence_penalty": (-2, 2),
    "repetition_penalty": (0, 2),
    "top_logprobs": (0, 20),
}
_SHARES = {"max": 0.95, "xhigh": 0.95, "high": 0.8, "medium": 0.5, "low": 0.2, "minimal": 0.1}
_THOUGHT_TOKENS = {"max": 160, "xhigh": 120, "high": 80, "medium": 48, "low": 24, "minimal": 8}
_NATIVE = {
    "Anthropic": {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"},
    "Amazon Bedrock": {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"},
    "OpenAI": {"stop": "completed", "length": "max_output_tokens"},
    "Azure": {"stop": "completed", "length": "max_output_tokens"},
    "Google": {"stop": "STOP", "length": "MAX_TOKENS"},
}
_SMALL_CONTEXT = 8192


class Refused(Exception):
    """The request is answered by an error."""

    def __init__(self, status: int, message: str, metadata: Json | None = None, availability: Json | None = None):
        super().__init__(message)
        self.refusal = Refusal(status, message, metadata, availability)


@dataclass(frozen=True)
class Ask:
    """A chat request that passed the first look."""

    body: Json
    messages: tuple[Json, ...]
    candidates: tuple[str, ...]
    stream: bool
    session_id: str | None

    @property
    def limit(self) -> int | None:
        limit = self.body.get("max_completion_tokens")
        return self.body.get("max_tokens") if limit is None else limit

    @property
    def provider(self) -> Json:
        provider: Json = self.body.get("provider") or {}
        return provider

    def sent_parameters(self) -> set[str]:
        return {name for name, value in self.body.items() if value is not None} - _FIELDS_OF_THE_ENVELOPE

    def wants(self, model: Model, name: str) -> Any:
        """A parameter's value if this model knows it; others are dropped without a word."""
        return self.body.get(name) if name in model.supported else None


def read(raw: bytes, headers: Mapping[str, str]) -> Ask:
    """Parse and check a body; raises Refused with the documented message."""
    try:
        body = json.loads(raw)
    except ValueError as exc:
        raise Refused(400, "Input must have at least 1 token.") from exc
    if not isinstance(body, dict):
        raise Refused(400, "Input must have at least 1 token.")
    messages = _messages(body)
    _check_values(body)
    session_id = body.get("session_id")
    return Ask(
        body=body,
        messages=messages,
        candidates=_candidates(body),
        stream=body.get("stream") is True,
        session_id=headers.get("x-session-id") if session_id is None else session_id,
    )


def _messages(body: Json) -> tuple[Json, ...]:
    messages, prompt = body.get("messages"), body.get("prompt")
    if messages is None and isinstance(prompt, str) and prompt:
        return ({"role": "user", "content": prompt},)
    if messages is None or messages == []:
        raise Refused(400, 'Input required: specify "prompt" or "messages"')
    if not isinstance(messages, list):
        raise Refused(400, "messages: Invalid input: expected array")
    roles = {"system", "user", "assistant", "developer", "tool"}
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in roles:
            raise Refused(400, f"messages[{place}].role: Invalid option: expected one of {', '.join(sorted(roles))}")
        if not isinstance(message.get("content"), str | list | None):
            raise Refused(400, f"messages[{place}].content: Invalid input")
    return tuple(messages)


def _candidates(body: Json) -> tuple[str, ...]:
    models = body.get("models") or []
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise Refused(400, "models: Invalid input: expected array of strings")
    if len(models) > 3:
        raise Refused(400, "'models' array must have 3 items or fewer")
    model = body.get("model")
    if model is None and not models:
        # The account's default model.
        return ("openrouter/auto",)
    if model is not None and not isinstance(model, str):
        raise Refused(400, "model: Invalid input: expected string")
    first = [] if model is None else [model]
    return tuple(dict.fromkeys([*first, *models]))


def _check_values(body: Json) -> None:
    for name, (low, high) in _RANGES.items():
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Refused(400, f"{name}: Invalid input: expected number")
        if value is not None and not low <= value <= high:
            raise Refused(400, f"{name}: must be between {low} and {high}")
    for name in ("max_tokens", "max_completion_tokens"):
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise Refused(400, f"{name}: must be a positive integer")
    stop = body.get("stop")
    if isinstance(stop, list) and len(stop) > 4:
        raise Refused(400, "stop: at most 4 sequences")
    session_id = body.get("session_id")
    if session_id is not None and (not isinstance(session_id, str) or len(session_id) > 256):
        raise Refused(400, "session_id: must be a string of at most 256 characters")
    _check_metadata(body.get("metadata"))
    _check_reasoning(body)


def _check_metadata(metadata: Any) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or len(metadata) > 16:
        raise Refused(400, "metadata: at most 16 pairs")
    for key, value in metadata.items():
        if len(key) > 64 or not isinstance(value, str) or len(value) > 512:
            raise Refused(400, "metadata: keys have at most 64 and values at most 512 characters")


def _check_reasoning(body: Json) -> None:
    reasoning = body.get("reasoning")
    if reasoning is not None and not isinstance(reasoning, dict):
        raise Refused(400, "reasoning: Invalid input: expected object")
    reasoning = reasoning or {}
    effort, shorthand = reasoning.get("effort"), body.get("reasoning_effort")
    if effort is not None and reasoning.get("max_tokens") is not None:
        raise Refused(400, 'Only one of "reasoning.effort" and "reasoning.max_tokens" can be specified')
    if effort is not None and shorthand is not None and effort != shorthand:
        raise Refused(400, '"reasoning_effort" and "reasoning.effort" disagree')


def find(slug: str, catalog: Catalog) -> Model:
    """The model of this id; gone ones and garbage are refused in their own ways."""
    model = catalog.find(slug)
    if model is None and slug in catalog.gone:
        raise Refused(404, f"No endpoints found for {slug}.")
    if model is None:
        raise Refused(400, f"{slug} is not a valid model ID")
    if model.is_batch:
        raise Refused(
            400,
            f"{slug} is only available through the batch API",
            availability={"code": "wrong_endpoint", "retryable": False, "requested_models": [slug]},
        )
    return model


def plan(
    ask: Ask,
    model: Model,
    *,
    seed: int,
    generation_id: str,
    created: int,
    pace: Pace,
    balance: Decimal,
    text: str | None = None,
) -> Reply:
    """Work out the whole answer of one model; raises Refused when no endpoint fits or no money is left."""
    provider = _provider(ask, model)
    prompt_tokens = answers.prompt_tokens(ask.messages)
    limit = _limit(ask, model)
    prompt_tokens = _fitting(ask, model, prompt_tokens, limit)
    prices = model.prices(prompt_tokens, provider)
    _check_balance(prompt_tokens * prices.prompt, prices.completion, limit or model.max_output, balance)
    limit = model.max_output if limit is None else min(limit, model.max_output)
    thought = _thought(ask, model, seed, limit)
    thinking = len(answers.tokens(thought or ""))
    calls = _tool_calls(ask, model, generation_id)
    content, finish = _content(ask, model, seed, limit - thinking, text)
    spoken = len(answers.tokens(content))
    if calls:
        content, finish = "", "tool_calls"
        spoken = sum(len(answers.tokens(call.arguments)) for call in calls)
    return Reply(
        generation_id=generation_id,
        created=created,
        model=model,
        provider=provider,
        content=None if calls else content,
        finish_reason=finish,
        native_finish_reason=_NATIVE.get(provider, {}).get(finish, finish),
        usage=Usage(prompt_tokens, spoken + thinking, thinking, prices),
        pace=pace,
        reasoning=None if _is_hidden(ask) else thought,
        tool_calls=calls,
        extras={name: ask.body[name] for name in ("service_tier",) if ask.body.get(name) is not None},
        echoed_body=ask.body if (ask.body.get("debug") or {}).get("echo_upstream_body") else None,
    )


def _provider(ask: Ask, model: Model) -> str:
    """The provider that serves, after the filters of the `provider` object."""
    wishes = ask.provider
    if wishes.get("data_collection") == "deny" and model.is_free:
        raise Refused(404, "No endpoints found matching your data policy (Free model training)")
    if wishes.get("require_parameters") and ask.sent_parameters() - model.supported:
        raise Refused(404, "No endpoints found that can handle the requested parameters.")
    providers = list(model.providers)
    if wishes.get("only") is not None:
        providers = [provider for provider in providers if _is_named(provider, wishes["only"])]
    providers = [provider for provider in providers if not _is_named(provider, wishes.get("ignore") or ())]
    order = wishes.get("order") or []
    ordered = [provider for name in order for provider in providers if _is_named(provider, [name])]
    if order:
        others = [] if wishes.get("allow_fallbacks") is False else providers
        providers = [*ordered, *others]
    if not providers:
        raise Refused(404, "No allowed providers are available for the selected model.")
    _check_max_price(wishes.get("max_price") or {}, model, providers[0])
    return providers[0]


def _is_named(provider: str, names: Sequence[str]) -> bool:
    """A base slug names every variant of a provider: `azure` and `azure/eu` are both Azure."""
    return any(str(name).lower().partition("/")[0] in {slug_of(provider), provider.lower()} for name in names)


def _check_max_price(wanted: Json, model: Model, provider: str) -> None:
    prices = model.prices(0, provider)
    for name, price in (("prompt", prices.prompt), ("completion", prices.completion)):
        ceiling = wanted.get(name)
        # The ceiling is per million tokens, the catalogue per token.
        if ceiling is not None and price * 1_000_000 > Decimal(str(ceiling)):
            raise Refused(404, f"No endpoints found for {model.id} at or below the requested max_price.")


def _limit(ask: Ask, model: Model) -> int | None:
    """The token limit, by whichever of its two names the model knows."""
    for name in ("max_completion_tokens", "max_tokens"):
        limit = ask.wants(model, name)
        if limit is not None:
            return int(limit)
    # The new name is the preferred one, so it also reaches models that list only the old one; not the other way.
    preferred = ask.body.get("max_completion_tokens")
    return int(preferred) if "max_tokens" in model.supported and preferred is not None else None


def _fitting(ask: Ask, model: Model, prompt_tokens: int, limit: int | None) -> int:
    """How much of the prompt is read. Small models have their middle cut out unless told otherwise."""
    room = model.context_length - (limit or 0)
    if prompt_tokens <= room:
        return prompt_tokens
    switched_off = any(
        plugin.get("id") == "context-compression" and plugin.get("enabled") is False
        for plugin in ask.body.get("plugins") or ()
    )
    if model.context_length <= _SMALL_CONTEXT and room > 0 and not switched_off:
        return room
    asked = prompt_tokens + (limit or 0)
    raise Refused(
        400,
        f"This endpoint's maximum context length is {model.context_length} tokens. However, you requested about "
        f"{asked} tokens ({prompt_tokens} of text input, {limit or 0} in the output). "
        "Please reduce the length of either one.",
    )


def _check_balance(prompt_cost: Decimal, price: Decimal, limit: int, balance: Decimal) -> None:
    if balance < 0:
        raise Refused(402, "Insufficient credits", {"limit_source": "openrouter_credits"})
    if price <= 0 or prompt_cost + limit * price <= balance:
        return
    afford = max(0, int(((balance - prompt_cost) / price).to_integral_value(ROUND_FLOOR)))
    raise Refused(
        402,
        "This request requires more credits, or fewer max_tokens. "
        f"You requested up to {limit} tokens, but can only afford {afford}.",
        {"limit_source": "openrouter_credits"},
    )


def _is_hidden(ask: Ask) -> bool:
    return bool((ask.body.get("reasoning") or {}).get("exclude"))


def _thought(ask: Ask, model: Model, seed: int, limit: int) -> str | None:
    """The reasoning before the answer: when asked for, or when the model always does it."""
    ability = model.reasoning
    if ability is None:
        return None
    wishes: Json = ask.body.get("reasoning") or {}
    effort = wishes.get("effort") or ask.body.get("reasoning_effort")
    switched_off = effort == "none" or wishes.get("enabled") is False
    if switched_off and ability.get("mandatory"):
        raise Refused(400, "Reasoning is mandatory for this endpoint and cannot be disabled.")
    asked = bool(wishes.get("enabled") or wishes.get("max_tokens") or effort or ask.body.get("include_reasoning"))
    if switched_off or not (asked or ability.get("default_enabled")):
        return None
    effort = effort if effort in _SHARES else "medium"
    budget = wishes.get("max_tokens") or int(limit * _SHARES[effort])
    length = min(_THOUGHT_TOKENS[effort], int(budget), limit - 1)
    return answers.thought(seed, model.id, ask.messages, length) if length > 0 else None


def _tool_calls(ask: Ask, model: Model, generation_id: str) -> tuple[ToolCall, ...]:
    tools, choice = ask.wants(model, "tools") or [], ask.body.get("tool_choice")
    if not tools or choice == "none" or ask.messages[-1]["role"] == "tool":
        return ()
    told = any("use the tool" in answers.text_of(message).lower() for message in ask.messages)
    if choice != "required" and not isinstance(choice, dict) and not told:
        return ()
    named = (choice.get("function") or {}).get("name") if isinstance(choice, dict) else None
    functions = [tool["function"] for tool in tools if isinstance(tool, dict) and "function" in tool]
    chosen = [function for function in functions if named is None or function.get("name") == named]
    if not chosen:
        raise Refused(400, "tool_choice names a tool that is not in tools")
    arguments = json.dumps(answers.instance(chosen[0].get("parameters", {})), separators=(",", ":"))
    return (ToolCall(f"call_{generation_id[-20:]}", chosen[0]["name"], arguments),)


def _content(ask: Ask, model: Model, seed: int, limit: int, text: str | None) -> tuple[str, str]:
    """The words and why they end."""
    words = _formatted(ask, model) if text is None else text
    if words is None:
        words = answers.written(seed, model.id, ask.messages)
    stop = ask.wants(model, "stop")
    for sequence in [stop] if isinstance(stop, str) else stop or []:
        words = words.partition(sequence)[0] if sequence else words
    pieces = answers.tokens(words)
    if len(pieces) > limit:
        return "".join(pieces[:limit]), "length"
    return words, "stop"


def _formatted(ask: Ask, model: Model) -> str | None:
    wanted = ask.wants(model, "response_format") or {}
    if wanted.get("type") == "json_object":
        return json.dumps({"answer": "simulated"})
    if wanted.get("type") == "json_schema":
        return json.dumps(answers.instance((wanted.get("json_schema") or {}).get("schema", {})))
    return None
