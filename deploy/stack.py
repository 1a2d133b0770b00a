"""What the server on one machine consists of: Redis, the API, N workers. The containers run the same commands."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.settings import ROOT, Settings
from deploy.redis_server import EmbeddedRedis
from deploy.supervisor import ChildSpec

# Modules with their arguments, run as `python -m ...` in the project's folder.
API = ("gunicorn", "--config", "api/gunicorn_conf.py", "api.wsgi:create_app()")
MODEL = ("SLMInit.base_model",)

GRACE_MARGIN_S = 5.0  # on top of SLM_DRAIN_S and SLM_LEASE_S, which is how long handing over may take
REDIS_GRACE_S = 15.0  # to write its log out

# The API and the workers stop together: it takes no new work at once, and relays what they still generate.
_SERVER_STOPS, _REDIS_STOPS = range(2)


def worker(number: int, log_level: str = "INFO") -> tuple[str, ...]:
    """The module and arguments of a worker; `number` tells the workers of one host apart, from 1."""
    # Mingling and gossip serve revokes and chords, which are not used; they would delay the first job by a second.
    alone = ("--without-mingle", "--without-gossip")
    return ("celery", "-A", "worker.app", "worker", "--hostname", f"slm{number}@%h", *alone, "--loglevel", log_level)


def flower(redis_url: str) -> tuple[str, ...]:
    """The module and arguments of Flower, for this machine alone: it has no password."""
    return ("celery", f"--broker={redis_url}", "flower", "--address=127.0.0.1")


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that is decided before the first process starts.

    `redis` is None where SLM_REDIS_URL names a server that is not ours. `lock` is the descriptor of the data folder's
    lock. `settings` has absolute paths.
    """

    settings: Settings
    workers: int
    redis: EmbeddedRedis | None
    lock: int

    @property
    def redis_url(self) -> str:
        """Where the processes find Redis."""
        return self.settings.redis_url if self.redis is None else self.redis.url

    @property
    def logs(self) -> Path:
        """Folder of the processes' log files."""
        return self.settings.data_dir / "logs"

    @property
    def worker_names(self) -> list[str]:
        """The names of the worker processes."""
        return [f"worker-{number}" for number in range(1, self.workers + 1)]

    def children(self) -> list[ChildSpec]:
        """The processes in the order in which they start. Redis stops last."""
        drain_s = self.settings.drain_s + self.settings.lease_s + GRACE_MARGIN_S
        redis = [] if self.redis is None else [self._child("redis", self.redis.command(), _REDIS_STOPS, REDIS_GRACE_S)]
        return [*redis, self._child("api", module(*API), _SERVER_STOPS, drain_s), *self._workers(drain_s)]

    def _workers(self, grace_s: float) -> list[ChildSpec]:
        """A worker that lost its supervisor has lost Redis too: it is killed, and its leases run out."""
        return [
            self._child(name, module(*worker(number, self.settings.log_level)), _SERVER_STOPS, grace_s, signal.SIGKILL)
            for number, name in enumerate(self.worker_names, start=1)
        ]

    def _child(
        self,
        name: str,
        argv: tuple[str, ...],
        stop_order: int,
        grace_s: float,
        orphan_signal: signal.Signals = signal.SIGTERM,
    ) -> ChildSpec:
        return ChildSpec(
            name=name,
            argv=argv,
            env=self.environment(os.environ),
            folder=ROOT,
            log=self.logs / f"{name}.log",
            stop_order=stop_order,
            stop_grace_s=grace_s,
            orphan_signal=orphan_signal,
            inherited_fds=(self.lock,),
        )

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """The processes' environment: `base`, and what was decided here."""
        decided = {
            "SLM_REDIS_URL": self.redis_url,
            "SLM_DATA_DIR": str(self.settings.data_dir),
            "SLM_BASE_MODEL": self.settings.base_model,
            "SLM_LORA_PATH": str(self.settings.lora_path or ""),
            "PYTHONUNBUFFERED": "1",
        }
        if self.workers > 1 and not base.get("SLM_THREADS"):
            decided["SLM_THREADS"] = str(max(1, usable_cores() // self.workers))
        return {**base, **decided}


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module of the environment this process runs in."""
    return (sys.executable, "-m", name, *arguments)


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
