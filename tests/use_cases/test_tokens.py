"""The estimate of tokens against true counts, and its behaviour on any text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import tokens

ROOT = Path(__file__).parents[2]
SAMPLES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("token_counts.json").read_text("utf-8"))["samples"]
HELD_OUT = [sample for sample in SAMPLES if sample["set"] == "held_out"]
KINDS = sorted({sample["kind"] for sample in SAMPLES})
VENDORS = ["meta-llama", "qwen", "deepseek", "google"]

MEGABYTE = 1_000_000
HOSTILE = {
    "one letter": "a" * MEGABYTE,
    "one capital": "A" * MEGABYTE,
    "spaces": " " * MEGABYTE,
    "spaces, then a letter": " " * MEGABYTE + "x",
    "a line end, then spaces": "\n" + " " * MEGABYTE,
    "line ends and spaces": "\n " * (MEGABYTE // 2),
    "digits": "7" * MEGABYTE,
    "hyphens": "-" * MEGABYTE,
    "mixed signs": "-=" * (MEGABYTE // 2),
    "apostrophes": "'" * MEGABYTE,
    "contractions": "a's" * (MEGABYTE // 3),
    "capitals and letters": "Aa" * (MEGABYTE // 2),
    "ideographs": "我" * MEGABYTE,
    "faces": "😂" * MEGABYTE,
    "joiners": "\u200d" * MEGABYTE,
    "accents": "\u0301" * MEGABYTE,
    "control characters": "\x00" * MEGABYTE,
    "scripts in turn": "aя我" * (MEGABYTE // 3),
}


def error(samples: list[dict[str, Any]], vendor: str | None = None) -> float:
    """The signed error of the sum over these samples."""
    estimated = sum(tokens.estimate(sample["text"], vendor) for sample in samples)
    return float(estimated / sum(sample["tokens"][vendor or "o200k"] for sample in samples) - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_text_that_was_never_fitted_is_met(kind: str) -> None:
    """Each kind of text is right within 8 % on the held-out samples."""
    assert abs(error([sample for sample in HELD_OUT if sample["kind"] == kind])) <= 0.08


def test_half_of_the_texts_are_met_closely() -> None:
    """The median held-out text is within 3.5 %, and none is further off than 16 %."""
    errors = [abs(error([sample])) for sample in HELD_OUT]

    assert median(errors) <= 0.035
    assert max(errors) <= 0.16


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_measured_vendor_is_met(vendor: str) -> None:
    """A vendor's own vocabulary is met within 16 % in each kind, and within 7.5 % in the median text."""
    by_kind = defaultdict(list)
    for sample in HELD_OUT:
        by_kind[sample["kind"]].append(sample)

    assert max(abs(error(samples, vendor)) for samples in by_kind.values()) <= 0.16
    assert median(abs(error([sample], vendor)) for sample in HELD_OUT) <= 0.075


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_vendor_is_worth_naming(vendor: str) -> None:
    """With the vendor's name its counts are met better than without."""
    with_name = sum(abs(error([sample], vendor)) for sample in HELD_OUT)
    without = sum(abs(tokens.estimate(sample["text"]) / sample["tokens"][vendor] - 1) for sample in HELD_OUT)
    assert with_name < without


def test_a_slug_names_its_vendor() -> None:
    """The whole slug serves as a hint too, whatever its case."""
    text = "Добрый вечер, 1234567! " * 20

    assert tokens.estimate(text, "Qwen/some-model") == tokens.estimate(text, "qwen") != tokens.estimate(text)


def test_an_unknown_vendor_is_counted_like_none() -> None:
    """A vendor whose vocabulary is not known changes nothing."""
    assert tokens.estimate("Hello there.", "somebody") == tokens.estimate("Hello there.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        (" ", 1),
        ("the", 1),
        (" the cat", 2),
        ("\n\n", 1),
        ("123456789", 3),
        ("don't", 1),
        ("----------------", 1),
        (" " * 16, 1),
    ],
    ids=[
        "nothing",
        "a blank",
        "a word",
        "two words",
        "line ends",
        "digits by three",
        "a contraction",
        "a rule",
        "spaces",
    ],
)
def test_small_pieces_count_as_an_encoder_counts_them(text: str, expected: int) -> None:
    """What is certain about the pieces is exact."""
    assert tokens.estimate(text) == expected


@given(st.sampled_from(SAMPLES), st.floats(0, 1))
def test_cutting_a_text_hardly_changes_the_sum(sample: dict[str, Any], share: float) -> None:
    """Only the piece at the cut is judged anew."""
    text = sample["text"]
    place = round(len(text) * share)

    parts = tokens.estimate(text[:place]) + tokens.estimate(text[place:])

    assert abs(parts - tokens.estimate(text)) <= 5


@given(st.lists(st.sampled_from(SAMPLES), max_size=5))
def test_longer_conversations_are_never_cheaper(samples: list[dict[str, Any]]) -> None:
    """Each message more costs at least its frame."""
    messages = [{"role": "user", "content": sample["text"]} for sample in samples]
    sums = [tokens.estimate_messages(messages[:count]) for count in range(len(messages) + 1)]

    assert all(after >= before + tokens.MESSAGE_TOKENS for before, after in pairwise(sums))


@given(st.text())
def test_any_text_has_tokens(text: str) -> None:
    """Any text is counted: at least one token, never more than its bytes and a few."""
    count = tokens.estimate(text)

    assert count == 0 if not text else 1 <= count <= 4 * len(text.encode("utf-8", "surrogatepass")) + 4


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_megabyte_is_counted(text: str) -> None:
    """Work that grew with the square of the length would not end; and no megabyte passes for a few tokens."""
    assert tokens.estimate(text) >= 10_000


@pytest.mark.parametrize("seed", ["a", "A", "a b ", "7", "-=", "我们", "Aa", "\n ", "'s", "aя我"])
def test_work_grows_with_the_length(seed: str) -> None:
    """Four times the text takes at most four times the calls."""

    def calls(text: str) -> int:
        count = 0

        def notice(frame: object, event: str, argument: object) -> None:
            nonlocal count
            count += 1

        sys.setprofile(notice)
        try:
            tokens.by_kind(text)
        finally:
            sys.setprofile(None)
        return count

    calls(seed * 2)  # what is remembered is remembered in both
    assert calls(seed * 4_000) <= 4 * calls(seed * 1_000) + 100


def test_a_message_counts_its_parts_and_calls() -> None:
    """Text parts count like one text; a tool call counts its name and arguments; a picture has no text."""
    text = "Look at this old map of the harbour."
    whole = tokens.estimate_message({"role": "user", "content": text})
    parts = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"place": "harbour"}'}}

    assert tokens.estimate_message({"role": "user", "content": parts}) == whole
    assert tokens.estimate_message({"role": "assistant", "content": None, "tool_calls": [call]}) > 10


def test_the_frame_of_a_chat_is_counted() -> None:
    """Every message costs its frame, and the reply its opening."""
    assert tokens.estimate_messages([]) == tokens.REPLY_TOKENS
    assert tokens.estimate_messages([{"role": "user", "content": ""}]) == tokens.REPLY_TOKENS + tokens.MESSAGE_TOKENS


def test_the_module_loads_nothing_but_the_standard_library() -> None:
    """Every door imports it."""
    program = "import sys; before = set(sys.modules); import shared.tokens; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    outside = {name.partition(".")[0] for name in loaded.stdout.split()} - set(sys.stdlib_module_names)
    assert outside == {"shared"}
