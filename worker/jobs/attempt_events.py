"""Creates and numbers the events of one attempt, and remembers the answer that they contain."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from common.errors import SLMError
from common.jobs import events
from common.jobs.events import PLAIN, AnswerSyntax, Event, EventType
from common.jobs.job import JobState
from common.jobs.store import Claim, Fenced, JobStore
from worker.engine.sequence import SequenceOutput

GENERATING = "Generating response..."  # the status before an answer, which reports its syntax


class AttemptEvents:
    """The events of an attempt, and the answer so far. So the job's log is read only once.

    Only one thread uses it at a time: the pool thread until the sequence is submitted and again after the final output,
    the publisher in between.

    Attributes:
        token_ids: the answer's tokens so far.
        logprobs: their log probabilities, in wire form; None if they were not requested.
        syntax: what has been reported of the answer; None if that has not been announced.
    """

    def __init__(self, claim: Claim, store: JobStore) -> None:
        self.token_ids: list[int] = []
        self.logprobs: list[Any] | None = None
        self.syntax: AnswerSyntax | None = None
        self._job_id, self._attempt = claim.job.id, claim.attempt
        self._next_seq = claim.next_seq
        self._store = store
        self._texts: list[str] = []
        self._statuses: set[str] = set()

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._texts)

    @property
    def are_first(self) -> bool:
        """Whether the job has no events yet."""
        return self._next_seq == 0

    def resume(self, earlier: Iterable[Event]) -> None:
        """Continue after the events of earlier attempts."""
        for event in earlier:
            self._note(event)

    def announce(self, text: str, syntax: AnswerSyntax = PLAIN, prompt_ids: list[int] | None = None) -> None:
        """Publish a status event (`events.status`), unless an attempt has already published the same text.

        Raises:
            Fenced: another attempt owns the job.
        """
        if text not in self._statuses:
            self._emit(self.status(text, syntax, prompt_ids))

    def progress(self, line: str, facts: Mapping[str, Any]) -> None:
        """Publish the progress of a training run or an evaluation. Raises as `announce`."""
        self._emit(events.progress(self._take_seq(), line, time.time(), facts))

    def sample(self, facts: Mapping[str, Any]) -> None:
        """Publish what a model in training answers now. Raises as `announce`."""
        self._emit(events.sample(self._take_seq(), time.time(), facts))

    def checkpoint(self, step: int, *, is_best: bool) -> None:
        """Publish that the run can be continued from here. Raises as `announce`."""
        self._emit(events.checkpoint(self._take_seq(), time.time(), step, is_best=is_best))

    def _emit(self, event: Event) -> None:
        (next_seq,) = self._store.emit([(self._job_id, self._attempt, [event])])
        if next_seq < 0:
            raise Fenced(self._job_id)

    def status(self, text: str, syntax: AnswerSyntax = PLAIN, prompt_ids: list[int] | None = None) -> Event:
        """Return a status event, with a text for people."""
        return self._note(events.status(self._take_seq(), text, syntax, prompt_ids))

    def token(self, output: SequenceOutput, *, is_last: bool = False) -> Event:
        """Return the event of new tokens."""
        return self._note(
            events.token(self._take_seq(), output.text, output.token_ids, is_last=is_last, logprobs=output.logprobs)
        )

    def finished(self, state: JobState, finish_reason: str | None = None, device: str | None = None) -> Event:
        """Return the last event of a job that did not fail."""
        return events.finished(self._take_seq(), state, finish_reason, device)

    def error(self, err: SLMError) -> Event:
        """Return the last event of a job that failed."""
        return events.error(self._take_seq(), err)

    def _take_seq(self) -> int:
        """Return the next free event number."""
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def _note(self, event: Event) -> Event:
        if event.type is EventType.STATUS:
            self._statuses.add(event.data["status"])
            if event.data["status"] == GENERATING:
                self.syntax = AnswerSyntax.of(event.data) or PLAIN
        elif event.type is EventType.TOKEN:
            self.token_ids += event.data["ids"]
            self._texts.append(event.data["text"])
            if "logprobs" in event.data:
                self.logprobs = self.logprobs or []
                self.logprobs += event.data["logprobs"]
        return event
