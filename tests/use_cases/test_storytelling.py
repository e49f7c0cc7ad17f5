"""`storytelling`: short, medium and long, from the beginning and from the middle."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.seam import LEAST_REPEAT, Continuation, WholeSentences, overlap, tail
from tests.house import House
from tests.use_cases.dialogue import Events, asked, is_well_formed, models_say, streamed, text_of

GPT = "openai/gpt-4.1"
SENTENCE = "You are a creative storyteller specializing in {}. Create engaging, immersive stories."
LIGHTHOUSE = "A lighthouse keeper finds a door in the sea."
OUTLINE = "1. He finds it. 2. He opens it. 3. He comes home."
ONE = "The keeper counted the waves. On the ninth a door stood open."
TWO = "Behind it lay a street he knew. Nobody there was older than ten."
THREE = "He went home at dawn. The light was still burning."


def say(*lines: str, system: str = SENTENCE.format("general fiction")) -> list[dict[str, str]]:
    """The two messages of every story."""
    return [{"role": "system", "content": system}, {"role": "user", "content": "\n\n".join(lines)}]


@pytest.mark.parametrize(
    ("body", "messages", "params"),
    [
        pytest.param({}, say(LIGHTHOUSE), (1000, 0.7, 0.9), id="the preset"),
        pytest.param({"length": "short"}, say(LIGHTHOUSE), (500, 0.7, 0.9), id="short"),
        pytest.param({"length": "medium"}, say(LIGHTHOUSE), (1000, 0.7, 0.9), id="medium"),
        pytest.param({"length": "short", "maxTokens": 42}, say(LIGHTHOUSE), (42, 0.7, 0.9), id="the limit wins"),
        pytest.param({"temperature": 0, "top_p": 0}, say(LIGHTHOUSE), (1000, 0, 0), id="an explicit 0"),
        pytest.param(
            {"genre": "gothic horror", "tone": "dry", "pointOfView": "first person"},
            say(
                LIGHTHOUSE,
                system=SENTENCE.format("gothic horror") + "\nTone: dry\nPoint of view: first person",
            ),
            (1000, 0.7, 0.9),
            id="genre, tone, point of view",
        ),
        pytest.param(
            {"genre": "${length} $5"},
            say(LIGHTHOUSE, system=SENTENCE.format("${length} $5")),
            (1000, 0.7, 0.9),
            id="no placeholder",
        ),
        pytest.param(
            {"previousText": ONE},
            say(
                f"The story so far:\n{ONE}",
                "Continue the story from there. Do not repeat what is already told.",
                LIGHTHOUSE,
            ),
            (1000, 0.7, 0.9),
            id="continued",
        ),
        pytest.param({"length": "long", "max_tokens": 900}, say(LIGHTHOUSE), (900, 0.7, 0.9), id="long, in one part"),
    ],
)
async def test_what_the_model_is_sent(
    house: House, body: dict[str, Any], messages: list[dict[str, str]], params: tuple[float, ...]
) -> None:
    """The manual's sentence verbatim, then the prompt; whole and streamed differ in `stream` alone."""
    await house.http.post("/storytelling", json={"prompt": LIGHTHOUSE, **body})
    await streamed(house, "storytelling", {"prompt": LIGHTHOUSE, **body})

    whole, streaming = await asked(house)
    assert whole == {
        "model": GPT,
        "messages": messages,
        "max_tokens": params[0],
        "temperature": params[1],
        "top_p": params[2],
        "stream": False,
    }
    assert streaming == {**whole, "stream": True}


async def test_a_length_that_was_not_chosen_leaves_the_limit_to_the_rows(house: House) -> None:
    """An admin's preset is the length of a story nobody measured; a chosen length is the caller's wish."""
    await house.ledger("update use_case_presets set max_tokens = 700 where use_case = 'storytelling' returning 1")
    await house.http.post("/storytelling", json={"prompt": LIGHTHOUSE})
    await house.http.post("/storytelling", json={"prompt": LIGHTHOUSE, "length": "medium"})

    assert [body["max_tokens"] for body in await asked(house)] == [700, 1000]


