"""Lorebooks: which entries fire, why, and in what order; and regular expressions that cannot hang."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared import lorebook, tokens
from shared.errors import InvalidRequest
from shared.pattern import Budget, OutOfBudget, Pattern, Unsupported

TALK = ["The storm took the mast.", "Aye.", "Mira sailed on.", "To Orvik?"]


def fired(given: Any, messages: list[str] | None = None, context_length: int | None = None) -> list[str]:
    """Names of the entries that are told, in their order."""
    book = lorebook.read(given)
    found = lorebook.findings(book, TALK if messages is None else messages, lambda text: text)
    told = lorebook.in_order(lorebook.within_budget(found, book, context_length))
    return [finding.entry.name for finding in told]


def reason(entry: dict[str, Any], messages: list[str] | None = None) -> str:
    book = lorebook.read([{"content": "x", **entry}])
    [finding] = lorebook.findings(book, TALK if messages is None else messages, lambda text: text)
    return finding.reason


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"keys": ["storm"]}, "key 'storm'"),
        ({"keys": ["STORM"]}, "key 'STORM'"),
        ({"keys": "gale, storm"}, "key 'storm'"),
        ({"keys": ["STORM"], "case_sensitive": True}, "no key found"),
        ({"keys": ["stor"]}, "no key found"),
        ({"keys": ["stor"], "matchWholeWords": False}, "key 'stor'"),
        ({"keys": ["stor"], "extensions": {"match_whole_words": False}}, "key 'stor'"),
        ({"keys": ["the mast."]}, "key 'the mast.'"),
        ({"keys": [""]}, "no key found"),
        ({"keys": ["storm"], "scanDepth": 1}, "no key found"),
        ({"keys": ["storm"], "extensions": {"scan_depth": 0}}, "no key found"),
        ({"keys": ["gale"], "constant": True}, "constant"),
        ({"keys": ["storm"], "enabled": False}, "disabled"),
        ({"key": ["storm"], "disable": True}, "disabled"),
        ({"keys": ["storm"], "probability": 0}, "disabled"),
        ({"keys": ["storm"], "probability": 1}, "key 'storm'"),
        ({"keys": ["storm"], "content": " "}, "empty"),
        ({"keys": ["storm"], "content": "@@dont_activate\nx"}, "disabled"),
        ({"keys": ["storm"], "content": "@@scan_depth 1\nx"}, "no key found"),
        ({"keys": ["storm"], "secondary_keys": ["mast"], "selective": True}, "key 'storm' and the secondary keys"),
        (
            {"keys": ["storm"], "secondary_keys": ["sun"], "selective": True},
            "key 'storm', but the secondary keys say no",
        ),
        ({"keys": ["storm"], "secondary_keys": ["sun"], "selective": False}, "key 'storm'"),
        (
            {"key": ["storm"], "keysecondary": ["mast", "sun"], "selectiveLogic": 3},
            "key 'storm', but the secondary keys say no",
        ),
        (
            {"key": ["storm"], "keysecondary": ["mast", "sun"], "selectiveLogic": 1},
            "key 'storm' and the secondary keys",
        ),
        ({"key": ["storm"], "keysecondary": ["sun"], "selectiveLogic": 2}, "key 'storm' and the secondary keys"),
        ({"keys": ["/sto.m/"]}, "key '/sto.m/'"),
        ({"keys": ["/STORM/"]}, "no key found"),
        ({"keys": ["/STORM/i"]}, "key '/STORM/i'"),
        ({"keys": ["^The ST\\w+"], "use_regex": True}, "key '^The ST\\\\w+'"),
        ({"keys": ["/(?=storm)/"]}, "a regular expression cannot be used: lookaround and the like"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_when_an_entry_fires(entry: dict[str, Any], expected: str) -> None:
    """In the names of the specifications and in those of world info."""
    assert reason(entry) == expected


def test_scripts_without_spaces_have_no_whole_words() -> None:
    """A key of such a script is found within a sentence."""
    assert reason({"keys": ["\u5d50"]}, ["\u5927\u5d50\u304c\u6765\u305f"]) == "key '\u5d50'"


def test_order_positions_and_names() -> None:
    """The lower number first; a later form of the position wins over the older word."""
    book = lorebook.read(
        {
            "spec": "lorebook_v3",
            "data": {
                "entries": [
                    {"keys": ["storm"], "content": "@@depth 3\n@@role user\nA", "insertion_order": 9, "name": "a"},
                    {"keys": ["storm"], "content": "B", "insertion_order": -1, "comment": "b"},
                    {"keys": ["storm"], "content": "C", "insertion_order": 2.5, "position": "after_char"},
                    {"keys": ["storm"], "content": "D", "position": "before_char", "extensions": {"position": 4}},
                    {"keys": ["storm"], "content": "@@position after_desc\nE", "position": "somewhere"},
                ]
            },
        }
    )
    told = lorebook.in_order(lorebook.findings(book, TALK, lambda text: text))

    assert [(finding.entry.name, finding.entry.content, finding.account()["position"]) for finding in told] == [
        ("b", "B", "before_char"),
        ("storm", "C", "after_char"),
        ("a", "A", "depth 3"),
        ("storm", "D", "depth 4"),
        ("storm", "E", "after_char"),
    ]
    assert told[2].entry.role == "user"


def test_recursion_has_an_end() -> None:
    """Lore calls up lore, unless an entry says no on either side; a chain is followed five times."""
    chain = [
        {"name": f"{place}", "keys": [f"link{place}"], "content": f"link{place + 1}", "insertion_order": place}
        for place in range(9)
    ]
    book = {"entries": chain, "recursive_scanning": True}

    assert fired(book, ["link0"]) == ["0", "1", "2", "3", "4", "5"]
    assert fired({**book, "recursive_scanning": False}, ["link0"]) == ["0"]
    assert fired({**book, "entries": [chain[0] | {"preventRecursion": True}, *chain[1:]]}, ["link0"]) == ["0"]
    kept_out = chain[1] | {"extensions": {"exclude_recursion": True}}
    assert fired({**book, "entries": [chain[0], kept_out, *chain[2:]]}, ["link0"]) == ["0"]


def test_the_budget_drops_the_lowest_priority_first() -> None:
    """Then nothing of lower priority slips into the room; constant lore stays longest."""
    entries = [
        {"name": "often", "content": "w" * 40, "constant": True, "priority": 0},
        {"name": "large", "keys": ["storm"], "content": "x" * 80, "priority": 5},
        {"name": "small", "keys": ["storm"], "content": "y", "priority": 1},
        {"name": "first", "keys": ["storm"], "content": "z" * 20, "priority": 9},
    ]

    two = sum(tokens.estimate(content) for content in ("w" * 40, "z" * 20))
    everything = sum(tokens.estimate(str(entry["content"])) for entry in entries)

    assert fired({"entries": entries, "token_budget": two + 1}) == ["often", "first"]
    assert fired({"entries": entries, "token_budget": 0}) == []
    assert fired(entries, context_length=4 * everything) == ["often", "large", "small", "first"]
    assert fired(entries, context_length=4 * two) == ["often", "first"]
    assert fired({"entries": entries, "token_budget": 10**9}, context_length=two) == ["often", "first"]


@pytest.mark.parametrize("pattern", ["/(a+)+b/", "/(a|a)*b/", "/(.*)*x/", "/a*a*a*a*a*b/", "/(x+x+)+y/"])
def test_no_pattern_hangs(pattern: str) -> None:
    """What stops a backtracking engine for years is only a search without a result."""
    assert reason({"keys": [pattern]}, ["a" * 120_000]) == "no key found"


def test_no_number_of_keys_hangs() -> None:
    """Keys that are found everywhere within words and never as words end with the budget."""
    entries = [{"keys": ["aaa"], "content": "x", "scan_depth": 1} for _ in range(500)]
    book = lorebook.read([*entries, {"keys": ["/a/"], "content": "y"}])
    found = lorebook.findings(book, ["a" * 50_000], lambda text: text)

    assert found[-2].reason == "looking for the keys of this book took too long"
    assert found[-1].fired


def test_a_book_has_a_bound_for_its_keys() -> None:
    """Ten thousand are enough for anybody."""
    with pytest.raises(InvalidRequest):
        lorebook.read([{"keys": ["x"] * 200, "content": "y"}] * 51)


def test_many_costly_patterns_end_with_the_budget() -> None:
    """The rest of the book does not fire by pattern, and says so; plain keys still do."""
    entries = [{"keys": [f"/(a|b)*a(a|b){{100}}c{place}/"], "content": "x"} for place in range(50)]
    book = lorebook.read([*entries, {"keys": ["abba"], "content": "y"}])
    found = lorebook.findings(book, ["abaabbb" * 3_000 + " abba"], lambda text: text)

    assert found[-2].reason == "looking for the keys of this book took too long"
    assert found[-1].fired


@pytest.mark.parametrize(
    "source",
    [
        *("(", ")", "a)", "[a", "*a", "a{2,1}", "a{999}", "(?<=a)b", r"\1", r"\p{L}", "[b-a]", r"[a-\d]", "^*"),
        *("a" * 501, "(" * 30 + ")" * 30, "((a{100}){100})"),
    ],
)
def test_what_cannot_be_matched_is_said_so(source: str) -> None:
    """Unsupported, never another exception."""
    with pytest.raises(Unsupported):
        Pattern(source, "", Budget(100_000))


ATOMS = st.sampled_from(["a", "b", "_", " ", "[ab]", "[^a]", "[a-c_]", r"\w", r"\s", r"\W", r"\d", ".", r"\.", r"\x61"])
COUNTS = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,2}", "{1,}", "+?"])
PATTERNS = st.recursive(
    st.builds("{}{}".format, ATOMS, COUNTS) | st.sampled_from([r"\b", r"\B", "^"]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map("".join)
        | st.builds("(?:{}|{})".format, inner, inner)
        | st.builds("({}){}".format, inner, COUNTS)
    ),
    max_leaves=5,
)


@given(PATTERNS, st.text("aAbB_ .\n1", min_size=1, max_size=12), st.sampled_from(["", "i", "m", "s"]))
def test_patterns_mean_what_they_mean_elsewhere(source: str, text: str, flag: str) -> None:
    """The same verdict as Python's engine, which may take longer."""
    assume(len(re.findall(r"[*+}]", source)) <= 3)
    flags = {"": 0, "i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL}[flag]
    pattern = Pattern(source, flag, Budget(100_000))

    assert pattern.found_in(text) is (re.search(source, text, flags) is not None)


@given(st.text("ab()[]{}|*+?\\^$.-1,dwbB", max_size=30), st.text(max_size=20))
def test_any_pattern_is_searched_or_refused(source: str, text: str) -> None:
    """No other exception leaves the engine."""
    try:
        Pattern(source, "i", Budget(20_000)).found_in(text)
    except (Unsupported, OutOfBudget):
        return


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["entries", "data", "keys", "key", "content", "position", "depth", "extensions", "order"]
                ),
                inner,
            )
        ),
        max_leaves=15,
    )
)
def test_any_book_is_read_or_refused(given_book: Any) -> None:
    """No other exception leaves the reader or the scan."""
    try:
        fired(given_book)
    except InvalidRequest as refused:
        assert refused.details
