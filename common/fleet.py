"""Stores the workers' desired state (model loaded or not) and the last report of each worker.

`POST /slm/load` and `/unload` only change the desired state. Every worker follows it, including workers that start
after the change, and reports the generation of the desired state it has reached.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Literal

from redis import Redis

from common.adapters.names import public_name
from common.jobs.job import Lane
from common.redis import keys
from common.redis.scripts import Argument, Script
from common.wire import known_fields

MAX_PREPARING = 3  # jobs that each worker prepares at once


class WorkerState(StrEnum):
    """The state of a worker, as `GET /slm/info` shows it."""

    STARTING = "starting"  # the process runs; nothing of the model is loaded
    LOADING = "loading"  # the model is being loaded
    READY = "ready"  # the model is loaded; the worker takes jobs
    UNLOADED = "unloaded"  # the worker takes jobs, but the first one has to load the model
    FAILED = "failed"  # the model could not be loaded; `error` says why
    DRAINING = "draining"  # the worker takes no more jobs and is about to stop


@dataclass(frozen=True, slots=True)
class Desired:
    """The state every worker should reach. `generation` rises by one with each change or repeated request."""

    loaded: bool
    generation: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """The report of one worker. `generation` is the newest desired state that it has reached or failed to reach."""

    id: str
    host: str
    pid: int
    state: WorkerState = WorkerState.STARTING
    device: str | None = None
    slots: int = 0  # generations it runs at once; 0 until it takes jobs
    running: int = 0
    generation: int = 0
    base_model: str | None = None
    lora_path: str | None = None
    context: int | None = None
    dtype: str | None = None
    license: str | None = None  # of the base model, as its files name it
    parameters: int | None = None  # of the base model
    model_bytes: int | None = None  # of the files with the base model's weights
    cuda_available: bool = False
    mps_available: bool = False
    error: str | None = None
    base_id: str | None = None  # hash of the base model's files that are loaded
    adapter_id: str | None = None  # hash of the default adapter's files, when the model was last loaded
    adapters: list[str] = field(default_factory=list)  # ids of the adapters in memory
    base: str = ""  # the name of its base model if the server has several: then it only runs jobs of that one

    @property
    def base_name(self) -> str:
        """The base model's name for requests."""
        return self.base or public_name(self.base_model or "")

    @property
    def lanes(self) -> dict[str, int]:
        """The names of the lanes whose jobs it runs -> how many of them at once. Control jobs take no place."""
        suffix = f":{self.base}" if self.base else ""
        preparing = MAX_PREPARING if self.slots else 0
        own = {Lane.GENERATE: self.slots, Lane.PREPARE: preparing, Lane.CONTROL: 0}
        return {f"{lane}{suffix}": places for lane, places in own.items()} | {Lane.CONTROL.value: 0}

    @property
    def holds_model(self) -> bool:
        """Whether the model is loaded and the worker takes jobs."""
        return self.state is WorkerState.READY

    def but(self, **changes: object) -> WorkerReport:
        """Return a copy with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def to_json(self) -> str:
        """Return the JSON form; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerReport:
        """Parse the JSON form."""
        wire = json.loads(text)
        return cls(**(known_fields(cls, wire) | {"state": WorkerState(wire["state"])}))


class Fleet:
    """Reads and writes the desired state and the live workers in Redis. Every method may raise `RedisError`.

    Args:
        redis: connection (with `decode_responses`).
        base: the base model whose desired state this is; empty if the server has only one.
    """

    def __init__(self, redis: Redis, base: str = "") -> None:
        self._redis = redis
        self.base = base
        self._desire, self._beat = Script(redis, "desire"), Script(redis, "beat")
        self._leave, self._workers = Script(redis, "leave"), Script(redis, "workers")
        self._unload_idle = Script(redis, "unload_idle")

    def of(self, base: str) -> Fleet:
        """Return the fleet with the desired state of another base model."""
        return Fleet(self._redis, base)

    def desired(self) -> Desired:
        """Return the desired state; by default the model is loaded."""
        loaded, generation = self._redis.hmget(keys.model(self.base), "loaded", "generation")
        return Desired(loaded=loaded != "0", generation=int(generation or 0))

    def set_desired(self, *, loaded: bool) -> Desired:
        """Have the workers load or unload the model.

        Repeating the same request makes them try again and load files that have changed on the disk.
        """
        return self._set(loaded=loaded)

    def require_model(self) -> Desired:
        """Have the model loaded if it is to be unloaded; otherwise change nothing."""
        return self._set(loaded=True, only_if="different")

    def refresh(self) -> Desired:
        """Have every worker check the disk for changes, unless the model is to be unloaded."""
        return self._set(loaded=True, only_if="same")

    def _set(self, *, loaded: bool, only_if: Literal["", "different", "same"] = "") -> Desired:
        now_loaded, generation = self._desire(self.base, int(loaded), only_if)
        return Desired(loaded=bool(now_loaded), generation=int(generation))

    def unload_if_idle(self, keep_alive_s: float) -> bool:
        """Have the workers unload the model if no job has needed it for that long; return whether that was so."""
        return bool(self._unload_idle(self.base, int(keep_alive_s * 1000)))

    def beat(self, report: WorkerReport, *, ttl_s: float) -> None:
        """Publish a worker's report; it counts as alive for `ttl_s` seconds."""
        lanes: list[Argument] = [part for pair in report.lanes.items() for part in pair]
        self._beat(report.id, int(ttl_s * 1000), report.to_json(), *lanes)

    def leave(self, worker_id: str) -> None:
        """Remove a worker that shuts down normally."""
        self._leave(worker_id)

    def workers(self) -> list[WorkerReport]:
        """Return the reports of the live workers, oldest heartbeat first."""
        return [WorkerReport.from_json(text) for text in self._workers()]

    def workers_of_base(self) -> list[WorkerReport]:
        """Return the reports of the live workers that serve this base model."""
        return [one for one in self.workers() if not self.base or one.base == self.base]
