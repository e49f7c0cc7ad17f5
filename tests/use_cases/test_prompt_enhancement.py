"""`prompt-enhancement`: a better prompt, nothing but the prompt, and honest when it is none."""

# ruff: noqa: RUF001 - the punctuation that models use

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.prompt_enhancement import cleanup, clip
from functions.prompt_enhancement.editor import PromptEditor
from tests.house import House
from tests.use_cases.dialogue import asked, is_well_formed, models_say, streamed, text_of

HAIKU = "anthropic/claude-haiku-4.5"
FOX = "a red fox in the snow"
BETTER = "A red fox trotting through deep snow, golden hour, long shadows, low angle, shallow depth of field"
SENTENCE = "Enhance prompts for image generation. Add cinematic details, lighting, and composition elements."
HOW = (
    "Keep the subject of the prompt and everything it names. "
    "Answer with the enhanced prompt only, without quotes, headings or explanations."
)


@pytest.mark.parametrize(
    ("body", "system", "params"),
    [
        pytest.param({}, f"{SENTENCE}\n\n{HOW} Use at most 55 words.", (200, 0.5), id="an image by default"),
        pytest.param(
            {"contentType": "video"},
            f"{SENTENCE.replace('image', 'video')}\n\n{HOW}",
            (200, 0.5),
            id="a video has no size of its own",
        ),
        pytest.param(
            {"content_type": "video", "max_tokens_target": 40},
            f"{SENTENCE.replace('image', 'video')}\n\n{HOW} Use at most 29 words.",
            (200, 0.5),
            id="a target for a video",
        ),
        pytest.param(
            {"maxTokensTarget": 300},
            f"{SENTENCE}\n\n{HOW} Use at most 222 words.",
            (400, 0.5),
            id="a large target brings its own limit",
        ),
        pytest.param(
            {"max_tokens_target": 300, "max_tokens": 90, "temperature": 0},
            f"{SENTENCE}\n\n{HOW} Use at most 222 words.",
            (90, 0),
            id="the request wins, an explicit 0 is sent",
        ),
    ],
)
async def test_what_the_model_is_sent(
    house: House, body: dict[str, Any], system: str, params: tuple[int, float]
) -> None:
    """The manual's sentence verbatim, how to answer, then the prompt unchanged. This model takes no top_p beside."""
    await house.http.post("/prompt-enhancement", json={"prompt": FOX, **body})
    await streamed(house, "prompt-enhancement", {"prompt": FOX, **body})

    whole, streaming = await asked(house)
    assert whole == {
        "model": HAIKU,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": FOX}],
        "max_tokens": params[0],
        "temperature": params[1],
        "stream": False,
    }
    assert streaming == {**whole, "stream": True}


@pytest.mark.parametrize("placeholder", ["${content_type}", "${contentType}"])
async def test_admins_may_write_the_placeholder_like_the_manual(house: House, placeholder: str) -> None:
    """Both spellings are filled in; the sentence is a row."""
    await house.ledger(
        f"update use_case_presets set system_prompt = 'Better {placeholder} prompts.' "
        "where use_case = 'prompt_enhancement' returning 1"
    )
    await house.http.post("/prompt-enhancement", json={"prompt": FOX, "content_type": "music"})

    [body] = await asked(house)
    assert body["messages"][0]["content"] == f"Better music prompts.\n\n{HOW}"


async def test_the_reply_has_both_prompts(house: House) -> None:
    """Whole and streamed say the same; the chatter around the prompt is gone; `done` has the added fields."""
    chatter = f'Sure! Here is the enhanced prompt:\n\n"{BETTER}"\n\nI added lighting and composition.'
    await models_say(house, chatter, chatter)
    reply = (await house.http.post("/prompt-enhancement", json={"prompt": FOX})).json()
    events = await streamed(house, "prompt-enhancement", {"prompt": FOX})

    assert (reply["content"], reply["enhanced_prompt"]) == (BETTER, BETTER)
    assert (reply["original_prompt"], reply["enhanced"], reply["quality_issues"]) == (FOX, True, [])
    assert is_well_formed(events)
    assert text_of(events) == BETTER
    done = events[-1][1]
    assert set(done) == set(reply) - {"content"}
    assert (done["original_prompt"], done["enhanced_prompt"], done["enhanced"]) == (FOX, BETTER, True)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(FOX, id="word for word"),
        pytest.param("  A red fox, in the snow.", id="other case and punctuation"),
        pytest.param(f'Enhanced prompt: "{FOX}"', id="only a label"),
        pytest.param("A red fox", id="only shorter"),
    ],
)
async def test_a_copy_is_no_enhancement(house: House, answer: str) -> None:
    """`enhanced` is false and a flag is in the ledger; it is never called a success."""
    await models_say(house, answer)
    reply = (await house.http.post("/prompt-enhancement", json={"prompt": FOX})).json()

    assert reply["enhanced"] is False
    assert "unchanged_openrouter_response" in [issue["code"] for issue in reply["quality_issues"]]
    assert await house.ledger("select code from openrouter.quality_issues where code like 'unchanged%'") == [
        ("unchanged_openrouter_response",)
    ]


