"""How many tokens CLIP makes of a prompt, estimated, and a prompt cut to fit; pure."""

from __future__ import annotations

import re
from bisect import bisect_right

# CLIP's own first step: runs of letters, single digits, runs of anything else.
_PIECE = re.compile(r"[^\W\d_]+|\d|(?:[^\w\s]|_)+")
# Its vocabulary has most common words whole; of longer ones about so many letters make a token.
_LETTERS_PER_TOKEN = 8
# Other scripts are read byte by byte, with some common pairs.
_BYTES_PER_TOKEN = 2
_OPENING, _CLOSING = "([{<", ")]}>"
# The end of a clause, not the point of a number; East Asian marks need no space after them.
_CLAUSE_END = re.compile(r"[,;.!?]+(?=\s|\Z)|[，。、；！？]")  # noqa: RUF001


def estimate(text: str) -> int:
    """CLIP tokens of a text without the two marks; an estimate that errs to the high side, about 1.3 per word."""
    return sum(_tokens(piece.group()) for piece in _PIECE.finditer(text))


def fit(text: str, limit: int) -> str:
    """The beginning of the text that has at most `limit` tokens (at least 2).

    It ends at a comma or a sentence's end outside of brackets; where that would lose half of the room, after a word.
    """
    used, clause_end, word_end, depth = 0, 0, 0, 0
    for piece in _PIECE.finditer(text):
        written = piece.group()
        # A line is a clause too.
        if depth <= 0 and used * 2 >= limit and "\n" in text[word_end : piece.start()]:
            clause_end = word_end
        used += _tokens(written)
        if used > limit:
            end = clause_end or word_end
            return text[:end].rstrip().rstrip(",;").rstrip() if end else _fit_word(text, piece.start(), limit)
        depth += sum(written.count(mark) for mark in _OPENING) - sum(written.count(mark) for mark in _CLOSING)
        word_end = piece.end()
        if depth <= 0 and used * 2 >= limit and _CLAUSE_END.match(text, piece.end() - 1):
            clause_end = piece.end()
    return text


def _fit_word(text: str, start: int, limit: int) -> str:
    """Not even the first word fits: as much of it as does."""
    word = text[start:]
    most = bisect_right(range(1, len(word) + 1), limit, key=lambda chars: estimate(word[:chars]))
    return text[: start + max(most, 1)].rstrip()


def _tokens(piece: str) -> int:
    if piece.isascii():
        return -(-len(piece) // _LETTERS_PER_TOKEN)
    return -(-len(piece.encode(errors="replace")) // _BYTES_PER_TOKEN)
