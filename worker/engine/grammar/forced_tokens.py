"""Follows an answer as far as its grammar leaves only one text."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence

from llguidance import LLTokenizer

from common.errors import InvalidRequest
from worker.engine.grammar.answer_state import AnswerState, AnswerStatus
from worker.engine.grammar.llguidance_grammar import GrammarState

MAX_ALLOWED = 32  # tokens; the longest one has so many beginnings at most
MAX_AHEAD, AHEAD_S = 16, 0.002  # forced tokens that are computed at once, and for how long; a token takes 20 us
MAX_SPLITS = 4096  # choices of the model that are remembered


class ForcedTokens:
    """Finds positions at which a grammar leaves only one text, whose beginnings are the allowed tokens.

    The model decides into which tokens the text is split. It mostly does so in the same way each time, and at first
    takes the longest token, as its tokenizer does.
    """

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self._tokenizer = tokenizer
        self._end_ids = frozenset(tokenizer.eos_tokens)
        self._splits: dict[tuple[int, ...], int] = {}  # allowed tokens -> the one that the model has taken

    def of(self, mask: bytes) -> array[int]:
        """Return the allowed tokens, the most likely first, if each is a beginning of the longest; else none."""
        bits = int.from_bytes(mask, "little")
        if bits.bit_count() > MAX_ALLOWED:
            return array("i")
        allowed = _positions(bits)
        texts = {token_id: self._tokenizer.decode_bytes([token_id]) for token_id in allowed}
        longest = max(allowed, key=lambda token_id: len(texts[token_id]), default=-1)
        if not self._end_ids.isdisjoint(allowed) or not all(texts[longest].startswith(texts[one]) for one in allowed):
            return array("i")
        likely = self._splits.get(tuple(allowed), longest)
        return array("i", sorted(allowed, key=lambda token_id: token_id != likely))

    def note(self, allowed: Sequence[int], taken: int) -> None:
        """Remember which of the allowed tokens the model has taken."""
        if len(self._splits) >= MAX_SPLITS:
            self._splits.clear()
        self._splits[tuple(sorted(allowed))] = taken


class FollowedAnswer:
    """An answer with the forced tokens that come after it."""

    def __init__(self, state: GrammarState, forced_tokens: ForcedTokens) -> None:
        self._state = state
        self._forced_tokens = forced_tokens
        self._forced: list[array[int]] = []

    def append(self, token_ids: Sequence[int]) -> AnswerState:
        """Append tokens; return the new state."""
        for allowed, taken in zip(self._forced, token_ids, strict=False):
            self._forced_tokens.note(allowed, taken)
            if allowed[0] != taken:
                break
        self._forced = []
        try:
            self._state.advance(token_ids)
            return self._look_ahead()
        except InvalidRequest as err:
            return AnswerState(self._forced, AnswerStatus.FAILED, err.message.encode())

    def _look_ahead(self) -> AnswerState:
        deadline = time.thread_time() + AHEAD_S
        while not self._state.is_complete:
            mask = self._state.allowed()
            may_look_ahead = len(self._forced) < MAX_AHEAD and time.thread_time() < deadline
            if not may_look_ahead or not (allowed := self._forced_tokens.of(mask)):
                return AnswerState(self._forced, AnswerStatus.CONTINUES, mask)
            self._forced.append(allowed)
            self._state.look_ahead(allowed[0])
        return AnswerState(self._forced, AnswerStatus.COMPLETE, b"")


def _positions(bits: int) -> list[int]:
    """Return the positions of the bits that are set, ascending."""
    positions: list[int] = []
    while bits:
        lowest = bits & -bits
        positions.append(lowest.bit_length() - 1)
        bits ^= lowest
    return positions
