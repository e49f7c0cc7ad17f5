"""The edited answer of `prompt-enhancement`: the prompt and nothing else, with its subject, within its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from functions.prompt_enhancement import cleanup, clip
from shared.errors import ContentBlocked, EmptyResponse
from shared.quality import Issue

REFUSED = "refused_openrouter_response"
UNCHANGED = "unchanged_openrouter_response"
SUBJECT_LOST = "subject_lost_openrouter_response"


class PromptEditor:
    """Holds everything back until the model has ended: only then it is known what was the prompt.

    A text that lost the user's subject gets the user's own words in front of it, if they leave half of the room.
    """

    def __init__(self, original: str, target: int | None) -> None:
        self._original = original
        self._target = target
        self._heard: list[str] = []
        self._issues: list[Issue] = []

    def feed(self, text: str) -> str:
        self._heard.append(text)
        return ""

    def finish(self) -> str:
        heard = "".join(self._heard)
        text = cleanup.clean(heard)
        if cleanup.is_refusal(text) and not cleanup.is_refusal(self._original):
            self._issues.append(Issue(REFUSED, "the model declined to enhance the prompt"))
            return ""
        if not text:
            return ""
        fitted = self._fit(text)
        if not cleanup.keeps_subject(self._original, fitted):
            fitted = self._with_subject(fitted)
        if cleanup.is_unchanged(self._original, fitted):
            self._issues.append(Issue(UNCHANGED, "the answer says nothing that the prompt did not"))
        return fitted

    def issues(self) -> Sequence[Issue]:
        return self._issues

    def _with_subject(self, text: str) -> str:
        original = self._original.strip().rstrip(".,;")
        if self._target is not None and clip.estimate(original) * 2 > self._target:
            self._issues.append(Issue(SUBJECT_LOST, "the user's words are missing and too long to be put in front"))
            return text
        self._issues.append(Issue(SUBJECT_LOST, "the user's words were missing and were put in front"))
        return self._fit(f"{original}, {text}")

    def _fit(self, text: str) -> str:
        return text if self._target is None else clip.fit(text, self._target)


def dressed(original: str, reply: dict[str, Any]) -> dict[str, Any]:
    """The reply with both prompts and whether the second is better than a copy.

    Raises ContentBlocked when the model declined and EmptyResponse when it said nothing usable: neither is a prompt.
    """
    codes = {issue["code"] for issue in reply["quality_issues"]}
    if REFUSED in codes or reply["finish_reason"] == "content_filter":
        raise ContentBlocked("The model declined to enhance this prompt", attempts=reply["attempts"])
    if not reply["content"]:
        raise EmptyResponse(attempts=reply["attempts"])
    return {
        **reply,
        "original_prompt": original,
        "enhanced_prompt": reply["content"],
        "enhanced": UNCHANGED not in codes,
    }
