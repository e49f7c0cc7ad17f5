"""The door `usage-stats`: everybody's usage, for admins."""

from shared.edge import Call, Door, Reply
from shared.services import Services
from shared.timeframe import TimeframeQuery


async def handle(call: Call[TimeframeQuery, Services]) -> Reply:
    params = {"timeframe": call.body.timeframe}
    # As the caller, not as the server: the function checks the role once more.
    return Reply(await call.services.database.call("get_openrouter_usage_stats", params, call.caller))


door = Door(
    name="usage-stats",
    methods=("GET",),
    caller="admin",
    contract=TimeframeQuery,
    handle=handle,
    summary="Requests, tokens, cost and latency of everybody.",
)
