"""What the doors answer, for the description of the API. The answers themselves are made where they are known."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Outcome = Literal["complete", "truncated", "cancelled"]
CostSource = Literal["provider", "computed", "estimated", "unknown"]
Health = Literal["unknown", "healthy", "degraded", "failing"]
Usd = float | None


class Usage(BaseModel):
    """Tokens, as the provider counted them; null when it did not say."""

    input_tokens: int | None
    output_tokens: int | None
    total_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None


class Attempt(BaseModel):
    """One HTTP call towards the answer."""

    provider: str
    model: str
    status: int | None
    code: str | None = Field(description="Why it failed; null when it answered.")
    duration_ms: int


class Params(BaseModel):
    """What was sent; `dropped` are the parameters that the model does not take."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    dropped: list[str]


class QualityIssue(BaseModel):
    """Something noticed in the text. It decides nothing."""

    code: str
    detail: str | None


class GenerationDone(BaseModel):
    """How an answer came about: the reply without its text."""

    request_id: str
    use_case: str
    model: str = Field(description="Slug of the model that answered.")
    provider: str
    finish_reason: Literal["stop", "length", "content_filter", "tool_calls"] | None
    outcome: Outcome = Field(description="truncated: the answer broke off after text had been shown.")
    usage: Usage
    cost_usd: Usd = Field(description="Null when unknown, never 0 for that.")
    cost_source: CostSource
    response_time_ms: int
    first_token_ms: int | None
    used_fallback: bool
    attempts: list[Attempt]
    params: Params
    quality_issues: list[QualityIssue]
    tool_calls: list[dict[str, Any]] = Field(default=[], description="Only when the model called tools.")
    refusal: str = Field(default="", description="Only when the model refused, in its own words.")
    itemized: dict[str, Any] = Field(default={}, description="Only when asked for: where the prompt's tokens went.")


class GenerationReply(GenerationDone):
    """An answer."""

    content: str


class EnhancementReply(GenerationReply):
    """An enhanced prompt."""

    original_prompt: str
    enhanced_prompt: str
    enhanced: bool = Field(description="False: the original is all there is.")


class EnhancementDone(GenerationDone):
    """An enhanced prompt, at the end of its stream."""

    original_prompt: str
    enhanced_prompt: str
    enhanced: bool


class Started(BaseModel):
    """Event `start`: the first text is about to come."""

    request_id: str
    model: str
    provider: str


class Delta(BaseModel):
    """Event `delta`: the next piece of the text."""

    text: str


class ComparedError(BaseModel):
    """Why a compared model has no answer."""

    code: str
    message: str
    retryable: bool


class ComparedSettled(BaseModel):
    """What came of one model, without its text: with `ok` the fields of a reply, else `error`."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(description="As it was asked for.")
    ok: bool
    estimated_cost_usd: Usd = Field(description="The most that one attempt was expected to cost; null when unknown.")
    error: ComparedError | None = None
    answered_by: str | None = Field(default=None, description="Slug of the model that answered: a successor's, maybe.")
    finish_reason: str | None = None
    outcome: Outcome | None = None
    usage: Usage | None = None
    cost_usd: Usd = None
    cost_source: CostSource | None = None
    response_time_ms: int | None = None
    first_token_ms: int | None = None
    attempts: list[Attempt] = []
    params: Params | None = None
    quality_issues: list[QualityIssue] = []


class ComparedResult(ComparedSettled):
    """What came of one model."""

    content: str | None = None


class ComparisonSummary(BaseModel):
    """Slugs as they were asked for, among complete answers; null when none qualifies."""

    fastest: str | None
    cheapest: str | None = Field(description="Of those whose cost is known.")
    longest: str | None


class ComparisonDone(BaseModel):
    """How a comparison ended, without the texts."""

    request_id: str
    use_case: str
    results: list[ComparedSettled] = Field(description="In the order of the request.")
    summary: ComparisonSummary
    total_cost_usd: Usd = Field(description="What is known, of failed models too.")
    unpriced_results: int = Field(description="How many may have cost something that nobody told us.")


class ComparisonReply(ComparisonDone):
    """Models side by side."""

    results: list[ComparedResult]  # type: ignore[assignment]  # the same with their texts


class ComparisonStarted(BaseModel):
    """Event `start` of a comparison."""

    request_id: str
    models: list[str]


class ComparisonDelta(BaseModel):
    """Event `delta` of a comparison: the next piece of one model's text. With `result` that model has settled."""

    model: str
    text: str
    result: ComparedSettled | None = None


