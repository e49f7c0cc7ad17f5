"""The door `my-usage`: the caller's own usage."""

from shared.edge import Call, Door, Reply
from shared.services import Services
from shared.timeframe import TimeframeQuery


async def handle(call: Call[TimeframeQuery, Services]) -> Reply:
    params = {"timeframe": call.body.timeframe}
    return Reply(await call.services.database.call("get_my_usage", params, call.caller))


door = Door(
    name="my-usage",
    methods=("GET",),
    caller="user",
    contract=TimeframeQuery,
    handle=handle,
    summary="Your own requests, tokens, cost and latency.",
)
