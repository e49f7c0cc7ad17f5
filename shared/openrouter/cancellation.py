"""Which upstream providers stop charging when a stream is closed early.

Source: OpenRouter's documentation of streaming (stream cancellation). Only streams can be cancelled; a call that does
not stream always runs, and bills, to its end. No usage follows a cancel.
"""

from __future__ import annotations

import re

_STOPS = (
    "OpenAI, Azure, Anthropic, Fireworks, Mancer, Recursal, AnyScale, Lepton, OctoAI, Novita, DeepInfra, Together, "
    "Cohere, Hyperbolic, Infermatic, Avian, xAI, Cloudflare, SFCompute, Nineteen, Liquid, Friendli, Chutes, DeepSeek"
)
_GOES_ON = (
    "AWS Bedrock, Amazon Bedrock, Groq, Modal, Google, Google Vertex, Google AI Studio, Minimax, HuggingFace, "
    "Replicate, Perplexity, Mistral, AI21, Featherless, Lynn, Lambda, Reflection, SambaNova, Inflection, ZeroOneAI, "
    "AionLabs, Alibaba, Nebius, Kluster, Targon, InferenceNet"
)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


_BILLING_STOPS = {_plain(name): True for name in _STOPS.split(", ")} | {
    _plain(name): False for name in _GOES_ON.split(", ")
}


def billing_stops(provider: str | None) -> bool | None:
    """True or False as documented for this upstream; None when it is not known, which is to be taken as billed."""
    return None if provider is None else _BILLING_STOPS.get(_plain(provider))
