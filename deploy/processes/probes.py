"""Probes that check whether the server's processes are ready."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from functools import cached_property, partial
from typing import TYPE_CHECKING

from deploy.processes.readiness import Probe
from deploy.processes.stack import Stack
from deploy.processes.welcome import base_url, reachable_host

if TYPE_CHECKING:
    from common.fleet import Fleet, WorkerReport

_TIMEOUT_S = 2.0


class Probes:
    """One probe each for Redis, the API and every worker. `pid` returns the process id of a child by its name."""

    def __init__(self, stack: Stack, pid: Callable[[str], int | None]) -> None:
        self._stack = stack
        self._pid = pid

    def all(self) -> dict[str, Probe]:
        """Return the probes by the name of the process that they check."""
        workers = {name: partial(self._worker, name) for name in self._stack.worker_names}
        return {"redis": self._redis, "api": self._api, **workers}

    @cached_property
    def _fleet(self) -> Fleet:
        """Created on first use, when the processes are already starting: importing the client delays none of them."""
        from common.fleet import Fleet
        from common.redis.client import connect

        return Fleet(connect(self._stack.redis_url, retries=0))

    def _redis(self) -> str | None:
        """Request a loaded model as well: a start loads it even if an earlier run had unloaded it."""
        from redis.exceptions import RedisError

        try:
            for base in self._stack.settings.lane_bases:
                self._fleet.of(base).require_model()
        except RedisError:
            return None
        return "answers"

    def _api(self) -> str | None:
        settings = self._stack.settings
        if not self._listens("api", settings.port):  # another server may answer at this address
            return None
        connection = http.client.HTTPConnection(reachable_host(settings.host), settings.port, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", "/healthz")
            is_up = connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        return f"answers at {base_url(settings)}" if is_up else None

    def _listens(self, name: str, port: int) -> bool:
        """Whether the child with that name listens on the port."""
        import psutil

        pid = self._pid(name)
        if pid is None:
            return False
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except psutil.Error:  # it has just ended
            return False
        return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)

    def _worker(self, name: str) -> str | None:
        report = self._report(name)
        if report is None:
            return None
        if report.holds_model:
            return f"has the model loaded on {report.device}"
        return None if report.error is None else f"cannot load the model: {report.error}"

    def _report(self, name: str) -> WorkerReport | None:
        """Return this worker's report: other workers, here or on other machines, may use the same Redis."""
        from redis.exceptions import RedisError

        try:
            reports = self._fleet.workers()
        except RedisError:
            return None
        mine = (socket.gethostname(), self._pid(name))
        return next((report for report in reports if (report.host, report.pid) == mine), None)
