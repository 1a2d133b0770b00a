"""The processes of a server on one machine: Redis, the API, N workers, a trainer, an embedder.

Containers run the same commands.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from common.bases import Base
from common.cores import usable_cores
from common.environment import ours
from common.settings import ROOT, Settings
from deploy.processes.supervisor import ChildSpec
from deploy.redis.redis_server import EmbeddedRedis

# Modules with their arguments, which run as `python -m ...` in the project's folder.
_API_CONFIG = ("--config", "api/gunicorn_conf.py")
API = ("gunicorn", *_API_CONFIG, "api.wsgi:create_app()")
MODEL = ("models.base_model",)
FLOWER = ("celery", "flower", "--address=127.0.0.1")  # only this machine: it has no password

GRACE_MARGIN_S = 5.0  # on top of SLM_DRAIN_S + SLM_LEASE_S, the time within which jobs are released
REDIS_GRACE_S = 15.0  # time to flush its log

# The API and the workers stop together: the API accepts no new work, and relays the output of running generations.
_SERVER_STOPS, _REDIS_STOPS = range(2)


def api(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the module and arguments of an API with the user's gunicorn arguments and our configuration."""
    return ("gunicorn", *arguments, *_API_CONFIG)


def worker(name: str = "slm1", log_level: str = "INFO") -> tuple[str, ...]:
    """Return the module and arguments of a worker. Workers on the same host and Redis need different names."""
    # Mingle and gossip are only for revokes and chords, which are not used; they would delay the first job by a second.
    alone = ("--without-mingle", "--without-gossip")
    return ("worker.celery", "-A", "worker.app", "worker", "--hostname", f"{name}@%h", *alone, "--loglevel", log_level)


def trainer(name: str = "trainer1", log_level: str = "INFO") -> tuple[str, ...]:
    """Return the module and arguments of a trainer. Trainers on the same host and Redis need different names."""
    alone = ("--without-mingle", "--without-gossip")
    pool = ("--pool", "solo", "--queues", "slm.train")
    return (
        "worker.celery",
        "-A",
        "worker.training.app",
        "worker",
        *pool,
        "--hostname",
        f"{name}@%h",
        *alone,
        "--loglevel",
        log_level,
    )


def embedder(name: str = "embedder1", log_level: str = "INFO") -> tuple[str, ...]:
    """Return the module and arguments of an embedder. Embedders on the same host and Redis need different names."""
    alone = ("--without-mingle", "--without-gossip")
    queue = ("--queues", "slm.embed", "--hostname", f"{name}@%h")
    return ("worker.celery", "-A", "worker.embedding.app", "worker", *queue, *alone, "--loglevel", log_level)


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything that is decided before the first process starts.

    `redis` is None if SLM_REDIS_URL names an external server. `lock` is the descriptor of the data folder's lock.
    `settings` has absolute paths. `installation` is part of the workers' names. `api` is the API's module with its
    arguments.
    """

    settings: Settings
    workers: int
    redis: EmbeddedRedis | None
    lock: int
    installation: str
    api: tuple[str, ...] = API

    @property
    def redis_url(self) -> str:
        """The URL at which the processes reach Redis."""
        return self.settings.required_redis_url() if self.redis is None else self.redis.url

    @property
    def logs(self) -> Path:
        """Folder of the processes' log files."""
        return self.settings.data_dir / "logs"

    @property
    def worker_bases(self) -> dict[str, Base]:
        """The names of the worker processes -> the base model that each serves."""
        if not self.settings.models:
            return {f"worker-{number}": self.settings.own_base for number in range(1, self.workers + 1)}
        return {
            f"worker-{base.name}-{number}": base
            for base in self.settings.bases
            for number in range(1, (base.workers or self.workers) + 1)
        }

    @property
    def worker_names(self) -> list[str]:
        """The names of the worker processes."""
        return list(self.worker_bases)

    def children(self) -> list[ChildSpec]:
        """Return the processes in the order in which they start. Redis stops last.

        If the supervisor dies, Redis flushes its log and ends. The others are useless without it and are killed: the
        workers' leases expire.
        """
        drain_s = self.settings.drain_s + self.settings.lease_s + GRACE_MARGIN_S
        workers = [
            self._child(name, module(*self._worker(number, base)), _SERVER_STOPS, drain_s, env=self._told(base))
            for number, (name, base) in enumerate(self.worker_bases.items(), start=1)
        ]
        api = self._child("api", module(*self.api), _SERVER_STOPS, drain_s)
        return [*self._redis(), api, *workers, *self._trainer(drain_s), *self._embedder(drain_s)]

    def _trainer(self, grace_s: float) -> list[ChildSpec]:
        if not self.settings.trainer:
            return []
        command = module(*trainer(f"trainer1-{self.installation}", self.settings.log_level))
        return [self._child("trainer", command, _SERVER_STOPS, grace_s)]

    def _embedder(self, grace_s: float) -> list[ChildSpec]:
        if self.settings.embed_model is None:
            return []
        command = module(*embedder(f"embedder1-{self.installation}", self.settings.log_level))
        return [self._child("embedder", command, _SERVER_STOPS, grace_s)]

    def _redis(self) -> list[ChildSpec]:
        if self.redis is None:
            return []
        return [self._child("redis", self.redis.command(), _REDIS_STOPS, REDIS_GRACE_S, signal.SIGTERM)]

    def _worker(self, number: int, base: Base) -> tuple[str, ...]:
        name = f"-{base.name}-{number}" if self.settings.models else str(number)
        return worker(f"slm{name}-{self.installation}", self.settings.log_level)

    def _told(self, base: Base) -> dict[str, str]:
        """Return the variable that tells a worker its base model."""
        return {"SLM_WORKER_BASE": base.name} if self.settings.models else {}

    def _child(
        self,
        name: str,
        argv: tuple[str, ...],
        stop_order: int,
        grace_s: float,
        orphan_signal: signal.Signals = signal.SIGKILL,
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> ChildSpec:
        return ChildSpec(
            name=name,
            argv=argv,
            env={**self.environment(os.environ), **env},
            folder=ROOT,
            log=self.logs / f"{name}.log",
            stop_order=stop_order,
            stop_grace_s=grace_s,
            orphan_signal=orphan_signal,
            inherited_fds=(self.lock,),
        )

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the processes' environment: the variables of `base` that they may see, and those set here."""
        decided = {
            "SLM_REDIS_URL": self.redis_url,
            "SLM_DATA_DIR": str(self.settings.data_dir),
            "SLM_BASE_MODEL": self.settings.base_model,
            "SLM_MODELS": self.settings.models or "",
            "SLM_EMBED_MODEL": self.settings.embed_model or "",
            "SLM_LORA_PATH": str(self.settings.lora_path or ""),
            "SLM_ADAPTERS_DIR": str(self.settings.adapters_dir or ""),
            "PYTHONUNBUFFERED": "1",
        }
        num_workers = len(self.worker_bases)
        if num_workers > 1 and not base.get("SLM_THREADS"):
            decided["SLM_THREADS"] = str(max(1, usable_cores() // num_workers))
        return ours(base) | decided


def module(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module in the environment of this process."""
    return (sys.executable, "-m", name, *arguments)
