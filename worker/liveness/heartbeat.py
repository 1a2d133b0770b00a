"""Reports that a process is alive, renews the leases of its jobs, and does what else must be done regularly."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from redis.exceptions import RedisError

from common.jobs.store import JobStore
from common.redis.outage import Outage
from worker.jobs.active import ActiveJob, ActiveJobs

_BEATING = "heartbeat not sent"
BEATS_PER_LEASE = 4  # three beats may fail before a lease expires
REAPS_PER_LEASE = 16  # at most, by all workers together

log = logging.getLogger(__name__)


class Heartbeat:
    """Beats every `lease_s / BEATS_PER_LEASE` seconds on its own thread.

    Args:
        beat: reports that the process is alive.
        leave: removes its report.
        on_fenced: called with an active job that another attempt owns now.
        on_cancel: called with an active job that is to be cancelled (again at each beat, until it ends).
        duties: what else is done at every beat, by what is wrong if it fails.
        outage: notes failures of Redis; the next beat tries again.
    """

    def __init__(
        self,
        store: JobStore,
        jobs: ActiveJobs,
        *,
        lease_s: float,
        beat: Callable[[], object],
        leave: Callable[[], object],
        on_fenced: Callable[[ActiveJob], None],
        on_cancel: Callable[[ActiveJob], None],
        duties: Mapping[str, Callable[[], object]],
        outage: Outage,
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._lease_s = lease_s
        self._beat, self._leave = beat, leave
        self._on_fenced = on_fenced
        self._on_cancel = on_cancel
        self._outage = outage
        self._duties: dict[str, Callable[[], object]] = {
            _BEATING: self._beat,
            "leases not renewed": self._renew,
            "dead workers' jobs not looked for": lambda: store.reap(lease_s / REAPS_PER_LEASE),
            **duties,
        }
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slm-heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and remove the worker from the list of live workers."""
        self._stopping.set()
        self._thread.join()
        try:
            self._leave()
        except RedisError as err:
            log.warning("the worker's entry was not removed, and will expire: %s", err)

    def publish(self) -> None:
        """Send the report now; if that fails, the next beat sends another."""
        self._outage.attempt(_BEATING, self._beat)

    def _run(self) -> None:
        while not self._stopping.wait(self._lease_s / BEATS_PER_LEASE):
            for what, duty in self._duties.items():
                self._outage.attempt(what, duty)

    def _renew(self) -> None:
        jobs = self._jobs.all()
        if not jobs:
            return
        fenced, cancelled = self._store.renew([(job.id, job.attempt) for job in jobs], lease_s=self._lease_s)
        for job in jobs:
            if (job.id, job.attempt) in fenced:
                self._on_fenced(job)
            elif job.id in cancelled:
                self._on_cancel(job)
