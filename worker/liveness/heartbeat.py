"""Reports that the worker is alive, renews its leases, and runs the reaper."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from redis.exceptions import RedisError

from common.fleet import Fleet, WorkerReport
from common.jobs.store import JobStore
from common.redis.outage import Outage
from worker.jobs.active import ActiveJob, ActiveJobs
from worker.liveness.watchdog import Watchdog
from worker.observation.metrics import MetricsReporter

_BEATING = "heartbeat not sent"
BEATS_PER_LEASE = 4  # three beats may fail before a lease expires

log = logging.getLogger(__name__)


class Heartbeat:
    """Beats every `lease_s / BEATS_PER_LEASE` seconds on its own thread.

    Args:
        report: returns the worker's current report.
        on_fenced: called with an active job that another attempt owns now.
        on_cancel: called with an active job that is to be cancelled (again at each beat, until it ends).
        watchdog: checked at every beat.
        metrics: reports at every beat.
        others: more duties at every beat, by what to say if Redis fails them.
        outage: notes failures of Redis; the next beat tries again.
    """

    def __init__(
        self,
        store: JobStore,
        fleet: Fleet,
        jobs: ActiveJobs,
        *,
        lease_s: float,
        report: Callable[[], WorkerReport],
        on_fenced: Callable[[ActiveJob], None],
        on_cancel: Callable[[ActiveJob], None],
        watchdog: Watchdog,
        metrics: MetricsReporter,
        others: Mapping[str, Callable[[], object]] = MappingProxyType({}),
        outage: Outage,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._jobs = jobs
        self._lease_s = lease_s
        self._report = report
        self._on_fenced = on_fenced
        self._on_cancel = on_cancel
        self._outage = outage
        self._duties: dict[str, Callable[[], object]] = {
            _BEATING: self._beat,
            "leases not renewed": self._renew,
            "dead workers' jobs not looked for": store.reap,
            "queue not watched": watchdog.check,
            "metrics not reported": metrics.report,
            **others,
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
            self._fleet.leave(self._report().id)
        except RedisError as err:
            log.warning("the worker's entry was not removed, and will expire: %s", err)

    def publish(self) -> None:
        """Send the report now; if that fails, the next beat sends another."""
        self._outage.attempt(_BEATING, self._beat)

    def _run(self) -> None:
        while not self._stopping.wait(self._lease_s / BEATS_PER_LEASE):
            for what, duty in self._duties.items():
                self._outage.attempt(what, duty)

    def _beat(self) -> None:
        self._fleet.beat(self._report(), ttl_s=self._lease_s)

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
