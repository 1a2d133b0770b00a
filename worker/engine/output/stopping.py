"""Decides when a sequence ends: end tokens, stop strings, lengths."""

from __future__ import annotations

from dataclasses import dataclass

from worker.engine.sequence import FinishReason, Sequence


def end_token_ids(sequence: Sequence) -> frozenset[int]:
    """Return the tokens that end the sequence's answer.

    With a constraint `ignore_eos` has no effect, because an answer that the constraint ends is complete.
    """
    ignores_eos = sequence.params.ignore_eos and sequence.constraint is None
    return frozenset(sequence.params.stop_token_ids) | (frozenset() if ignores_eos else sequence.eos_token_ids)


@dataclass(frozen=True, slots=True)
class StopCriteria:
    """The stop rules of a model's sequences."""

    context_length: int

    def is_end(self, sequence: Sequence, token_id: int) -> bool:
        """Return whether the token ends the answer; its text is never shown."""
        return token_id in end_token_ids(sequence)

    def is_full(self, sequence: Sequence, *, num_more: int = 0) -> bool:
        """Return whether the sequence is full after `num_more` more tokens; without new tokens, after its prompt."""
        return (
            sequence.num_output_tokens + num_more >= max(1, sequence.params.max_new_tokens)
            or sequence.num_tokens + num_more >= self.context_length
        )

    def check(self, sequence: Sequence) -> FinishReason | None:
        """Return why the sequence ends with its newest token, apart from stop strings; None if it continues."""
        if sequence.output_ids and self.is_end(sequence, sequence.output_ids[-1]):
            return FinishReason.STOP
        if sequence.constraint is not None and sequence.constraint.is_complete:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.is_full(sequence) else None


class StopStringMatcher:
    """Finds the first stop string in a text that arrives in pieces, in constant time per character.

    The result does not depend on how the text is split into pieces: it is the stop string that is completed first, and
    the longest one if several are completed by the same character.
    """

    def __init__(self, stop_strings: tuple[str, ...]) -> None:
        self._automata = [_Automaton(stop) for stop in stop_strings if stop]
        self.found: str | None = None  # the stop string that was completed

    @property
    def num_held(self) -> int:
        """Length of the longest suffix of the text so far that may be the beginning of a stop string."""
        return max((automaton.num_matched for automaton in self._automata), default=0)

    def feed(self, text: str) -> int | None:
        """Read the next piece.

        Returns:
            The index where the stop string begins, relative to this piece (negative: in an earlier piece), or None.
            After a match the matcher must not be used again.
        """
        if not self._automata:
            return None
        for index, char in enumerate(text):
            completed = [automaton.stop for automaton in self._automata if automaton.advance(char)]
            if completed:
                self.found = max(completed, key=len)
                return index + 1 - len(self.found)
        return None


class _Automaton:
    """Knuth-Morris-Pratt: tracks the longest prefix of one stop string that the text ends with."""

    def __init__(self, stop: str) -> None:
        self.stop = stop
        self.num_matched = 0
        self._fallback = _borders(stop)

    def advance(self, char: str) -> bool:
        """Read one character; return whether it completes the stop string."""
        matched = self.num_matched
        while matched and self.stop[matched] != char:
            matched = self._fallback[matched - 1]
        self.num_matched = matched + (self.stop[matched] == char)
        return self.num_matched == len(self.stop)


def _borders(text: str) -> list[int]:
    """Return, for every prefix of the text, the length of its longest proper prefix that is also its suffix."""
    borders = [0] * len(text)
    length = 0
    for index in range(1, len(text)):
        while length and text[index] != text[length]:
            length = borders[length - 1]
        length += text[index] == text[length]
        borders[index] = length
    return borders
