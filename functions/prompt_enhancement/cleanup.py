"""What a model's answer to "enhance this prompt" is beside the prompt: recognised and taken away; pure."""

# ruff: noqa: RUF001 - the punctuation that models use, not look-alikes by mistake

from __future__ import annotations

import re
import unicodedata

_QUOTES = (('"', '"'), ("“", "”"), ("„", "“"), ("«", "»"), ("'", "'"), ("‘", "’"), ("`", "`"), ("*", "*"), ("_", "_"))

_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"```[ \t]*(?:[A-Za-z]{1,12}[ \t]*(?=\n))?(.*?)(?:```|\Z)", re.DOTALL)
_HEADING = re.compile(r"\A#{1,6}[ \t]+[^\n]*(?:\n|\Z)")
_LINE = r"(?:-{3,}|\*{3,}|_{3,})[ \t]*$"
_FIRST_RULE = re.compile(rf"\A{_LINE}", re.MULTILINE)
_RULE = re.compile(rf"^[ \t]*{_LINE}", re.MULTILINE)
_NOUN = r"(?:prompt|version|description|rewrite|result|output)s?"
_ADJECTIVE = r"(?:enhanced|improved|refined|revised|optimi[sz]ed|rewritten|expanded|detailed|final|updated|cinematic)"
# "Enhanced image prompt:", "Prompt:", "**Final version**:"
_LABEL = re.compile(
    rf"\A[*_#\s]*+(?:(?:the|your|an?)\s+)?(?:{_ADJECTIVE}\s+)*(?:[^\W_]++\s++)?{_NOUN}(?:\s+\d+)?[*_]*\s*:[*_]*\s*",
    re.IGNORECASE,
)
# "Sure!", "Of course:", "Certainly, "
_ASSENT = re.compile(
    r"\A(?:sure(?: thing)?|certainly|of course|absolutely|okay|ok|great|gladly|no problem)\b\s*[!,.:—–-]+\s*",
    re.IGNORECASE,
)
# "Here is the enhanced prompt for your image:", "I've rewritten it as follows:", "Here you go:"
_ANNOUNCEMENT = re.compile(
    r"\A(?:here(?:['’]s|\s+is|\s+are|\s+you\s+go)|below\s+(?:is|are)|i(?:['’]ve|\s+have)|the\s+following\s+is)"
    rf"(?:[^\n:]{{0,160}}\b(?:{_NOUN}|{_ADJECTIVE}|take|it|follows|below)\b[^\n:]{{0,80}}?)?[ \t]*"
    r"(?::\s*|[.!][ \t]*\n\s*)",
    re.IGNORECASE,
)
_OPENINGS = (_HEADING, _FIRST_RULE, _ASSENT, _ANNOUNCEMENT, _LABEL)
# The line with which a model begins to speak of its work again.
_AFTERWORD = re.compile(
    r"^[ \t]*[*_(\[#>]*[ \t]*(?:"
    r"(?:explanations?|notes?|rationale|reasoning|changes(?: made)?|what i (?:changed|added)|why (?:this|it) works"
    r"|(?:key|main)\s+(?:changes|improvements|enhancements|additions|elements|details))[*_]*\s*:"
    r"|(?:this|the)\s+(?:enhanced\s+|revised\s+|improved\s+|new\s+)?(?:prompt|version|enhancement|rewrite)\b"
    r"|i(?:['’]ve|\s+have)?\s+(?:also\s+)?(?:added|enhanced|included|kept|focused|expanded|used|tried)\b"
    r"|let me know\b|feel free\b|(?:i\s+)?hope this\b|would you like\b|if you(?:['’]d| would) like\b"
    r"|do you want\b|want me to\b|you can (?:also )?(?:adjust|modify|change)\b"
    r")",
    re.IGNORECASE | re.MULTILINE,
)
# Such words may also follow the prompt's last sentence on its own line.
_FAREWELL = re.compile(
    r"(?<=[.!?\"”])\s+(?:let me know\b|feel free\b|(?:i\s+)?hope this\b|would you like\b|do you want me\b)",
    re.IGNORECASE,
)
# A prompt in quotation marks with more below it.
_QUOTED_FIRST = re.compile(r"\A(?:\"[^\"]{20,}\"|“[^”]{20,}”)(?=[ \t]*\n)")
_REFUSAL = re.compile(
    r"\A\W*(?:(?:i['’]?m|i am)\s+(?:(?:really|very|so)\s+)?(?:sorry|afraid|unable|not able)\b"
    r"|sorry\b[,.]|unfortunately,?\s+i\b|i\s+(?:apologi[sz]e|can(?:['’]t|not)|won['’]t|must decline|do not feel)\b"
    r"|as an ai\b)",
    re.IGNORECASE,
)

