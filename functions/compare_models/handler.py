"""The door `compare-models`: one question to several models, side by side."""

from functions.compare_models import prompt
from functions.compare_models.contract import CompareModelsRequest
from shared import comparison
from shared.edge import Call, Door, EventStream, Reply
from shared.services import Services


async def handle(call: Call[CompareModelsRequest, Services]) -> Reply | EventStream:
    asked = comparison.Comparison(
        call=call,
        use_case=call.body.use_case,
        messages=prompt.messages(call.body),
        max_cost_usd=call.body.max_cost_usd,
        max_cost_usd_per_model=call.body.max_cost_usd_per_model,
    )
    if call.body.stream:
        return EventStream(comparison.stream(asked))
    return Reply(await comparison.answer(asked))


door = Door(
    name="compare-models",
    methods=("POST",),
    caller="user",
    contract=CompareModelsRequest,
    handle=handle,
    summary="Ask two to eight models the same and compare time, cost, length and issues.",
)
