"""The doors as the description of the API tells them: answers, events, failures and an example of each request."""

from functions.openapi import answers
from shared import errors
from shared.openapi import GENERATION, Description

READS_ROWS = (errors.Unavailable, errors.ConfigError)

# Every door that asks models and is not listed below.
GENERATES = Description(
    answer=answers.GenerationReply,
    events={"start": answers.Started, "delta": answers.Delta, "done": answers.GenerationDone},
    failures=GENERATION,
)

DESCRIPTIONS = {
    "POST casual-chat": Description(
        answer=GENERATES.answer,
        events=GENERATES.events,
        failures=GENERATION,
        example={"message": "Hello! How are you?", "max_tokens": 200},
    ),
    "POST chat": Description(
        answer=GENERATES.answer,
        events=GENERATES.events,
        failures=GENERATION,
        example={"messages": [{"role": "user", "content": "Name three seas."}], "use_case": "casual_chat"},
    ),
    "POST compare-models": Description(
        answer=answers.ComparisonReply,
        events={
            "start": answers.ComparisonStarted,
            "delta": answers.ComparisonDelta,
            "done": answers.ComparisonDone,
        },
        failures=(errors.BudgetExceeded, *READS_ROWS),
        example={
            "prompt": "Explain the tides in two sentences.",
            "models": ["vendor/first-model", "vendor/second-model"],
            "max_cost_usd": 0.05,
        },
        note="Each model settles for itself: one that fails has an `error` in its result, and the answer is still 200.",
    ),
    "POST creative-writing": Description(
        answer=GENERATES.answer,
        events=GENERATES.events,
        failures=GENERATION,
        example={"message": "Write four lines about rain."},
    ),
    "GET health": Description(answer=answers.HealthReport, also=(503,)),
    "GET models": Description(answer=answers.Models, failures=READS_ROWS),
    "GET my-usage": Description(answer=answers.UsageReport, example={"timeframe": "7d"}),
    "POST openai/v1/chat/completions": Description(
        answer=answers.OpenAICompletion,
        failures=GENERATION,
        example={"model": "use-case:casual_chat", "messages": [{"role": "user", "content": "Name three seas."}]},
        streams_otherwise="With `stream: true`: OpenAI's lines of `chat.completion.chunk`, ended by `[DONE]`.",
    ),
    "GET openai/v1/models": Description(answer=answers.OpenAIModels),
    "GET openapi.json": Description(note="Made once, and cached for five minutes."),
    "POST openrouter-broadcast": Description(
        answer=answers.BroadcastCounts, failures=READS_ROWS, example={"resourceSpans": []}
    ),
    "POST prompt-enhancement": Description(
        answer=answers.EnhancementReply,
        events={**GENERATES.events, "done": answers.EnhancementDone},
        failures=GENERATION,
        example={"prompt": "a lighthouse at night", "content_type": "image"},
    ),
    "POST roleplay": Description(
        answer=GENERATES.answer,
        events=GENERATES.events,
        failures=GENERATION,
        example={"character": "Captain Mira", "scenario": "a storm at sea", "message": "What now?"},
    ),
    "GET select-model": Description(answer=answers.Route, example={"use_case": "roleplay", "prefer": "cost"}),
    "POST storytelling": Description(
        answer=GENERATES.answer,
        events=GENERATES.events,
        failures=GENERATION,
        example={"prompt": "A letter arrives a hundred years late.", "genre": "mystery", "length": "short"},
    ),
    "GET usage-stats": Description(answer=answers.UsageReport, example={"timeframe": "7d"}),
}
