"""The door `health`: whether this server can serve, and what is missing."""

from typing import Any

from shared import health
from shared.edge import Call, Door, Reply
from shared.services import Services


async def handle(call: Call[Any, Services]) -> Reply:
    report = await health.report(call.services)
    return Reply(report, status=200 if health.can_serve(report) else 503)


door = Door(
    name="health",
    methods=("GET",),
    caller="anyone",
    contract=None,
    handle=handle,
    summary="Whether this server can serve.",
)