async def test_a_continuation_does_not_say_again_what_was_told(house: House) -> None:
    """The model begins with the last sentence; the reader has it already."""
    again = "On the ninth a door stood open. He stepped through."
    await models_say(house, again, again)
    reply = (await house.http.post("/storytelling", json={"prompt": LIGHTHOUSE, "previous_text": ONE})).json()
    events = await streamed(house, "storytelling", {"prompt": LIGHTHOUSE, "previous_text": ONE})

    assert reply["content"] == text_of(events) == " He stepped through."


async def test_only_the_end_of_a_very_long_story_is_shown_again(house: House) -> None:
    """At most a third of the model's context, from the beginning of a sentence."""
    await house.ledger("update api_models set context_length = 2000 where model_version = 'openai/gpt-4.1' returning 1")
    story = "The wave came and the wave went. " * 5000
    answer = await house.http.post("/storytelling", json={"prompt": LIGHTHOUSE, "previous_text": story})

    [body] = await asked(house)
    shown = body["messages"][1]["content"]
    assert (answer.status_code, body["model"]) == (200, GPT)
    assert shown.startswith("The story so far:\nThe wave came")
    assert 1000 < len(shown) < 6000


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_a_long_story_is_outlined_and_told_in_parts(house: House, is_streamed: bool) -> None:
    """Four completions, one text without seams, one sum: tokens, dollars and attempts of all."""
    await models_say(house, OUTLINE, ONE, "On the ninth a door stood open. " + TWO, THREE)
    body = {"prompt": LIGHTHOUSE, "length": "long"}
    reply, text = await tell(house, body, is_streamed)
    bill = await house.simulator.bill()

    assert text == "\n\n".join([ONE, TWO, THREE])
    assert (reply["outcome"], reply["finish_reason"], reply["model"]) == ("complete", "stop", GPT)
    assert (reply["cost_usd"], reply["cost_source"]) == (Decimal(bill["total_cost"]), "provider")
    assert len(reply["attempts"]) == 4
    assert reply["params"]["max_tokens"] == 3000
    assert await house.ledger(
        "select count(*), count(distinct request_id), sum(cost_usd), sum(total_tokens), bool_and(outcome = 'complete') "
        "from openrouter.completions"
    ) == [(4, 1, reply["cost_usd"], reply["usage"]["total_tokens"], True)]
    assert await house.ledger("select distinct request_id from openrouter.completions") == [(reply["request_id"],)]


async def test_what_the_model_is_sent_for_a_long_story(house: House) -> None:
    """An outline, then each part with the outline and the end of what was told."""
    await models_say(house, OUTLINE, ONE, TWO, THREE)
    await house.http.post("/storytelling", json={"prompt": LIGHTHOUSE, "length": "long", "genre": "fantasy"})

    fantasy = SENTENCE.format("fantasy")
    outline = f"Outline:\n{OUTLINE}"
    go_on = "Continue the story from there. Do not repeat what is already told."
    bodies = await asked(house)
    assert [body["max_tokens"] for body in bodies] == [300, 1000, 1000, 1000]
    assert [body["messages"] for body in bodies] == [
        say(
            LIGHTHOUSE,
            "First write a brief outline of this story in 3 parts, one or two sentences for each. "
            "Write only the outline.",
            system=fantasy,
        ),
        say(LIGHTHOUSE, outline, "Write part 1 of 3, without a heading, and do not end the story yet.", system=fantasy),
        say(
            LIGHTHOUSE,
            outline,
            f"The story so far:\n{ONE}",
            go_on,
            "Write part 2 of 3, without a heading, and do not end the story yet.",
            system=fantasy,
        ),
        say(
            LIGHTHOUSE,
            outline,
            f"The story so far:\n{ONE}\n\n{TWO}",
            go_on,
            "Write part 3 of 3, without a heading, and bring the story to its end.",
            system=fantasy,
        ),
    ]