async def test_a_lost_subject_is_put_in_front(house: House) -> None:
    """The user asked for a fox and gets a fox, and the flag says what was done."""
    await models_say(house, "An empty mountain road at dawn, mist, cinematic lighting")
    reply = (await house.http.post("/prompt-enhancement", json={"prompt": FOX})).json()

    assert reply["enhanced_prompt"] == f"{FOX}, An empty mountain road at dawn, mist, cinematic lighting"
    assert (reply["enhanced"], [issue["code"] for issue in reply["quality_issues"]]) == (
        True,
        ["subject_lost_openrouter_response"],
    )


async def test_a_long_answer_is_cut_to_the_target(house: House) -> None:
    """An image prompt fits CLIP; another target is kept too."""
    await models_say(house, BETTER + ", intricate details" * 60, BETTER)
    image = (await house.http.post("/prompt-enhancement", json={"prompt": FOX})).json()
    small = (await house.http.post("/prompt-enhancement", json={"prompt": FOX, "max_tokens_target": 12})).json()

    assert 50 < clip.estimate(image["enhanced_prompt"]) <= 75
    assert image["enhanced_prompt"].endswith("intricate details")
    assert small["enhanced_prompt"] == "A red fox trotting through deep snow, golden hour"


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("answer", "fault", "code", "status"),
    [
        pytest.param("I'm sorry, but I can't help with that.", None, "CONTENT_BLOCKED", 422, id="declined in words"),
        pytest.param(None, "ok_refusal", "CONTENT_BLOCKED", 422, id="declined as a refusal"),
        pytest.param("Here is the enhanced prompt:", None, "EMPTY_RESPONSE", 502, id="a preamble and no prompt"),
        pytest.param(None, "no_endpoints", "MODEL_NOT_FOUND", 404, id="no model answers"),
    ],
)
async def test_a_failure_is_an_error(
    house: House, answer: str | None, fault: str | None, code: str, status: int, is_streamed: bool
) -> None:
    """No text that is not a better prompt goes out as one; a stream says so in its terminal event."""
    if answer is not None:
        await models_say(house, answer)
    if fault is not None:
        await house.simulator.fault("*", fault)
    response = await house.http.post("/prompt-enhancement", json={"prompt": FOX, "stream": is_streamed})

    if response.headers["content-type"].startswith("text/event-stream"):
        assert f'"code":"{code}"' in response.text
        assert "event: done" not in response.text
        assert "event: delta" not in response.text
    else:
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert response.json()["error"]["attempts"]
    assert len(await house.ledger("select 1 from openrouter.completions")) == 1


