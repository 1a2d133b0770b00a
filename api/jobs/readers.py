"""Reports to Redis which jobs this process's clients read; a job that nobody reads is cancelled after a grace period.

There may be thousands of clients. One thread reports for all of them, once per job and third of the grace period.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping

from redis.exceptions import RedisError

ROUNDS_PER_GRACE = 3  # one round may fail, and the next is still in time
RETRY_S = 1.0

log = logging.getLogger(__name__)


class Reading:
    """One client's reading of one job."""

    def __init__(self, readers: Readers, job_id: str) -> None:
        self.job_id = job_id
        self.has_left = False
        self._readers = readers

    def leave(self, *, is_over: bool) -> None:
        """End the reading; the grace period begins unless the job `is_over`. May be called twice, from any thread."""
        self._readers.forget(self, is_over=is_over)


class Readers:
    """Reports the readers of this process, on a thread that runs while there are any.

    Args:
        note: records in Redis for each job whether somebody reads it, or its last reader has just left; may raise
            `redis.exceptions.RedisError`.
        grace_s: how long such a record is valid.
    """

    def __init__(self, note: Callable[[Mapping[str, bool]], None], grace_s: float) -> None:
        self._note = note
        self._round_s = grace_s / ROUNDS_PER_GRACE
        self._changed = threading.Condition()
        self._present: Counter[str] = Counter()
        self._due: dict[str, bool] = {}  # jobs to report now: whether somebody reads them
        self._reported_at: dict[str, float] = {}  # monotonic time of each job's last report as read, within a round
        self._next_round = 0.0
        self._is_running = False

    def enter(self, job_id: str, *, is_known: bool = False) -> Reading:
        """Begin a reading; `is_known`: the job was submitted with this reader."""
        with self._changed:
            if is_known:
                self._reported_at[job_id] = time.monotonic()
            self._present[job_id] += 1
            self._report(job_id)
        return Reading(self, job_id)

    def touch(self, job_id: str) -> None:
        """Report a client that polls the job."""
        with self._changed:
            self._report(job_id)

    def forget(self, reading: Reading, *, is_over: bool) -> None:
        """End a reading; see `Reading.leave`."""
        job_id = reading.job_id
        with self._changed:
            if reading.has_left:
                return
            reading.has_left = True
            self._present[job_id] -= 1
            if self._present[job_id] == 0:
                del self._present[job_id]
                self._reported_at.pop(job_id, None)
                if not is_over:
                    self._due[job_id] = False
                    self._wake()
                self._changed.notify()

    def _report(self, job_id: str) -> None:
        """Report that somebody reads the job, unless that was done within this round."""
        if time.monotonic() - self._reported_at.get(job_id, -self._round_s) >= self._round_s:
            self._due[job_id] = True
        self._wake()

    def _wake(self) -> None:
        self._changed.notify()
        if not self._is_running:
            self._is_running = True
            self._next_round = time.monotonic() + self._round_s
            threading.Thread(target=self._run, name="slm-readers", daemon=True).start()

    def _run(self) -> None:
        while due := self._take_due():
            try:
                self._note(due)
            except RedisError as err:
                log.warning("readers of %d jobs could not be reported (%s); trying again", len(due), err)
                time.sleep(RETRY_S)
                with self._changed:
                    self._due = due | self._due

    def _take_due(self) -> dict[str, bool]:
        """Wait for jobs to report, and return them; empty if there are no readers any more, which ends the thread."""
        with self._changed:
            while not self._due and self._present:
                now = time.monotonic()
                if now >= self._next_round:
                    self._next_round = now + self._round_s
                    self._due.update(dict.fromkeys(self._present, True))
                else:
                    self._changed.wait(self._next_round - now)
            due, self._due = self._due, {}
            self._is_running = bool(due)
            self._note_reported(due)
            return due

    def _note_reported(self, due: Mapping[str, bool]) -> None:
        now = time.monotonic()
        self._reported_at = {job_id: at for job_id, at in self._reported_at.items() if now - at < self._round_s}
        self._reported_at.update({job_id: now for job_id, is_read in due.items() if is_read})
