"""The engine's client of a process that follows a grammar."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

import numpy as np

from common.errors import InvalidRequest
from worker.engine.grammar.process import AnswerStatus
from worker.helper.client import Child

if TYPE_CHECKING:
    from torch import Tensor


class GrammarConstraint:
    """A `TokenConstraint`: the state of a grammar after the tokens of one answer.

    Args:
        child: the process that holds the grammar.
        link: this answer's pipe to it.
        field: the grammar's field in the request.
    """

    def __init__(self, child: Child, link: Connection, field: str) -> None:
        self._child = child
        self._link = link
        self._field = field
        self._asked_at = time.monotonic()
        self._num_awaited = 1  # the process sends the initial state without being asked
        self._status = AnswerStatus.CONTINUES
        self._mask = b""

    def advance(self, token_ids: Sequence[int]) -> None:
        """As `TokenConstraint.advance`."""
        self._asked_at = time.monotonic()
        self._num_awaited += 1
        try:
            self._link.send_bytes(array("i", token_ids))
        except OSError:  # it has died; `is_known` will report it
            return

    def is_known(self, timeout_s: float) -> bool:
        """As `TokenConstraint.is_known`. Lowers the priority of a process that takes long."""
        while self._num_awaited:
            try:
                if not self._link.poll(timeout_s):
                    self._child.watch(self._asked_at)
                    return False
                self._note(self._link.recv_bytes())
            except (EOFError, OSError):
                raise self._failure("it takes too long, or needs too much memory, to follow") from None
        return True

    def _note(self, state: bytes) -> None:
        if state[0] == AnswerStatus.FAILED:
            raise InvalidRequest(state[1:].decode(), param=self._field)
        self._status, self._mask = AnswerStatus(state[0]), state[1:]
        self._num_awaited -= 1

    @property
    def is_complete(self) -> bool:
        """As `TokenConstraint.is_complete`."""
        return self._status is AnswerStatus.COMPLETE

    def allowed(self, mask: Tensor) -> None:
        """As `TokenConstraint.allowed`."""
        mask.numpy()[:] = np.frombuffer(self._mask, dtype=np.int32, count=len(mask))  # the library appends a word

    def close(self) -> None:
        """As `TokenConstraint.close`."""
        self._link.close()

    def _failure(self, reason: str) -> InvalidRequest:
        return InvalidRequest(f"{self._field} cannot be used: {reason}", param=self._field)
