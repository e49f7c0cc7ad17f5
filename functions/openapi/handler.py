"""The door `openapi.json`: the description of every door, for people and for generators of clients."""

from functools import cache
from typing import Any

from functions import all_doors
from shared import __version__
from shared.edge import Call, Door, Reply
from shared.services import Services


@cache
def document() -> dict[str, Any]:
    """Made once, on the first request: it loads every door."""
    from functions.openapi.descriptions import DESCRIPTIONS, GENERATES
    from shared import openapi

    return openapi.document(all_doors(), DESCRIPTIONS, GENERATES, title="OpenRouter functions", version=__version__)


async def handle(call: Call[Any, Services]) -> Reply:
    return Reply(document(), headers={"cache-control": "public, max-age=300"})


door = Door(
    name="openapi.json",
    methods=("GET",),
    caller="anyone",
    contract=None,
    handle=handle,
    summary="This description of all doors (OpenAPI 3.1).",
)
