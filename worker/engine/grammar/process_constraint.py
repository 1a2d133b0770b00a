"""The engine's client of a process that follows a grammar."""

from __future__ import annotations

import time
from array import array
from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from common.errors import InvalidRequest
from worker.engine.grammar.answer_state import AnswerState, AnswerStatus
from worker.engine.kv_cache.prefix_tree import common_length
from worker.helper.client import Child


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
        self._state = AnswerState([], AnswerStatus.CONTINUES, b"")  # its `forced` loses each token that has come
        self._unsent: list[int] = []  # forced tokens that have come

    def advance(self, token_ids: Sequence[int]) -> None:
        """As `TokenConstraint.advance`. The process is not asked about tokens that it has foreseen."""
        num_foreseen = common_length(self.draft_tokens(len(token_ids)), token_ids)
        self._unsent += token_ids[:num_foreseen]
        del self._state.forced[:num_foreseen]
        if num_foreseen < len(token_ids):
            self._ask(token_ids[num_foreseen:])

    def _ask(self, token_ids: Sequence[int]) -> None:
        self._asked_at = time.monotonic()
        self._num_awaited += 1
        self._state.forced.clear()
        unsent, self._unsent = self._unsent, []
        try:
            self._link.send_bytes(array("i", [*unsent, *token_ids]))
        except OSError:  # it has died; `is_known` will report it
            return

    def is_known(self, timeout_s: float) -> bool:
        """As `TokenConstraint.is_known`. Lowers the priority of a process that takes long."""
        while self._num_awaited:
            try:
                if not self._link.poll(timeout_s):
                    self._child.watch(self._asked_at)
                    return False
                self._state = AnswerState.from_bytes(self._link.recv_bytes())
                self._num_awaited -= 1
            except (EOFError, OSError):
                raise self._failure("it takes too long, or needs too much memory, to follow") from None
            if self._status is AnswerStatus.FAILED:
                raise InvalidRequest(self._state.rest.decode(), param=self._field)
        return True

    @property
    def _status(self) -> AnswerStatus:
        return AnswerStatus.CONTINUES if self._state.forced else self._state.status

    @property
    def is_complete(self) -> bool:
        """As `TokenConstraint.is_complete`."""
        return self._status is AnswerStatus.COMPLETE

    def draft_tokens(self, count: int) -> list[int]:
        """As `TokenConstraint.draft_tokens`."""
        forced = self._state.forced
        num_usable = len(forced) if self._state.status is AnswerStatus.CONTINUES else len(forced) - 1
        return [token_ids[0] for token_ids in forced[: max(0, min(count, num_usable))]]

    def allowed(self, mask: NDArray[np.int32], num_drafts: int = 0) -> None:
        """As `TokenConstraint.allowed`."""
        forced = self._state.forced
        if num_drafts == len(forced):
            mask[:] = np.frombuffer(self._state.rest, dtype=np.int32, count=len(mask))  # the library appends a word
        for token_id in forced[num_drafts] if num_drafts < len(forced) else ():
            mask[token_id // 32] |= np.uint32(1 << token_id % 32).astype(np.int32)

    def close(self) -> None:
        """As `TokenConstraint.close`."""
        self._link.close()

    def _failure(self, reason: str) -> InvalidRequest:
        return InvalidRequest(f"{self._field} cannot be used: {reason}", param=self._field)
