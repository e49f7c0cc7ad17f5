"""The door `select-model`: which model suits a use case, and why not the others."""

from functions.select_model.contract import SelectModelQuery
from shared.edge import Call, Door, Reply
from shared.services import Services


async def handle(call: Call[SelectModelQuery, Services]) -> Reply:
    return Reply(await call.services.database.call("explain_route", dict(call.body), call.caller))


door = Door(
    name="select-model",
    methods=("GET",),
    caller="user",
    contract=SelectModelQuery,
    handle=handle,
    summary="Which model suits a use case, a budget and a quality, and why.",
)
