"""Computes the pauses between polls of a job."""

from __future__ import annotations

import math
import time

from slm_client.job import Job

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0


class Patience:
    """The pauses while waiting for one job: short at first, then growing. `timeout_s` None waits forever."""

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        self._pause_s = FIRST_PAUSE_S

    def pause_s(self, job: Job) -> float:
        """Return the seconds to wait before the next poll.

        Raises:
            TimeoutError: the job has not ended within `timeout_s`.
        """
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"Job {job.id} is still {job.status} after {self._timeout_s} s.")
        pause_s = min(self._pause_s, left_s)
        self._pause_s = min(LONGEST_PAUSE_S, 1.5 * self._pause_s)
        return pause_s
