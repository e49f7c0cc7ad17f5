"""Our replies, streams and models in the words of OpenAI's clients; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.edge.encoding import encode_json, failure_body
from shared.edge.events import Event
from shared.errors import UpstreamError

USE_CASE_PREFIX = "use-case:"

# What only our own reply has, beside OpenAI's fields.
_OURS = (
    *("request_id", "use_case", "outcome", "cost_source", "used_fallback", "attempts", "response_time_ms"),
    *("first_token_ms", "quality_issues"),
)


@dataclass(slots=True)
class Dialect:
    """How one request is answered. `created` in seconds since 1970; `ignored` are the fields that were not heard."""

    request_id: str
    created: int
    usage_is_wanted: bool
    ignored: Sequence[str]
    # Said by every chunk, told by the first event only.
    _speaker: dict[str, Any] = field(default_factory=dict)

    def whole(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        """A reply as a chat.completion."""
        content, refusal = reply["content"], reply.get("refusal")
        message = {
            "role": "assistant",
            # Nothing said, or only a refusal, is null there.
            "content": None if content in ("", refusal) else content,
            "refusal": refusal,
        }
        if "tool_calls" in reply:
            message["tool_calls"] = reply["tool_calls"]
        self._speaker = _speaker(reply)
        return {
            **self._frame("chat.completion"),
            "system_fingerprint": None,
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "logprobs": None,
                    # Only an answer that broke off has no reason; OpenRouter's word for that.
                    "finish_reason": reply["finish_reason"] or "error",
                }
            ],
            "usage": _usage(reply),
            "x_request": self._about(reply),
        }

    def chunks(self, event: Event) -> bytes:
        """An event of our stream as lines of theirs.

        A stream that broke off ends with an error and without [DONE]: half an answer must not look whole.
        """
        data: Any = event.data
        if event.name == "start":
            self._speaker = _speaker(data)
            return self._line(_choice({"role": "assistant", "content": ""}))
        if event.name == "delta":
            return self._line(_choice({"content": data["text"]}))
        if event.name == "error":
            return self._failed(data)
        if data["outcome"] != "complete":
            cut = UpstreamError("The answer broke off: what came before is not all of it")
            return self._failed(failure_body(cut, self.request_id), x_request=self._about(data))
        return b"".join(self._ending(data))

    def _ending(self, reply: Mapping[str, Any]) -> Iterable[bytes]:
        if reply.get("refusal"):
            yield self._line(_choice({"refusal": reply["refusal"]}))
        for index, call in enumerate(reply.get("tool_calls", ())):
            yield self._line(_choice({"tool_calls": [{"index": index, **call}]}))
        finish, used, about = _choice({}, reply["finish_reason"]), _usage(reply), self._about(reply)
        if self.usage_is_wanted:
            yield self._line(finish, x_request=about)
            yield self._line(usage=used)
        else:
            # Where OpenRouter puts it: in a chunk that has a choice, which every client can read.
            yield self._line(finish, usage=used, x_request=about)
        yield b"data: [DONE]\n\n"

    def _failed(self, body: Mapping[str, Any], **more: Any) -> bytes:
        """The error as OpenRouter sends it in the middle of a stream: within a chunk."""
        return self._line(_choice({"content": ""}, "error"), error=body["error"], **more)

    def _line(self, *choices: dict[str, Any], **more: Any) -> bytes:
        return _data_line({**self._frame("chat.completion.chunk"), "choices": choices, **more})

    def _frame(self, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self.request_id}", "object": kind, "created": self.created, **self._speaker}

    def _about(self, reply: Mapping[str, Any]) -> dict[str, Any]:
        known = {name: reply.get(name) for name in _OURS}
        return {**known, "dropped": reply["params"]["dropped"], "ignored": self.ignored}


def model_list(models: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows of get_models as a list of OpenAI's models, then one name for each use case that has a model.

    `created` is 0: when a model was made is not known here.
    """
    listed, use_cases = [], set()
    for row in models:
        use_cases.update(row["use_cases"])
        facts = {name: value for name, value in row.items() if name != "slug"}
        listed.append(_model(row["slug"], owned_by=row["slug"].partition("/")[0], **facts))
    aliases = [_model(f"{USE_CASE_PREFIX}{name}", owned_by="use-case", use_cases=[name]) for name in sorted(use_cases)]
    return {"object": "list", "data": [*listed, *aliases]}


def _model(id: str, **facts: Any) -> dict[str, Any]:
    return {"id": id, "object": "model", "created": 0, **facts}


def _speaker(about: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": about["model"], "provider": about["provider"]}


def _choice(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _usage(reply: Mapping[str, Any]) -> dict[str, Any] | None:
    """Tokens and cost under OpenAI's and OpenRouter's names; None when the provider told none."""
    used = reply["usage"]
    if used["total_tokens"] is None:
        return None
    return {
        "prompt_tokens": used["input_tokens"],
        "completion_tokens": used["output_tokens"],
        "total_tokens": used["total_tokens"],
        "prompt_tokens_details": {"cached_tokens": used["cached_tokens"]},
        "completion_tokens_details": {"reasoning_tokens": used["reasoning_tokens"]},
        "cost": reply["cost_usd"],
    }


def _data_line(value: Any) -> bytes:
    return b"data: " + encode_json(value) + b"\n\n"