@pytest.mark.parametrize(
    ("max_tokens", "limits"),
    [
        pytest.param(600, [600], id="it fits one completion"),
        pytest.param(1001, [100, 451, 450], id="two parts"),
        pytest.param(3000, [300, 900, 900, 900], id="three parts"),
        pytest.param(9000, [300, 2900, 2900, 2900], id="never more than three"),
    ],
)
async def test_a_callers_limit_is_the_budget_of_the_whole(house: House, max_tokens: int, limits: list[int]) -> None:
    """The outline included: the caller never pays for more."""
    await house.http.post("/storytelling", json={"prompt": LIGHTHOUSE, "length": "long", "max_tokens": max_tokens})

    sent = [body["max_tokens"] for body in await asked(house)]
    assert sent == limits
    assert sum(sent) == max_tokens


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_a_part_that_hits_its_limit_ends_with_a_whole_sentence(house: House, is_streamed: bool) -> None:
    """The half sentence before the seam is left out; at the end of the story it stays, and the reason is told."""
    words = "The tide came in. " * 40
    await models_say(house, OUTLINE, words, "Home he went. " * 40)
    reply, text = await tell(house, {"prompt": LIGHTHOUSE, "length": "long", "max_tokens": 1001}, is_streamed)
    first, _, second = text.partition("\n\n")

    assert [body["max_tokens"] for body in await asked(house)] == [100, 451, 450]
    assert first == words.strip()
    assert second == ("Home he went. " * 40)
    assert reply["finish_reason"] == "stop"

    await models_say(house, OUTLINE, "The tide came in, slowly. " * 200, "Home he went, wet. " * 200)
    reply, text = await tell(house, {"prompt": LIGHTHOUSE, "length": "long", "max_tokens": 1001}, is_streamed)
    first, _, second = text.partition("\n\n")

    assert first.endswith("slowly.")
    assert set(first.replace("The tide came in, slowly.", "").split()) == set()
    assert (reply["finish_reason"], reply["outcome"]) == ("length", "complete")


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", ["no_endpoints", "payment_credits", "ok_reasoning_ate_all"])
async def test_when_a_later_part_fails_the_story_so_far_is_truncated(
    house: House, is_streamed: bool, fault: str
) -> None:
    """What was written is not lost and not called complete; the failed attempts and their cost are told."""
    await models_say(house, OUTLINE, ONE)
    await fails_later(house, 2, fault)
    reply, text = await tell(house, {"prompt": LIGHTHOUSE, "length": "long"}, is_streamed)

    assert text == ONE
    assert (reply["outcome"], reply["finish_reason"]) == ("truncated", None)
    assert [attempt["code"] for attempt in reply["attempts"][:2]] == [None, None]
    assert len(reply["attempts"]) > 2
    assert all(attempt["code"] for attempt in reply["attempts"][2:])
    rows = await house.ledger("select outcome, cost_usd from openrouter.completions order by started_at")
    assert [outcome for outcome, _ in rows] == ["complete", "complete", "failed"]
    assert reply["cost_usd"] == sum(cost for _, cost in rows)


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_when_the_first_part_fails_it_is_an_error(house: House, is_streamed: bool) -> None:
    """Nothing was told, so there is nothing to keep; the attempts of the outline are listed too."""
    await models_say(house, OUTLINE)
    await fails_later(house, 1, "no_endpoints")
    answer = await house.http.post(
        "/storytelling", json={"prompt": LIGHTHOUSE, "length": "long", "stream": is_streamed}
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "MODEL_NOT_FOUND")
    assert [attempt["status"] for attempt in answer.json()["error"]["attempts"]] == [200, 404, 404, 404]


async def test_a_story_needs_no_outline(house: House) -> None:
    """The provider fails the outline with every model; the parts are told without one."""
    await house.simulator.fault("*", "no_endpoints", times=3)
    await models_say(house, *["unheard"] * 3, ONE, TWO, THREE)
    reply = (await house.http.post("/storytelling", json={"prompt": LIGHTHOUSE, "length": "long"})).json()

    assert reply["content"] == "\n\n".join([ONE, TWO, THREE])
    assert reply["outcome"] == "complete"
    assert not any("Outline:" in body["messages"][1]["content"] for body in (await asked(house))[3:])


async def test_the_model_that_began_the_story_goes_on_with_it(house: House) -> None:
    """One voice: the first model is gone for the outline, and nobody asks it again."""
    await house.simulator.fault(GPT, "no_endpoints", times=1)
    reply = (await house.http.post("/storytelling", json={"prompt": LIGHTHOUSE, "length": "long"})).json()

    assert [body["model"] for body in await asked(house)] == [GPT] + ["anthropic/claude-sonnet-4.6"] * 4
    assert (reply["model"], reply["used_fallback"]) == ("anthropic/claude-sonnet-4.6", True)


