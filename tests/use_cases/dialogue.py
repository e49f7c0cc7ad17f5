"""What models are made to say, what they were asked, and what a stream told, for tests of the doors."""

from __future__ import annotations

import json
from typing import Any

from tests.house import House

Events = list[tuple[str, dict[str, Any]]]


async def models_say(house: House, *texts: str) -> None:
    """The answers of the next requests, in order, whichever model is asked."""
    answers = [{"model": "*", "text": text, "times": 1} for text in texts]
    (await house.simulator.http.post("/_sim/answers", json=answers)).raise_for_status()


async def asked(house: House) -> list[dict[str, Any]]:
    """The bodies that reached OpenRouter, in order."""
    return [request["body"] for request in await house.simulator.requests()]


async def streamed(house: House, door: str, body: dict[str, Any]) -> Events:
    """All events of a stream, in order."""
    answer = await house.http.post(f"/{door}", json={**body, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream"), answer.text
    pieces = [piece.splitlines() for piece in answer.text.split("\n\n") if piece and not piece.startswith(":")]
    return [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))) for lines in pieces]


def text_of(events: Events) -> str:
    """What the deltas say together."""
    return "".join(data["text"] for name, data in events if name == "delta")


def is_well_formed(events: Events) -> bool:
    """One start, then deltas, then one terminal event."""
    names = [name for name, _ in events]
    return names[0] == "start" and set(names[1:-1]) <= {"delta"} and names[-1] in ("done", "error")
