"""What the caller of `select-model` asks."""

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints

from shared.edge.contract import Contract

# More digits than these mean nothing here, and a numeric of a million digits is no way to spend a database's time.
EXACT: Any = {"max_digits": 20, "decimal_places": 12}


class SelectModelQuery(Contract):
    """A use case, and what matters to the caller. Without a wish the order of the admins decides."""

    model_config = ConfigDict(strict=True)

    use_case: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    max_cost_usd: Annotated[Decimal, Field(ge=0, le=1_000_000, **EXACT)] | None = Field(
        default=None, description="The most that a typical message of this use case may cost."
    )
    min_quality: Annotated[Decimal, Field(ge=0, le=1, **EXACT)] | None = Field(
        default=None, description="The least share of replies without a quality issue."
    )
    prefer: Literal["cost", "quality", "latency"] | None = None