_WORD = re.compile(r"[^\W\d_]+")
_WORD_OR_NUMBER = re.compile(r"[^\W_]+")
_ENDING = re.compile(r"(?:ing|ies|ed|es|s|y|e)\Z")
# What a prompt is about stands at its beginning.
_WORDS_COMPARED = 40
# Words that name no subject: grammar, and the words with which people ask for a picture.
_NOT_A_SUBJECT = frozenset(
    re.findall(
        r"\w+",
        """
        a an and are as at be by for from has have he her his i in into is it its me my near of on or our over she some
        that the their them they this to under up very was we were which while who with you your make create generate
        please show want draw image picture photo photograph photography portrait painting illustration drawing render
        rendering scene shot video clip animation prompt cinematic realistic photorealistic detailed highly high quality
        beautiful style artwork art masterpiece best
        """,
    )
)
# What stands behind them is where the subject is, or what it has.
_PREPOSITIONS = frozenset(("on", "in", "at", "under", "with", "near", "by", "over", "into", "from", "beside", "inside"))


def clean(text: str) -> str:
    """Only the prompt: without fences, preambles, labels, quotes around it, and words about it after it.

    Takes away and never adds; cleaning twice changes nothing.
    """
    while True:
        cleaned = _cleaned_once(text)
        if cleaned == text:
            return cleaned
        text = cleaned


def is_refusal(text: str) -> bool:
    """Whether the model speaks of itself, that it will not."""
    return _REFUSAL.match(text) is not None


def is_unchanged(original: str, text: str) -> bool:
    """Whether the text says nothing that the original did not: but for case, white space and punctuation."""
    return _bare(original).startswith(_bare(text))


def keeps_subject(original: str, text: str) -> bool:
    """Whether the user's own words are still there: the thing that is named before "on", "in", "with", … ("cat" in "a
    red cat on a roof"), or else one of the first two that name something; and a third of all.

    A cheap test that synonyms and translations fail. Words of scripts without spaces are not compared.
    """
    words = _words(original)
    wanted = [word for word in words if word not in _NOT_A_SUBJECT][:_WORDS_COMPARED]
    if not wanted:
        return True
    found = _words(text)
    kept = {word: any(other.startswith(_stem(word)) for other in found) for word in wanted}
    before = next((words[:place] for place, word in enumerate(words) if word in _PREPOSITIONS), [])
    named = [word for word in before if word in kept]
    is_named = kept[named[-1]] if named else any(kept[word] for word in wanted[:2])
    return is_named and sum(kept.values()) * 3 >= len(kept)


def _cleaned_once(text: str) -> str:
    text = _THOUGHT.sub("", text).strip()
    fenced = _FENCED.search(text)
    if fenced and fenced.group(1).strip():
        text = fenced.group(1).strip()
    text = _without_openings(text)
    text = text.replace("**", "").strip()
    for ending in (_RULE, _AFTERWORD, _FAREWELL):
        text = _cut_before(text, ending)
    quoted = _QUOTED_FIRST.match(text)
    if quoted:
        text = quoted.group()
    return _unquoted(text.strip("`").strip()).strip()


def _without_openings(text: str) -> str:
    """Without all that stands in front of the prompt, one piece after the other."""
    while True:
        found = next((found for opening in _OPENINGS if (found := opening.match(text))), None)
        if found is None:
            return text
        text = text[found.end() :].lstrip()


def _cut_before(text: str, ending: re.Pattern[str]) -> str:
    """The text up to the first such place; it stays where nothing stands before it."""
    found = ending.search(text)
    before = text[: found.start()].strip() if found else ""
    return before or text


def _unquoted(text: str) -> str:
    for opening, closing in _QUOTES:
        inner = text[1:-1]
        if len(text) > 1 and text[0] == opening and text[-1] == closing:
            if opening not in inner and closing not in inner:
                return inner
        # A quotation that was never closed, because the answer was cut off.
        elif opening in '"“«' and text.startswith(opening) and closing not in text[1:]:
            return text[1:]
    return text


def _bare(text: str) -> str:
    return " ".join(_WORD_OR_NUMBER.findall(unicodedata.normalize("NFKC", text).casefold()))


def _words(text: str) -> list[str]:
    """Words of the scripts that put spaces between them, distinct, in order."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return list(dict.fromkeys(word for word in words if len(word) > 1 and _is_spaced(word)))


def _is_spaced(word: str) -> bool:
    return all(ord(letter) < 0x0E00 or 0x1E00 <= ord(letter) < 0x2000 for letter in word)


def _stem(word: str) -> str:
    return _ENDING.sub("", word) if len(word) > 4 else word
