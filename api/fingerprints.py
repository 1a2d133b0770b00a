"""Computes OpenAI's `system_fingerprint`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from hashlib import sha256

from common.fleet import WorkerReport
from common.jobs.job import JobRecord

CACHE_S = 2.0  # how old the workers' reports may be


class Fingerprints:
    """Computes a hash of everything that affects a job's answer: while it is unchanged, so is the answer to a seed.

    May raise `redis.exceptions.RedisError`.

    Args:
        workers: returns the reports of the live workers. It is not called for each request.
        clock: returns seconds.
    """

    def __init__(
        self, workers: Callable[[], Sequence[WorkerReport]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._workers = workers
        self._clock = clock
        self._lock = threading.Lock()
        self._reports: Sequence[WorkerReport] = ()
        self._stale_at = float("-inf")

    def of(self, record: JobRecord) -> str:
        """Return the fingerprint of a job's model on the workers of its base."""
        found = next((one for one in self._speaking() if _serves(one, record.base)), None)
        setup = (None, None, None) if found is None else (found.base_id, found.dtype, found.device)
        text = "\n".join(map(str, (record.base, record.adapter_id, *setup)))
        return f"fp_{sha256(text.encode()).hexdigest()[:12]}"

    def _speaking(self) -> Sequence[WorkerReport]:
        """Return the reports, those of workers that have loaded the model first."""
        with self._lock:  # one thread reads them for all that wait
            if self._clock() >= self._stale_at:
                self._reports = sorted(self._workers(), key=lambda one: not one.holds_model)
                self._stale_at = self._clock() + CACHE_S
            return self._reports


def _serves(worker: WorkerReport, base: str) -> bool:
    return worker.base_model is not None and base in ("", worker.base_name)
