"""The door `sweep`: does what a crash, an outage or a cancelled stream left undone; for a schedule."""

from typing import Any

from shared import reconciliation
from shared.edge import Call, Door, Reply
from shared.services import Services


async def handle(call: Call[Any, Services]) -> Reply:
    counts = await reconciliation.sweep(call.services)
    call.log.update(counts)
    return Reply(counts)


door = Door(
    name="sweep",
    methods=("POST",),
    caller="service",
    contract=None,
    handle=handle,
    summary="Replay spooled records, and ask the provider for costs that are still estimated or unknown.",
)
