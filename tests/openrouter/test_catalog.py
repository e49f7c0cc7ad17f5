"""What OpenRouter tells about its models, a key and a generation."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.openrouter import CatalogModel, PriceOverride, Prices, catalog, errors
from shared.openrouter.classification import Envelope
from shared.openrouter.errors import CallFailed

LISTED = {
    "id": "maker/model",
    "canonical_slug": "maker/model-20260101",
    "name": "Maker: Model",
    "created": 1_767_225_600,
    "context_length": 200_000,
    "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
    "pricing": {
        "prompt": "0.000003",
        "completion": "0.000015",
        "input_cache_read": "0.0000003",
        "web_search": "0.01",
        "overrides": [
            {"min_prompt_tokens": 128_000, "prompt": "0.000006", "completion": "0.00003"},
            {"utc_start": "0030", "utc_end": 830, "utc_days": ["sat"], "prompt": "0.000001"},
        ],
    },
    "top_provider": {"context_length": 200_000, "max_completion_tokens": 64_000, "is_moderated": True},
    "supported_parameters": ["max_tokens", "temperature"],
    "reasoning": {"mandatory": False},
    "expiration_date": "2027-01-31",
}


def models(*listed: Any) -> list[CatalogModel]:
    return catalog.parse_models(json.dumps({"data": listed}).encode(), Envelope())


def only(**changes: Any) -> CatalogModel:
    (model,) = models({**LISTED, **changes})
    return model


def test_a_listed_model_is_read_whole() -> None:
    """Prices are exact decimals per token, with those that apply above a size or at an hour."""
    assert only() == CatalogModel(
        id="maker/model",
        canonical_slug="maker/model-20260101",
        name="Maker: Model",
        prices=Prices(
            prompt=Decimal("0.000003"),
            completion=Decimal("0.000015"),
            input_cache_read=Decimal("0.0000003"),
            web_search=Decimal("0.01"),
            overrides=(
                PriceOverride(128_000, None, None, (), Decimal("0.000006"), Decimal("0.00003"), None, None),
                PriceOverride(None, "0030", "0830", ("sat",), Decimal("0.000001"), None, None, None),
            ),
        ),
        context_length=200_000,
        max_output_tokens=64_000,
        supported_parameters=frozenset({"max_tokens", "temperature"}),
        input_modalities=("text", "image"),
        output_modalities=("text",),
        is_moderated=True,
        reasoning_mandatory=False,
        expires_on=date(2027, 1, 31),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        alias_target=None,
    )


@pytest.mark.parametrize("price", ["-1", -1, None, "", "free", "NaN", "Infinity", [], True])
def test_a_price_that_is_no_amount_is_unknown(price: Any) -> None:
    """The routers cost "-1", and multiplying that would make money."""
    assert only(pricing={"prompt": price, "completion": "0"}).prices == Prices(None, Decimal(0))


def test_only_the_suffix_means_free() -> None:
    """A price of nothing may belong to a model that is paid by the image."""
    assert only(id="maker/model:free").is_free
    assert not only(pricing={"prompt": "0", "completion": "0"}).is_free


def test_what_cannot_chat_is_told_apart() -> None:
    """Batch names and models without text output are listed too."""
    assert only().can_chat
    assert only(architecture={}).can_chat
    assert not only(id="maker/model:batch").can_chat
    assert not only(architecture={"output_modalities": ["image"]}).can_chat


def test_missing_values_are_none() -> None:
    """Almost every field may be null, and is then not known."""
    (model,) = models({"id": "maker/bare"})

    assert (model.name, model.context_length, model.max_output_tokens, model.expires_on) == (
        "maker/bare",
        None,
        None,
        None,
    )
    assert (model.prices, model.supported_parameters) == (Prices(None, None), frozenset())


def test_one_odd_entry_does_not_cost_the_others() -> None:
    """The catalogue is long, and one entry in a new shape is no reason to have none."""
    assert [model.id for model in models(None, "x", {}, {"id": 5}, LISTED, {"id": "b", "pricing": 5})] == [
        "maker/model",
        "b",
    ]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", errors.UnreadableAnswer),
        (b"[]", errors.UnreadableAnswer),
        (b'{"data": {}}', errors.UnreadableAnswer),
        (b'{"error": {"code": 503}}', errors.Overloaded),
    ],
)
def test_no_catalogue_is_a_failure_and_not_an_empty_one(body: bytes, kind: type[CallFailed]) -> None:
    """An empty catalogue would retire every model."""
    with pytest.raises(CallFailed) as caught:
        catalog.parse_models(body, Envelope())

    assert type(caught.value) is kind


def test_a_generation_is_read_with_its_native_tokens() -> None:
    """They are what was charged for."""
    data = {
        "id": "gen-1", "total_cost": 0.0015, "upstream_inference_cost": None, "model": "maker/model-20260101",
        "provider_name": "OpenAI", "tokens_prompt": 9, "native_tokens_prompt": 10, "tokens_completion": 4,
        "native_tokens_completion": None, "native_tokens_reasoning": 2, "native_tokens_cached": 0, "streamed": True,
        "cancelled": True, "is_byok": False, "finish_reason": None, "latency": 300, "generation_time": 900,
    }  # fmt: skip
    booked = catalog.parse_generation(json.dumps({"data": data}).encode(), Envelope())

    assert (booked.total_cost, booked.prompt_tokens, booked.completion_tokens) == (Decimal("0.0015"), 10, 4)
    assert (booked.cancelled, booked.cached_tokens, booked.provider) == (True, 0, "OpenAI")


def test_a_key_tells_what_is_left() -> None:
    """No limit is None, and a key may be overdrawn."""
    data = {"label": "sk-or-v1-abc…", "limit": None, "limit_remaining": -0.5, "usage": 3.25, "is_free_tier": False}
    key = catalog.parse_key(json.dumps({"data": data}).encode(), Envelope())

    assert (key.limit, key.limit_remaining, key.usage) == (None, Decimal("-0.5"), Decimal("3.25"))


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*LISTED, "prompt"]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*LISTED, "alias_target"]), values, max_size=12))
def test_any_entry_can_be_read(entry: dict[str, Any]) -> None:
    """Whatever an entry holds, it is a model or it is left out."""
    assert len(models({"id": "maker/model"} | entry)) <= 1
