"""The door `openrouter-broadcast`: OpenRouter tells what generations cost, also those whose stream was cancelled."""

from functions.openrouter_broadcast.contract import Traces, booking
from shared import reconciliation
from shared.edge import Call, Door, Reply
from shared.services import Services


async def handle(call: Call[Traces, Services]) -> Reply:
    spans = call.body.spans()
    bookings = [told for span in spans if (told := booking(span)) is not None]
    counts = {"received": len(spans), "reconciled": await reconciliation.reconcile(bookings, call.services.database)}
    call.log.update(counts, readable=len(bookings))
    return Reply(counts)


door = Door(
    name="openrouter-broadcast",
    methods=("POST",),
    caller="webhook",
    contract=Traces,
    handle=handle,
    summary="Takes OpenRouter's Broadcast traces (OTLP/JSON) and corrects the ledger by the costs in them.",
    # Without Privacy Mode whole conversations come along.
    max_body_bytes=5_000_000,
)
