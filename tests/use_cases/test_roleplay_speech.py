"""The editor of replies: whose lines are shown, however a stream is cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.speech import Speech


def edited(pieces: list[str], editor: Speech) -> tuple[str, list[str]]:
    """The text that is shown and the codes of the flags."""
    shown = "".join([*map(editor.feed, pieces), editor.finish()])
    return shown, [issue.code for issue in editor.issues()]


@pytest.mark.parametrize(
    ("said", "shown", "codes"),
    [
        ("Ahoy.", "Ahoy.", []),
        ("", "", []),
        ("Mira: Ahoy.", "Ahoy.", ["name_prefix"]),
        ("\n\nMIRA : Ahoy.", "Ahoy.", ["name_prefix"]),
        ("**Mira:** Ahoy.", "Ahoy.", ["name_prefix"]),
        ("**Mira**: *nods*", "*nods*", ["name_prefix"]),
        ("Mira: *nods*", "*nods*", ["name_prefix"]),
        ("Mira", "Mira", []),
        ("Mira nods: yes.", "Mira nods: yes.", []),
        ("Ahoy.\nAnn: Hi.", "Ahoy.", ["speaks_for_user"]),
        ("Ahoy. \n\n  **Ann**: Hi.\nMira: Ho.", "Ahoy.", ["speaks_for_user"]),
        ("Ahoy.\nUser: Hi.", "Ahoy.", ["speaks_for_user"]),
        ("Ahoy.\r\nann\uff1a Hi.", "Ahoy.", ["speaks_for_user"]),
        ("Ann: Hi.", "", ["speaks_for_user"]),
        ("Mira: Ann: Hi.", "", ["name_prefix", "speaks_for_user"]),
        ("Ahoy, Ann: sit.", "Ahoy, Ann: sit.", []),
        ("Ahoy.\nAnna: Hi.", "Ahoy.\nAnna: Hi.", []),
        ("Ahoy.\nAnn sits.", "Ahoy.\nAnn sits.", []),
        ("Ahoy.\nAnn", "Ahoy.\nAnn", []),
        ("Ahoy.\n\n", "Ahoy.", []),
    ],
)
def test_only_the_speakers_lines_are_shown(said: str, shown: str, codes: list[str]) -> None:
    """The own name goes, a line of somebody else ends the reply, everything else stays."""
    assert edited([said], Speech("Mira", ["Ann", "User"])) == (shown, codes)


WORDS = st.lists(
    st.sampled_from(
        [
            "Mira",
            "Ann",
            "Anna",
            "User",
            ":",
            "\uff1a",
            " ",
            "\n",
            "\r\n",
            "\t",
            "*",
            "**",
            "_",
            "A",
            "Ahoy",
            "we hold",
            "\u0130",
        ]
    ),
    max_size=14,
).map("".join)


@given(WORDS, st.lists(st.integers(0, 60), max_size=8), st.sampled_from(["", "we hold", "Ahoy\nAnn"]))
def test_the_cuts_of_a_stream_change_nothing(said: str, cuts: list[int], already: str) -> None:
    """The same text in any pieces is edited to the same text with the same flags."""
    places = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    pieces = [said[start:end] for start, end in pairwise(places)]

    whole = edited([said], Speech("Mira", ["Ann", "User"], already=already))
    assert edited(pieces, Speech("Mira", ["Ann", "User"], already=already)) == whole
    assert edited(list(said), Speech("Mira", ["Ann", "User"], already=already)) == whole


@given(st.text(max_size=60))
def test_what_has_no_name_in_it_is_shown_as_it_is(said: str) -> None:
    """The editor removes nothing else but white space at the end."""
    assert edited([said], Speech(None, [])) == (said.rstrip(), [])


def test_no_more_is_held_back_than_could_be_a_name() -> None:
    """Text is shown as soon as it is clear that it is only text."""
    editor = Speech("Mira", ["Ann"])

    assert [editor.feed(piece) for piece in ("Mi", "st", " falls.", "\nAn", "n", "e waits", "\nAnn", ":", "x")] == [
        *("", "Mist", " falls.", "", "", "\nAnne waits", "", "", ""),
    ]


def test_a_repeated_beginning_is_removed() -> None:
    """What is to be continued is shown once; a different text is shown as it is."""
    assert edited(["We ", "hold the line."], Speech("Mira", [], already="We hold")) == (
        " the line.",
        ["repeats_itself"],
    )
    assert edited([" the line."], Speech("Mira", [], already="We hold")) == (" the line.", [])
    assert edited(["We wait."], Speech("Mira", [], already="We hold")) == ("We wait.", [])


def test_a_long_reply_is_edited_in_time_that_grows_with_it() -> None:
    """Many lines, each of which might have been a name."""
    said = "Ann waits.\n" * 20_000

    assert edited([said], Speech("Mira", ["Ann"]))[0] == said.rstrip()