async def test_a_stream_that_breaks_in_a_part_ends_the_story(house: House) -> None:
    """Text was shown and its stream broke: truncated, one terminal event, and no further part is paid for."""
    await models_say(house, OUTLINE, ONE)
    await fails_later(house, 2, "stream_close_after_content")
    events = await streamed(house, "storytelling", {"prompt": LIGHTHOUSE, "length": "long"})

    assert is_well_formed(events)
    assert text_of(events).startswith(ONE + "\n\n")
    assert events[-1][0] == "done"
    assert events[-1][1]["outcome"] == "truncated"
    assert len(await asked(house)) == 3


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
async def test_a_model_that_will_not_go_on_ends_the_story(house: House, is_streamed: bool) -> None:
    """Its words of refusal are not part of the story."""
    await models_say(house, OUTLINE, ONE)
    await fails_later(house, 2, "ok_refusal")
    reply, text = await tell(house, {"prompt": LIGHTHOUSE, "length": "long"}, is_streamed)

    assert text == ONE
    assert reply["finish_reason"] == "content_filter"
    assert len(await asked(house)) == 3


async def test_an_unknown_cost_makes_the_sum_unknown(house: House) -> None:
    """Three known figures and one unknown are no figure."""
    await house.ledger("update api_models set cost_per_request = null returning 1")
    await house.ledger("delete from api_model_prices returning 1")
    await fails_later(house, 2, "ok_usage_missing")
    reply = (await house.http.post("/storytelling", json={"prompt": LIGHTHOUSE, "length": "long"})).json()

    assert (reply["cost_usd"], reply["cost_source"]) == (None, "unknown")
    assert reply["usage"]["total_tokens"] is None


async def test_a_reader_who_leaves_pays_for_no_further_part(house: House) -> None:
    """The part that was being told is recorded as cancelled; the next is never asked for."""
    await models_say(house, OUTLINE, ONE, "The tide came in. " * 50)
    (await house.simulator.http.post("/_sim/defaults", json={"tokens_per_second": 200})).raise_for_status()
    body = {"prompt": LIGHTHOUSE, "length": "long", "stream": True}
    async with house.http.stream("POST", "/storytelling", json=body) as answer:
        async for line in answer.aiter_lines():
            if "The tide" in line:
                break
    (await house.simulator.http.get("/_sim/idle")).raise_for_status()
    rows: list[tuple[Any, ...]] = []
    while len(rows) < 3:
        rows = await house.ledger("select outcome from openrouter.completions order by started_at")

    assert rows == [("complete",), ("complete",), ("cancelled",)]
    assert len(await asked(house)) == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({}, "prompt", id="no prompt"),
        pytest.param({"prompt": "  "}, "prompt", id="a blank prompt"),
        pytest.param({"prompt": "x", "length": "endless"}, "length", id="unknown length"),
        pytest.param({"prompt": "x", "genre": ""}, "genre", id="empty genre"),
        pytest.param({"prompt": "x", "genre": "a\nb"}, "genre", id="genre of two lines"),
        pytest.param({"prompt": "x", "previousText": 5}, "previousText", id="a story that is a number"),
        pytest.param({"prompt": "x", "messages": []}, "messages", id="unknown field"),
    ],
)
async def test_bad_input_is_named(house: House, body: dict[str, Any], field: str) -> None:
    """The field as the caller wrote it; nothing is sent."""
    answer = await house.http.post("/storytelling", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "VALIDATION_ERROR")
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [field]
    assert await asked(house) == []


@pytest.mark.parametrize(
    ("before", "after", "repeated"),
    [
        pytest.param("It rained. The door stood open.", "He went in.", "", id="no repeat"),
        pytest.param("It rained. The door stood open.", "The door stood open. In!", "The door stood open.", id="last"),
        pytest.param(
            "A. It rained all day. The door stood open.",
            "It rained all day. The door stood open. In!",
            "It rained all day. The door stood open.",
            id="the longest match counts",
        ),
        pytest.param("The door stood open.", "the  door\nstood OPEN. In!", "the  door\nstood OPEN.", id="other shape"),
        pytest.param("“The door is open!”", '"The door is open!" he said', '"The door is open!"', id="other quotes"),
        pytest.param('He called: "Run!"', '"Run!" she cried.', "", id="a short echo is meant"),
        pytest.param(
            "Rain. The door stood open and", "The door stood open and he", "The door stood open and", id="cut"
        ),
        pytest.param("It rained. The door stood open.", "stood open. He went in.", "", id="not within a sentence"),
        pytest.param("", "He went in.", "", id="nothing before"),
        pytest.param(
            "雨が降っていた。その扉は静かに開いていたのだった。",
            "その扉は静かに開いていたのだった。彼は",
            "その扉は静かに開いていたのだった。",
            id="Japanese",
        ),
    ],
)
def test_the_overlap_of_two_texts(before: str, after: str, repeated: str) -> None:
    """The longest end of the one, from a sentence's beginning, that is the beginning of the other."""
    assert after[: overlap(before, after)] == repeated