async def test_a_stream_that_breaks_is_told_by_another_model(house: House) -> None:
    """Nothing was shown before the prompt was whole, so nobody sees that the first model broke off."""
    await house.simulator.fault(HAIKU, "stream_close_after_content")
    events = await streamed(house, "prompt-enhancement", {"prompt": FOX})

    assert is_well_formed(events)
    assert (events[-1][1]["outcome"], events[-1][1]["used_fallback"]) == ("complete", True)
    assert events[-1][1]["enhanced_prompt"] == text_of(events) != ""


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({}, "prompt", id="no prompt"),
        pytest.param({"prompt": " \n"}, "prompt", id="a blank prompt"),
        pytest.param({"prompt": "x", "content_type": ""}, "content_type", id="empty content type"),
        pytest.param({"prompt": "x", "contentType": "a\nb"}, "contentType", id="content type of two lines"),
        pytest.param({"prompt": "x", "max_tokens_target": 9}, "max_tokens_target", id="no room for a prompt"),
        pytest.param({"prompt": "x", "messages": []}, "messages", id="unknown field"),
    ],
)
async def test_bad_input_is_named(house: House, body: dict[str, Any], field: str) -> None:
    """The field as the caller wrote it; nothing is sent."""
    answer = await house.http.post("/prompt-enhancement", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    assert await asked(house) == []


@pytest.mark.parametrize(
    ("heard", "prompt"),
    [
        pytest.param("A fox, dawn", "A fox, dawn", id="nothing to do"),
        pytest.param("  A fox \n", "A fox", id="white space"),
        pytest.param('"A fox, dawn"', "A fox, dawn", id="quotes"),
        pytest.param("“A fox, dawn”", "A fox, dawn", id="typographic quotes"),
        pytest.param('"A fox, dawn and', "A fox, dawn and", id="a quotation that was cut off"),
        pytest.param('A sign that says "Fox"', 'A sign that says "Fox"', id="quotes that belong to it"),
        pytest.param('"Fox" in neon, "Bar" below', '"Fox" in neon, "Bar" below', id="two quotations"),
        pytest.param("```\nA fox\n```", "A fox", id="a fence"),
        pytest.param("```text\nA fox\n```\nEnjoy!", "A fox", id="a fence with a language and words after"),
        pytest.param("Here:\n```prompt\nA fox", "A fox", id="a fence that was cut off"),
        pytest.param("`A fox`", "A fox", id="backticks"),
        pytest.param("**A fox**, dawn", "A fox, dawn", id="bold"),
        pytest.param("*A fox, dawn*", "A fox, dawn", id="italics around it"),
        pytest.param("## Enhanced Prompt\n\nA fox", "A fox", id="a heading"),
        pytest.param("Enhanced Prompt: A fox", "A fox", id="a label"),
        pytest.param("**Enhanced image prompt:** A fox", "A fox", id="a bold label"),
        pytest.param("Here is the enhanced prompt:\n\nA fox", "A fox", id="a preamble"),
        pytest.param("Sure! Here’s a cinematic version:\n\nA fox", "A fox", id="assent and preamble"),
        pytest.param("Certainly. Here is your prompt.\n\nA fox", "A fox", id="a preamble that ends in a full stop"),
        pytest.param("I've enhanced it as follows: A fox", "A fox", id="what the model did"),
        pytest.param("A fox: red, quick", "A fox: red, quick", id="a colon that belongs to it"),
        pytest.param("Here comes the sun, a fox below", "Here comes the sun, a fox below", id="no preamble"),
        pytest.param("A fox\n\nI added lighting.", "A fox", id="an explanation"),
        pytest.param("A fox\n\n**Explanation:** light\n- more", "A fox", id="an explanation with a label"),
        pytest.param("A fox\n---\nChanges made: light", "A fox", id="an explanation behind a rule"),
        pytest.param("---\nA fox\n---", "A fox", id="between rules"),
        pytest.param("A fox at dawn. Let me know if you want more!", "A fox at dawn.", id="a farewell"),
        pytest.param('"A red fox in the deep snow"\n\nEnjoy.', "A red fox in the deep snow", id="a quoted paragraph"),
        pytest.param("<think>fox?</think>A fox", "A fox", id="thoughts"),
        pytest.param("<think>fox, and then", "", id="nothing but thoughts"),
        pytest.param("A fox,\nin the snow", "A fox,\nin the snow", id="two lines"),
        pytest.param("(fox:1.3), [blurry], <lora:snow:0.7>", "(fox:1.3), [blurry], <lora:snow:0.7>", id="weights"),
        pytest.param("雪の中の赤い狐、夕暮れ", "雪の中の赤い狐、夕暮れ", id="Japanese"),
    ],
)
def test_only_the_prompt_is_left(heard: str, prompt: str) -> None:
    """What models say around a prompt is taken away, what belongs to it stays."""
    assert cleanup.clean(heard) == prompt
    assert cleanup.clean(prompt) == prompt


@pytest.mark.parametrize(
    ("original", "text", "kept"),
    [
        pytest.param("a red fox", "A red fox at dawn", True, id="all there"),
        pytest.param("two foxes running", "A fox runs", True, id="other endings"),
        pytest.param("a red dragon over Prague", "Prague at golden hour", False, id="the dragon is gone"),
        pytest.param("a photo of a cat", "A tabby CAT on a velvet sofa", True, id="photo is no subject"),
        pytest.param("a cat", "A majestic tiger", False, id="another animal"),
        pytest.param("a cat on a roof", "A wide view of a roof, soft light", False, id="the place alone is not it"),
        pytest.param("a shy red cat on a roof", "A cat, slate roof, dusk", True, id="the thing and its place"),
        pytest.param("雪の中の狐", "A fox in the snow", True, id="a script without spaces is not compared"),
        pytest.param("🦊", "A fox", True, id="no words at all"),
    ],
)
def test_the_subject_is_looked_for(original: str, text: str, kept: bool) -> None:
    """The first words that name something count most."""
    assert cleanup.keeps_subject(original, text) is kept


def test_a_long_prompt_is_not_put_in_front() -> None:
    """It would leave no room for what was asked for: the flag alone tells."""
    editor = PromptEditor("a very long story about a dragon " * 10, 75)
    editor.feed("An empty road, mist")

    assert editor.finish() == "An empty road, mist"
    assert [issue.code for issue in editor.issues()] == ["subject_lost_openrouter_response"]


@pytest.mark.parametrize(
    ("text", "limit", "fitted"),
    [
        pytest.param("a fox, dawn, mist", 99, "a fox, dawn, mist", id="it fits"),
        pytest.param("a fox, dawn, mist", 5, "a fox, dawn", id="at a comma"),
        pytest.param("A fox. Dawn light. Mist.", 7, "A fox. Dawn light.", id="at a sentence's end"),
        pytest.param("a fox and a very long clause", 5, "a fox and a very", id="after a word"),
        pytest.param("a, very long clause without commas", 5, "a, very long clause", id="not at a comma too early"),
        pytest.param("a fox (golden, soft:1.2), mist", 6, "a fox (golden, soft", id="no clause ends in brackets"),
        pytest.param("shot at f/1.8, fox", 7, "shot at f/1.8", id="the point of a number ends nothing"),
        pytest.param("photorealistic", 1, "photorea", id="a part of the only word"),
        pytest.param("a fox\nin mist, dawn", 3, "a fox", id="at a line's end"),
    ],
)
def test_a_prompt_is_cut_where_it_reads_well(text: str, limit: int, fitted: str) -> None:
    """At the end of a clause when that keeps half of the room, else after a word."""
    assert clip.fit(text, limit) == fitted
    assert clip.estimate(fitted) <= limit


SAYINGS = re.findall(
    r"[^|]+",
    "Sure! |Here is the enhanced prompt:|\n|\n\n|\"|“|”|'|```|```text\n|`|**|---|# |Prompt: |A red fox|, dawn|. |"
    "I added light.|Note: |Let me know|<think>|</think>|Of course, |Explanation:",
)
CHATTER = st.lists(
    st.sampled_from(SAYINGS) | st.text(max_size=5),
    max_size=12,
).map("".join)


@settings(deadline=None)
@given(CHATTER)
def test_cleaning_twice_changes_nothing_and_never_adds(heard: str) -> None:
    """Every character of the result was there before."""
    prompt = cleanup.clean(heard)

    assert cleanup.clean(prompt) == prompt
    assert len(prompt) <= len(heard)


@settings(deadline=None)
@given(CHATTER, st.integers(min_value=2, max_value=12))
def test_what_fits_is_a_beginning_within_the_limit(text: str, limit: int) -> None:
    """Never more tokens than allowed, never other words, and fitting twice changes nothing."""
    fitted = clip.fit(text, limit)

    assert clip.estimate(fitted) <= limit
    assert text.startswith(fitted)
    assert clip.fit(fitted, limit) == fitted


@settings(deadline=None)
@given(CHATTER, st.lists(st.integers(min_value=0, max_value=80), max_size=6), st.sampled_from([None, 5, 75]))
def test_the_result_is_the_same_however_the_stream_is_cut(heard: str, cuts: list[int], target: int | None) -> None:
    """Pieces of any size, one text and one set of flags."""
    whole, pieces = PromptEditor(FOX, target), PromptEditor(FOX, target)
    expected = whole.feed(heard) + whole.finish()
    places = [0, *sorted(cut for cut in cuts if cut < len(heard)), len(heard)]
    shown = "".join(pieces.feed(heard[start:end]) for start, end in pairwise(places))

    assert shown + pieces.finish() == expected
    assert pieces.issues() == whole.issues()