class Price(BaseModel):
    """USD per million tokens; null when unknown."""

    input: Usd
    output: Usd


class LatencyRange(BaseModel):
    """Milliseconds, as the model's row says."""

    min: int | None
    max: int | None


class Capabilities(BaseModel):
    """What the model takes; null when nobody said."""

    tools: bool | None
    json_: bool | None = Field(alias="json", serialization_alias="json")
    vision: bool | None
    sampling: bool | None = Field(description="temperature, top_p and the like.")


class Model(BaseModel):
    """A model that may answer."""

    slug: str
    name: str
    provider: str
    use_cases: list[str]
    default_for: list[str]
    price_per_million_tokens: Price
    typical_cost_usd: dict[str, Usd] = Field(description="Of a typical message, by use case; null when unknown.")
    context_length: int | None
    max_output_tokens: int | None
    expected_latency_ms: LatencyRange | None
    capabilities: Capabilities
    retired: bool = Field(description="Its provider has announced the end, and the day has come.")
    health: Health


class Models(BaseModel):
    """What a model picker shows."""

    models: list[Model]


class RouteCandidate(BaseModel):
    """A model of the use case, and what speaks for it."""

    model: str
    name: str
    provider: str
    rank: int | None = Field(description="The admins' order; null for the model of last resort.")
    score: float | None = Field(description="1 is the best candidate's figure; null when excluded or not known.")
    excluded: str | None = Field(description="Why it is not considered.")
    price_per_million_tokens: Price
    expected_cost_usd: Usd = Field(description="Of a typical message.")
    expected_latency_ms: float | None
    latency_source: Literal["measured", "expected"] | None
    quality: float = Field(
        description="Share of replies without an issue over 30 days, starting from 18 of 20 that are assumed."
    )
    replies: int = Field(description="Own replies that quality and latency are made of; at most the newest 200.")
    health: Health


class TypicalMessage(BaseModel):
    """The unit in which prices are compared."""

    input_tokens: int
    output_tokens: int
    source: Literal["default", "last_30_days"]
    completions: int


class Route(BaseModel):
    """Which model suits a use case, and why."""

    use_case: str
    prefer: Literal["cost", "quality", "latency"] | None
    model: str | None = Field(description="Null when every candidate is excluded.")
    provider: str | None
    reason: str
    typical_message: TypicalMessage
    candidates: list[RouteCandidate] = Field(description="In the order of choice; excluded ones last.")


class UsageFigures(BaseModel):
    """Figures of a group of requests. Percentiles are null without requests."""

    requests: int
    successes: int
    errors: int
    success_rate: float | None
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_usd: Usd
    unpriced_requests: int
    avg_response_time_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    p50_first_token_ms: float | None
    fallbacks: int
    quality_issues: int


class ModelFigures(UsageFigures):
    model: str | None


class UseCaseFigures(UsageFigures):
    use_case: str


class DayFigures(UsageFigures):
    day: str = Field(description="A day in UTC.")


class ErrorFigures(BaseModel):
    code: str
    requests: int


class UsageReport(BaseModel):
    """Usage within a timeframe that ends now."""

    timeframe: str
    from_: str | None = Field(alias="from", serialization_alias="from")
    to: str
    totals: UsageFigures
    by_model: list[ModelFigures]
    by_use_case: list[UseCaseFigures]
    by_day: list[DayFigures]
    errors_by_code: list[ErrorFigures]


class HealthReport(BaseModel):
    """Whether this server can serve; one sentence for each problem."""

    status: Literal["ok", "degraded", "unavailable"]
    database: Literal["ok", "down"]
    openrouter_key: bool
    worker: str
    version: str
    problems: list[str]


class BroadcastCounts(BaseModel):
    """What a delivery changed."""

    received: int
    reconciled: int


class OpenAIChoice(BaseModel):
    index: int
    message: dict[str, Any]
    finish_reason: str | None


class OpenAICompletion(BaseModel):
    """A chat.completion of OpenAI's API. `x_request` holds what only our reply has."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[OpenAIChoice]
    usage: dict[str, Any] | None
    x_request: dict[str, Any]


class OpenAIModels(BaseModel):
    """A list of OpenAI's API."""

    object: Literal["list"]
    data: list[dict[str, Any]]
