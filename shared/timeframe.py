"""The stretch of time that statistics look at."""

from pydantic import Field

from shared.edge.contract import Contract


class TimeframeQuery(Contract):
    """A timeframe that ends now. Which ones exist is known in SQL, `openrouter.timeframe_start`."""

    timeframe: str = Field(default="24h", max_length=10, description="1h, 24h, 7d, 30d, 90d, all, day, week or month.")
