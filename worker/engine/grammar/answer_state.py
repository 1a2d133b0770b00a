"""What the process of a grammar says about the next tokens of an answer."""

from __future__ import annotations

from array import array
from enum import IntEnum
from typing import NamedTuple


class AnswerStatus(IntEnum):
    """Whether an answer continues."""

    CONTINUES = 0
    COMPLETE = 1
    FAILED = 2


class AnswerState(NamedTuple):
    """The allowed tokens at the next positions of an answer.

    The grammar leaves only one text for the `forced` positions, so few tokens are allowed there: each is a beginning of
    that text, and the first is the most likely. `status` is that of the answer after the first tokens. `rest` is the
    mask of allowed tokens if it continues, or the text of an error if it has failed.
    """

    forced: list[array[int]]
    status: AnswerStatus
    rest: bytes

    def to_bytes(self) -> bytes:
        """Return a message: 32 bits each for the length and the tokens of every forced position, 0, and the status."""
        numbers = array("i")
        for token_ids in self.forced:
            numbers.append(len(token_ids))
            numbers += token_ids
        numbers.extend([0, self.status])
        return numbers.tobytes() + self.rest

    @classmethod
    def from_bytes(cls, message: bytes) -> AnswerState:
        """Read a message."""
        numbers = memoryview(message)[: len(message) // _NUMBER * _NUMBER].cast("i")
        forced: list[array[int]] = []
        place = 0
        while length := numbers[place]:
            forced.append(array("i", numbers[place + 1 : place + 1 + length]))
            place += 1 + length
        return cls(forced, AnswerStatus(numbers[place + 1]), message[(place + 2) * _NUMBER :])


_NUMBER = array("i").itemsize
