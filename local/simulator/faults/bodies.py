"""Answers with a status that promises more than the body holds, and bodies that are no JSON."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from local.simulator import answers, wire
from local.simulator.catalog import Json
from local.simulator.faults.fault import Fault, Options, Scripted, Value
from local.simulator.wire import DONE, USER_ID, Charge, Data, Head, Reply, Script, ToolCall

HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1>cloudflare</body></html>"


def all_bodies() -> Iterable[Fault]:
    yield from _other_statuses()
    yield from _no_json()
    yield from _failures_in_200()
    yield from _odd_endings()


def _raw(status: int, headers: tuple[tuple[str, str], ...], payload: bytes) -> Scripted:
    def script(reply: Reply, options: Options) -> Script:
        return Script((wire.head(reply, headers, status), Data(payload)), charge="nothing")

    return script


def _other_statuses() -> Iterable[Fault]:
    html = (("content-type", "text/html; charset=UTF-8"), ("cf-ray", "8c0ffee0-FRA"))
    rows: tuple[tuple[str, int, tuple[tuple[str, str], ...], bytes, str], ...] = (
        ("html_502", 502, html, HTML, "an HTML page of the edge instead of JSON"),
        ("html_403", 403, html, HTML.replace(b"502 Bad Gateway", b"Just a moment..."), "a browser challenge"),
        ("empty_500", 500, wire.JSON_HEADERS, b"", "an empty body"),
        ("json_500_no_error", 500, wire.JSON_HEADERS, b'{"message":"oops"}', "JSON without `error`"),
        ("json_500_error_text", 500, wire.JSON_HEADERS, b'{"error":"oops"}', "`error` is a text, not an object"),
        ("redirect_302", 302, (("location", "https://openrouter.invalid/login"),), b"", "a redirect to a log-in page"),
    )
    for name, status, headers, payload, description in rows:
        raw = _raw(status, headers, payload)
        yield Fault(name, f"HTTP {status} with {description}", "7", raw, raw, status=status, refuses=True)


def _no_json() -> Iterable[Fault]:
    """Bodies of a 200 that cannot be read; what the provider made is charged all the same."""

    def truncated(reply: Reply, options: Options) -> Script:
        payload = wire.encoded(wire.body(reply))
        return Script(wire.whole(reply, payload[: len(payload) // 2]), reply)

    def truncated_event(reply: Reply, options: Options) -> Script:
        payload = wire.event(wire.chunk(reply, wire.empty_delta() | {"content": reply.content}))
        return Script((*wire.opening(reply), Data(payload[: len(payload) // 2])), reply)

    def body_of(payload: bytes, kind: str = "application/json") -> Scripted:
        return lambda reply, _: Script(wire.whole(reply, payload, (("content-type", kind),)), reply)

    def events_of(payload: bytes) -> Scripted:
        return lambda reply, _: Script((*wire.opening(reply), Data(payload)), reply)

    def wrong_kind(reply: Reply, options: Options) -> Script:
        payload = wire.encoded(wire.body(reply))
        return Script(wire.whole(reply, payload, (("content-type", "text/html; charset=utf-8"),)), reply)

    def wrong_kind_of_stream(reply: Reply, options: Options) -> Script:
        first, *rest = wire.stream(reply)
        assert isinstance(first, Head)
        plain_text = tuple((key, "text/plain" if key == "content-type" else value) for key, value in first.headers)
        return Script((Head(first.status, plain_text), *rest), reply)

    rows: tuple[tuple[str, str, Scripted, Scripted], ...] = (
        ("truncated_json", "JSON that breaks off in the middle", truncated, truncated_event),
        ("not_json", "words that are no JSON", body_of(b"upstream: OK"), events_of(b"data: upstream: OK\n\n")),
        ("empty_200", "no body but padding", body_of(b""), events_of(b"")),
        ("json_null", "the JSON value null", body_of(b"null"), events_of(b"data: null\n\n" + DONE)),
        ("json_list", "a JSON list", body_of(b"[]"), events_of(b"data: []\n\n" + DONE)),
        ("html_200", "an HTML page", body_of(HTML, "text/html"), events_of(HTML)),
        ("wrong_content_type", "a good answer under a wrong content type", wrong_kind, wrong_kind_of_stream),
    )
    for name, description, plain, stream in rows:
        yield Fault(name, f"HTTP 200 with {description}", "3.8", plain, stream)


def _failures_in_200() -> Iterable[Fault]:
    def both(
        name: str, description: str, body: Callable[[Reply], Json], event: Callable[[Reply], Json], charge: Charge
    ) -> Fault:
        def plain(reply: Reply, options: Options) -> Script:
            charged = reply.insured() if charge == "nothing" else reply
            return Script(wire.whole(charged, wire.encoded(body(charged))), charged, charge)

        def stream(reply: Reply, options: Options) -> Script:
            return Script((*wire.opening(reply), Data(wire.event(event(reply))), Data(DONE)), reply, charge)

        return Fault(name, description, "3.8", plain, stream)

    def error(reply: Reply) -> Json:
        return {"error": {"message": "Internal Server Error", "code": 500}, "user_id": USER_ID}

    def rate_error(reply: Reply) -> Json:
        return {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "slow down"}}}

    def nothing(reply: Reply) -> Json:
        return dict.fromkeys(("id", "provider", "model", "object", "created", "choices", "usage"))

    def nested(reply: Reply) -> Json:
        return nothing(reply) | {"provider": wire.body(reply)}

    def no_choices(reply: Reply) -> Json:
        return wire.body(reply) | {"choices": []}

    def without_choices(reply: Reply) -> Json:
        return {key: value for key, value in wire.body(reply).items() if key != "choices"}

    def empty_chunk(reply: Reply) -> Json:
        return wire.envelope(reply, [])

    def bare_chunk(reply: Reply) -> Json:
        return {"id": reply.generation_id, "object": "chat.completion.chunk"}

    def null_message(reply: Reply) -> Json:
        body = wire.body(reply)
        body["choices"][0]["message"] = None
        return body

    def null_delta(reply: Reply) -> Json:
        event = wire.chunk(reply, {})
        event["choices"][0]["delta"] = None
        return event

    yield both("ok_error", "HTTP 200 whose body is a top-level error 500", error, error, "nothing")
    yield both("ok_error_429", "HTTP 200 whose body is a top-level error 429", rate_error, rate_error, "nothing")
    yield both("ok_all_null", "HTTP 200 in which everything is null", nothing, nothing, "nothing")
    yield both("ok_nested", "HTTP 200 with the whole completion inside `provider`", nested, nested, "all")
    yield both("ok_no_choices", "HTTP 200 with choices []", no_choices, empty_chunk, "nothing")
    yield both("ok_choices_missing", "HTTP 200 without the key choices", without_choices, bare_chunk, "nothing")
    yield both("ok_null_message", "HTTP 200 whose message or delta is null", null_message, null_delta, "nothing")

    def choice_error(reply: Reply, options: Options) -> Script:
        partial = _partial(reply, int(options.number("after_tokens"))).insured()
        body = wire.body(partial)
        body["choices"][0]["error"] = {
            "code": 502,
            "message": "Provider disconnected",
            "metadata": {"error_type": "provider_unavailable"},
        }
        return Script(wire.whole(partial, wire.encoded(body)), partial, "nothing")

    def choice_error_event(reply: Reply, options: Options) -> Script:
        partial = _partial(reply, int(options.number("after_tokens"))).insured()
        last = wire.chunk(partial, wire.empty_delta(), "error", "error")
        last["choices"][0]["error"] = {"code": 502, "message": "Provider disconnected"}
        told = wire.talking(partial, wire.deltas(partial))
        return Script((*wire.opening(partial), *told, Data(wire.event(last)), Data(DONE)), partial, "nothing")

    yield Fault(
        "ok_choice_error",
        "HTTP 200 with finish_reason error, choices[0].error and part of the answer",
        "3.8",
        choice_error,
        choice_error_event,
        options={"after_tokens": 6},
    )


def _partial(reply: Reply, tokens: int) -> Reply:
    words = "".join(answers.tokens(reply.content or "")[:tokens])
    return reply.with_content(words).ending("error", "error")


def _odd_endings() -> Iterable[Fault]:
    """Well-formed answers that need a second look."""

    def changed(
        name: str,
        description: str,
        section: str,
        change: Callable[[Reply, Options], Reply],
        options: Mapping[str, Value] | None = None,
    ) -> Fault:
        def plain(reply: Reply, chosen: Options) -> Script:
            other = change(reply, chosen)
            return Script(wire.plain(other), other)

        def stream(reply: Reply, chosen: Options) -> Script:
            other = change(reply, chosen)
            return Script(wire.stream(other), other)

        return Fault(name, description, section, plain, stream, options=options if options else {})

    def empty(reply: Reply, options: Options) -> Reply:
        bare = replace(reply, reasoning=None, usage=replace(reply.usage, reasoning_tokens=0))
        return bare.with_content("").ending("stop", "stop")

    def blank(reply: Reply, options: Options) -> Reply:
        return empty(reply, options).with_content(" \n\n ")

    def eaten(reply: Reply, options: Options) -> Reply:
        thought = answers.thought(0, reply.model.id, [], int(options.number("tokens")))
        bare = empty(reply, options).with_reasoning(thought)
        return bare.ending("length", "max_output_tokens")

    def cut_tool(reply: Reply, options: Options) -> Reply:
        call = ToolCall("call_sim_cut", "look_up", '{"place":"the old light')
        return replace(reply.with_content(None), tool_calls=(call,)).ending("tool_calls", "length")

    def refusal(reply: Reply, options: Options) -> Reply:
        return replace(reply.with_content(None), refusal="I cannot help with that.").ending("stop", "refusal")

    def filtered(reply: Reply, options: Options) -> Reply:
        return _partial(reply, int(options.number("after_tokens"))).ending("content_filter", "content_filter")

    def unfinished(reply: Reply, options: Options) -> Reply:
        return reply.ending(None, None)

    def novel(reply: Reply, options: Options) -> Reply:
        return reply.ending("paused", "PAUSED_BY_POLICY")

    def polite_length(reply: Reply, options: Options) -> Reply:
        return reply.ending("stop", "max_output_tokens")

    def long_fields(reply: Reply, options: Options) -> Reply:
        return replace(reply, extras={**reply.extras, "a_new_field": {"with": ["anything"]}, "service_tier": "novel"})

    yield changed("ok_empty_stop", "HTTP 200, empty content, finish stop: a cold start", "3.8", empty)
    yield changed("ok_blank", "HTTP 200 with nothing but white space", "3.8", blank)
    yield changed(
        "ok_reasoning_ate_all",
        "HTTP 200, empty content, finish length: all went into reasoning",
        "1.6",
        eaten,
        {"tokens": 32},
    )
    yield changed("ok_cut_tool_arguments", "finish tool_calls, native length: cut arguments", "0", cut_tool)
    yield changed("ok_refusal", "content null and a refusal", "2.1", refusal)
    yield changed("ok_content_filter", "finish content_filter after a few words", "2.1", filtered, {"after_tokens": 6})
    yield changed("ok_finish_null", "finish_reason null on a whole answer", "2.1", unfinished)
    yield changed("ok_finish_unknown", "a finish_reason nobody has heard of", "0", novel)
    yield changed("ok_native_length", "finish stop, but native says the limit was hit", "0", polite_length)
    yield changed("ok_unknown_fields", "fields and values that are new", "0", long_fields)

    yield _odd_usage("ok_usage_missing", "no usage at all", lambda usage: None)
    yield _odd_usage("ok_usage_null", "usage null", lambda usage: {})
    yield _odd_usage("ok_cost_null", "usage.cost null", lambda usage: {**usage, "cost": None})
    yield _odd_usage(
        "ok_cost_missing",
        "usage without cost",
        lambda usage: {key: value for key, value in usage.items() if not key.startswith("cost")},
    )
    yield _odd_usage(
        "ok_reasoning_above_completion",
        "more reasoning tokens than completion tokens, as once recorded",
        lambda usage: {
            **usage,
            "completion_tokens_details": {"reasoning_tokens": usage["completion_tokens"] + 1},
        },
    )


def _odd_usage(name: str, description: str, change: Callable[[Json], Json | None]) -> Fault:
    """Another `usage`; an empty one stands for null, None for no key at all."""

    def altered(event: Json) -> Json:
        usage = change(event["usage"])
        rest = {key: value for key, value in event.items() if key != "usage"}
        return rest if usage is None else rest | {"usage": usage or None}

    def plain(reply: Reply, options: Options) -> Script:
        return Script(wire.whole(reply, wire.encoded(altered(wire.body(reply)))), reply)

    def stream(reply: Reply, options: Options) -> Script:
        told = (*wire.opening(reply), *wire.talking(reply, wire.deltas(reply)), wire.finish(reply))
        last = altered(wire.usage_chunk(reply))
        # Without usage there is no usage chunk either.
        closing = (Data(wire.event(last)),) if "usage" in last else ()
        return Script((*told, *closing, Data(DONE)), reply)

    return Fault(name, f"HTTP 200 with {description}", "2.4", plain, stream)