@pytest.mark.parametrize(
    ("text", "chars", "end"),
    [
        pytest.param("One. Two.", 20, "One. Two.", id="all of it"),
        pytest.param("One one. Two two. Three.", 20, "Two two. Three.", id="from a sentence's beginning"),
        pytest.param("one two three four", 8, "ree four", id="no sentence"),
        pytest.param("Said Mr. Fox and Mrs. Fox", 14, "x and Mrs. Fox", id="a title ends no sentence"),
    ],
)
def test_the_end_of_a_text(text: str, chars: int, end: str) -> None:
    """What the model is shown again is not cut within a sentence, where there is one."""
    assert tail(text, chars) == end


SENTENCES = st.lists(
    st.sampled_from(
        ["The door stood open. ", "It rained all day long.\n", '"Run!" ', "No. ", "He went ", "扉は開いた。", "… "]
    )
    | st.text(max_size=4),
    max_size=8,
).map("".join)
CUTS = st.lists(st.integers(min_value=0, max_value=120), max_size=6)


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    return [text[start:end] for start, end in pairwise(places)]


@settings(deadline=None)
@given(SENTENCES, SENTENCES, CUTS, st.booleans())
def test_a_continuation_is_the_same_however_it_is_cut(before: str, after: str, cuts: list[int], joined: bool) -> None:
    """Whole or in pieces: the repeat is left out, nothing else is lost and but for the break nothing is added."""
    whole, cut = Continuation(before, joined=joined), Continuation(before, joined=joined)
    expected = whole.feed(after) + whole.finish()

    assert "".join(cut.feed(piece) for piece in pieces(after, cuts)) + cut.finish() == expected
    assert after.endswith(expected.lstrip() if joined else expected)
    if not joined:
        assert expected == after[overlap(before, after) :]


@settings(deadline=None)
@given(SENTENCES, SENTENCES)
def test_what_is_repeated_stands_at_the_end_of_the_text_before(before: str, after: str) -> None:
    """White space aside; and saying the whole again leaves nothing."""
    repeated = after[: overlap(before, after)]

    assert bare(before).endswith(bare(repeated))
    if len(bare(before)) >= LEAST_REPEAT and len(before) < 2000:
        assert bare(before[overlap(before, before) :]) == ""


@settings(deadline=None)
@given(SENTENCES, CUTS, st.booleans())
def test_whole_sentences_are_the_same_however_they_are_cut(text: str, cuts: list[int], cut_off: bool) -> None:
    """What is shown is a beginning of the text; all of it unless it was cut off."""
    whole, cut = WholeSentences(), WholeSentences()
    expected = whole.feed(text) + whole.finish(cut_off=cut_off)

    assert "".join(cut.feed(piece) for piece in pieces(text, cuts)) + cut.finish(cut_off=cut_off) == expected
    assert text.startswith(expected)
    assert cut_off or expected == text


def bare(text: str) -> str:
    return "".join(text.split()).casefold()


async def fails_later(house: House, good: int, fault: str) -> None:
    """So many requests are answered, in an odd but valid shape; all after them meet the fault."""
    await house.simulator.fault("*", "wrong_content_type", times=good)
    await house.simulator.fault("*", fault)


async def tell(house: House, body: dict[str, Any], is_streamed: bool) -> tuple[dict[str, Any], str]:
    """The reply and the text, whichever way they come."""
    if is_streamed:
        events: Events = await streamed(house, "storytelling", body)
        assert is_well_formed(events)
        done = json.loads(json.dumps(events[-1][1]), parse_float=Decimal)
        return done, text_of(events)
    answer = await house.http.post("/storytelling", json=body)
    reply = json.loads(answer.text, parse_float=Decimal)
    return reply, reply["content"]
