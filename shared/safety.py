"""What is refused before a model is asked: sexual content in which somebody is under eighteen.

The rule is plain on purpose, so that a refusal can be explained: somewhere an age under 18 is stated, and somewhere
explicit sexual content is asked for. It reads words, not intentions; models and providers have their own rules on top.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from shared.errors import ContentBlocked, Detail

ADULT_AGE = 18
# Every number and every word is looked at closely. A request with more of them than this is taken to mean it.
LOOKS = 20_000

_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
)
_DIGITS = re.compile(r"\d+")
# 15 years old, fifteen-year-old, 15 y/o, 15yo; but not the age of a thing.
_OLD = re.compile(
    r"[\s-]*(?:years?[\s-]*(?:old|of[\s-]age)|yrs?[\s-]*old|y\.?/?o\b)"
    r"(?![\s-]+(?:single[\s-]malt|whiske?y|scotch|wine|rum|car|ship|boat|house|building|tree)\b)"
)
# Age: 15, "age": 15, Age("15"), aged 15
_AGED = re.compile(r"\b(?:aged|age\s*(?:is\b|[\"']?\s*[:=(+]))[\s\"'(]*$")
# She is 15. I'm only fifteen,
_BEING = re.compile(r"\b(?:she|he|they|i|you|who)(?:\s+(?:is|am|are)|['\u2019](?:s|m|re))\s+(?:(?:only|just|now)\s+)?$")
_ENOUGH = re.compile(r"\s*(?:[.,;!?)](?!\d)|$)")
# A life told from its beginning.
_PAST = re.compile(r"\b(?:when|since|until|after|before|while)\s+(?:\w+\s+){1,2}(?:was|were|turned)\s+(?:\w+\s+)?$")
_NAMED = re.compile(r"underaged?|pre-?teens?|lolis?|shotas?")
_NAMED_STEMS = ("underage", "preteen", "pre-teen", "loli", "shota")

_SEXUAL = re.compile(
    r"(?:sex(?!\s*(?:[\"']?\s*[:=(+]|ed\b|education))|sexual(?!\s+(?:abuse|assault|harassment|education|orientation))"
    r"|sexually(?!\s+(?:abused|assaulted|harassed))|erotic(?:a|ism)?|nsfw|smut|porn(?:ography|ographic)?|hentai|lewd"
    r"|intercourse|orgasm(?:s|ic)?|masturbat(?:e|es|ing|ion)|genitals?|penis|vagina|undress(?:es|ed|ing)?|nudes?"
    r"|naked(?!\s+(?:blade|sword|steel|eye|flame|truth|ambition)))\b"
)
_SEXUAL_STEMS = (
    *("sex", "erotic", "nsfw", "smut", "porn", "hentai", "lewd", "intercourse", "orgasm", "masturbat", "genital"),
    *("penis", "vagina", "undress", "nude", "naked"),
)
_OTHER_SEX = re.compile(r"\b(?:opposite|same|fair(?:er)?|either|biological)\s+$")
_DENIED = re.compile(
    r"\b(?:no|not|non|never|without|nothing|avoids?|forbids?|isn't|don't|nor)[\s-]+"
    r"(?:(?:any|explicit|allow|allows|overtly|an?|or)\s+){0,2}$"
)
# How far around a find is looked.
_NEAR_CHARS = 60


@dataclass(frozen=True, slots=True)
class Passage:
    """A text of the request and the field it stands in. `is_age` marks a field that holds nothing but an age."""

    field: str
    text: str
    is_age: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """The field that states an age under 18, and the field that asks for sexual content."""

    minor_field: str
    sexual_field: str


def sexual_content_with_minor(passages: Iterable[Passage]) -> Finding | None:
    """The first passage of each kind, when there are both."""
    given = list(passages)
    minor = _first(given, _ages)
    sexual = None if minor is None else _first(given, _sexual_words)
    return None if minor is None or sexual is None else Finding(minor.field, sexual.field)


def refuse_sexual_content_with_minor(passages: Iterable[Passage]) -> None:
    """Raise ContentBlocked, with the two fields named, where `sexual_content_with_minor` finds both."""
    found = sexual_content_with_minor(passages)
    if found is not None:
        raise ContentBlocked(
            "Sexual content that involves somebody under 18 is refused",
            details=[
                Detail(found.minor_field, "This states an age under 18"),
                Detail(found.sexual_field, "This asks for sexual content"),
            ],
        )


def _first(passages: Iterable[Passage], looks: Callable[[Passage], Iterator[bool]]) -> Passage | None:
    left = LOOKS
    for passage in passages:
        for is_meant in looks(passage):
            left -= 1
            if is_meant or left < 0:
                return passage
    return None


def _ages(passage: Passage) -> Iterator[bool]:
    """For each place where an age under 18 may stand, whether it does."""
    text = passage.text.lower()
    for start, end in chain(_small_numbers(text), _whole_words(text, _NUMBERS)):
        yield passage.is_age or _is_age(text, start, end)
    for start in _found(text, _NAMED_STEMS, _NAMED):
        yield not _is_denied(text, start)


def _sexual_words(passage: Passage) -> Iterator[bool]:
    """For each word of the list, whether it is meant."""
    text = passage.text.lower()
    for start in _found(text, _SEXUAL_STEMS, _SEXUAL):
        yield not (_is_denied(text, start) or _OTHER_SEX.search(_before(text, start)))


def _is_age(text: str, start: int, end: int) -> bool:
    before, after = _before(text, start), text[end : end + _NEAR_CHARS]
    is_stated = _OLD.match(after) or _AGED.search(before) or (_ENOUGH.match(after) and _BEING.search(before))
    return bool(is_stated) and not _PAST.search(before)


def _small_numbers(text: str) -> Iterator[tuple[int, int]]:
    """Numbers under 18, not as a part of longer ones such as 15,000 or 3.15."""
    for found in _DIGITS.finditer(text):
        start, end = found.span()
        is_part = (text[start - 1 : start] in (".", ",") and text[start - 2 : start - 1].isdecimal()) or (
            text[end : end + 1] in (".", ",") and text[end + 1 : end + 2].isdecimal()
        )
        if end - start <= 3 and int(found[0]) < ADULT_AGE and not is_part:
            yield start, end


def _whole_words(text: str, words: Iterable[str]) -> Iterator[tuple[int, int]]:
    for word in words:
        for start in _places(text, word):
            if not text[start + len(word) : start + len(word) + 1].isalnum():
                yield start, start + len(word)


def _found(text: str, stems: Iterable[str], pattern: re.Pattern[str]) -> Iterator[int]:
    """Where the pattern matches; every match begins with a stem."""
    for stem in stems:
        for start in _places(text, stem):
            found = pattern.match(text, start)
            if found and not text[found.end() : found.end() + 1].isalnum():
                yield start


def _places(text: str, start_of_word: str) -> Iterator[int]:
    """Where a word begins so. Plain search is a hundred times faster than one pattern for all words."""
    place = text.find(start_of_word)
    while place >= 0:
        if not text[place - 1 : place].isalnum():
            yield place
        place = text.find(start_of_word, place + 1)


def _is_denied(text: str, place: int) -> bool:
    return _DENIED.search(_before(text, place)) is not None


def _before(text: str, place: int) -> str:
    return text[max(0, place - _NEAR_CHARS) : place]
