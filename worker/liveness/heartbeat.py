"""The worker's pulse: it says that it lives, renews its leases, and looks after jobs of workers that do not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from redis.exceptions import RedisError

from common.fleet import Fleet, WorkerReport
from common.jobs.store import JobStore
from common.queue import QUEUE
from common.redis.outage import Outage
from worker.jobs.active import ActiveJob, ActiveJobs
from worker.liveness.watchdog import Watchdog
from worker.observation.metrics import MetricsReporter

BEATS_PER_LEASE = 4  # three may be late before a lease runs out

log = logging.getLogger(__name__)


class Heartbeat:
    """Beats every `lease_s / BEATS_PER_LEASE` seconds on a thread of its own.

    Args:
        report: the worker's account of itself, at the time of the call.
        on_lost: called with a held job that another attempt owns by now.
        on_cancel: called with a held job whose end was asked for (again at each beat, until it ends).
        watchdog: looked at with every beat.
        metrics: asked with every beat to report.
        outage: notes what Redis does not let happen; the next beat tries it again.
    """

    def __init__(
        self,
        store: JobStore,
        fleet: Fleet,
        jobs: ActiveJobs,
        *,
        lease_s: float,
        report: Callable[[], WorkerReport],
        on_lost: Callable[[ActiveJob], None],
        on_cancel: Callable[[ActiveJob], None],
        watchdog: Watchdog,
        metrics: MetricsReporter,
        outage: Outage,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._jobs = jobs
        self._lease_s = lease_s
        self._report = report
        self._on_lost = on_lost
        self._on_cancel = on_cancel
        self._outage = outage
        self._duties: dict[str, Callable[[], object]] = {
            "heartbeat not sent": self._beat,
            "leases not renewed": self._renew,
            "dead workers' jobs not looked for": lambda: store.reap(QUEUE),
            "queue not watched": watchdog.check,
            "metrics not reported": metrics.report,
        }
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slm-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, and take the worker off the list of the living."""
        self._stopping.set()
        self._thread.join()
        try:
            self._fleet.leave(self._report().id)
        except RedisError as err:
            log.warning("the worker's entry is left to expire: %s", err)

    def publish(self) -> None:
        """Send the report now; if Redis does not take it, the next beat sends another."""
        self._outage.attempt("heartbeat not sent", self._beat)

    def _run(self) -> None:
        while not self._stopping.wait(self._lease_s / BEATS_PER_LEASE):
            for what, duty in self._duties.items():
                self._outage.attempt(what, duty)

    def _beat(self) -> None:
        self._fleet.beat(self._report(), ttl_s=self._lease_s)

    def _renew(self) -> None:
        held = self._jobs.all()
        if not held:
            return
        lost, cancelled = self._store.renew([(job.id, job.attempt) for job in held], lease_s=self._lease_s)
        for job in held:
            if (job.id, job.attempt) in lost:
                self._on_lost(job)
            elif job.id in cancelled:
                self._on_cancel(job)
