"""The events of one attempt at a job: numbered and made here, and what they say is known from then on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from common.errors import SLMError
from common.jobs import events
from common.jobs.events import Event, EventType
from common.jobs.job import JobState
from common.jobs.store import Claim, Fenced, JobStore
from worker.engine.sequence import SequenceOutput


class AttemptEvents:
    """Makes the events of an attempt; a second source of what the job's log holds is not needed.

    At any time one thread uses it: the pool thread until the sequence is submitted and again after the final output,
    the publisher in between.

    Attributes:
        token_ids: of the answer so far.
        logprobs: of these tokens, in wire form; None if nobody asked for them.
    """

    def __init__(self, claim: Claim, store: JobStore) -> None:
        self.token_ids: list[int] = []
        self.logprobs: list[Any] | None = None
        self._job_id, self._attempt = claim.job.id, claim.attempt
        self._next_seq = claim.next_seq
        self._store = store
        self._texts: list[str] = []
        self._statuses: set[str] = set()

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._texts)

    def resume(self, earlier: Iterable[Event]) -> None:
        """Go on after what earlier attempts have written."""
        for event in earlier:
            self._note(event)

    def announce(self, line: str) -> None:
        """Tell the client what goes on, now, unless an attempt has said it before.

        Raises:
            Fenced: another attempt owns the job.
        """
        if line in self._statuses:
            return
        (answer,) = self._store.emit([(self._job_id, self._attempt, [self.status(line)])])
        if answer < 0:
            raise Fenced(self._job_id)

    def status(self, line: str) -> Event:
        """A line for people about what goes on."""
        return self._note(events.status(self._take_seq(), line))

    def token(self, output: SequenceOutput, *, is_last: bool = False) -> Event:
        """What the engine has added to the answer."""
        return self._note(
            events.token(self._take_seq(), output.text, output.token_ids, is_last=is_last, logprobs=output.logprobs)
        )

    def finished(self, state: JobState, finish_reason: str | None = None, device: str | None = None) -> Event:
        """The end of a job that did not fail."""
        return events.finished(self._take_seq(), state, finish_reason, device)

    def error(self, err: SLMError) -> Event:
        """The end of a job that failed."""
        return events.error(self._take_seq(), err)

    def _take_seq(self) -> int:
        """The next free event number."""
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def _note(self, event: Event) -> Event:
        if event.type is EventType.STATUS:
            self._statuses.add(event.data["status"])
        elif event.type is EventType.TOKEN:
            self.token_ids += event.data["ids"]
            self._texts.append(event.data["text"])
            if "logprobs" in event.data:
                self.logprobs = self.logprobs or []
                self.logprobs += event.data["logprobs"]
        return event
