"""Finds the positions of an answer's tokens in its text."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from api.openai.logprobs import ScoredTokens, scored_tokens

REPLACEMENT = "\ufffd"
MAX_GAP = 16  # characters of the text that may belong to no token, because the tokenizer normalized them


class TextOffsets:
    """Follows the tokens and the text of an answer as they arrive, and finds where each token begins.

    The text is not always that of the tokens one after another: it lacks special tokens, and maybe the space of its
    first token; bytes that are not UTF-8 become any number of U+FFFD; a character can have several tokens; and text
    that might begin a stop string arrives later than its tokens. So the tokens are looked up in the text.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._begin = 0  # of `_text` in the answer
        self._text = ""
        self._late: list[str] = []  # the tokens from `_begin` on, the text of which has not arrived in full

    def take(self, wire: Sequence[Any], text: str) -> ScoredTokens:
        """Convert the next tokens, in the wire form of events, and the next text."""
        self._text += text
        tokens = scored_tokens(wire)
        pieces = [*self._late, *(self._decoder.decode(one.chosen.token) for one in tokens)]
        begins = self._positions(pieces)
        offsets = [self._begin + begin for begin in begins[len(self._late) : -1]]
        self._keep_late(pieces, begins)
        return ScoredTokens(tokens, offsets)

    def _positions(self, pieces: Sequence[str]) -> list[int]:
        """Return where each token begins in `_text`, and where the last one ends."""
        begins = [0]
        for piece in pieces:
            begins.append(begins[-1] + _length(piece, self._text, begins[-1]))
        return begins

    def _keep_late(self, pieces: list[str], begins: Sequence[int]) -> None:
        late = (index for index, piece in enumerate(pieces) if piece and begins[index] + len(piece) > len(self._text))
        first = next(late, len(pieces))
        self._late = pieces[first:]
        self._begin += begins[first]
        self._text = self._text[begins[first] :]


def in_whole_text(wire: Sequence[Any], text: str) -> ScoredTokens:
    """Convert all tokens of an answer; those that are not in its text begin at its end."""
    scored = TextOffsets().take(wire, text)
    return ScoredTokens(scored.tokens, [min(offset, len(text)) for offset in scored.offsets])


def _length(piece: str, text: str, begin: int) -> int:
    """Return how many characters of the text are the token's; the end of the text may be missing."""
    for part in (piece, piece.removeprefix(" ")):
        if part.startswith(text[begin : begin + len(part)]):
            return len(part)
    valid = piece.lstrip(REPLACEMENT)
    found = text.find(valid, begin, begin + MAX_GAP + len(valid))
    return 0 if found < 0 else found + len(valid) - begin
