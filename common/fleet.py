"""The workers as a whole: what they shall hold (the desired state) and what each last reported.

`POST /slm/load` and `/unload` only change the desired state. Every worker follows it, also one that came after
the change, and reports the generation of the desired state it has reached.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Literal

from redis import Redis

from common import keys
from common.scripts import Script


class WorkerState(StrEnum):
    """What a worker is doing, as `GET /slm/info` shows it."""

    STARTING = "starting"  # the process is up, nothing of the model is there
    LOADING = "loading"  # the model is on its way into memory
    READY = "ready"  # the model is loaded; jobs are taken
    UNLOADED = "unloaded"  # jobs are taken, but the first one has to load the model
    FAILED = "failed"  # the model could not be loaded; `error` says why
    DRAINING = "draining"  # no more jobs are taken; the process is about to end


@dataclass(frozen=True, slots=True)
class Desired:
    """What every worker shall hold. `generation` rises by one with each change or repeated request."""

    loaded: bool
    generation: int


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """One worker's account of itself. `generation` is the newest desired state it has fully answered."""

    id: str
    host: str
    pid: int
    state: WorkerState = WorkerState.STARTING
    device: str | None = None
    slots: int = 0  # generations it takes at once; 0 until it takes jobs
    running: int = 0
    generation: int = 0
    base_model: str | None = None
    lora_path: str | None = None
    context: int | None = None
    dtype: str | None = None
    cuda_available: bool = False
    mps_available: bool = False
    error: str | None = None
    base_id: str | None = None  # hash of the base model's files as they are in memory
    adapter_id: str | None = None  # of the adapter's

    @property
    def holds_model(self) -> bool:
        """Whether the model is in its memory and serves."""
        return self.state is WorkerState.READY

    def but(self, **changes: object) -> WorkerReport:
        """The same report with some fields changed."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def to_json(self) -> str:
        """The JSON form; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> WorkerReport:
        """Read the JSON form."""
        wire = json.loads(text)
        return cls(**(wire | {"state": WorkerState(wire["state"])}))


class Fleet:
    """The desired state and the live workers, in Redis. Every method may raise `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._desire, self._beat = Script(redis, "desire"), Script(redis, "beat")
        self._leave, self._workers = Script(redis, "leave"), Script(redis, "workers")

    def desired(self) -> Desired:
        """What every worker shall hold; before anyone has said anything, the model."""
        loaded, generation = self._redis.hmget(keys.MODEL, "loaded", "generation")
        return Desired(loaded=loaded != "0", generation=int(generation or 0))

    def set_desired(self, *, loaded: bool) -> Desired:
        """Make it the workers' duty to hold the model, or not to.

        Asking for the same again makes them try again, and load what has changed on the disk.
        """
        return self._set(loaded=loaded)

    def require_model(self) -> Desired:
        """Have the model loaded if it was unloaded; changes nothing otherwise."""
        return self._set(loaded=True, only_if="different")

    def refresh(self) -> Desired:
        """Have every worker look for changes on the disk, unless the model is to be unloaded."""
        return self._set(loaded=True, only_if="same")

    def _set(self, *, loaded: bool, only_if: Literal["", "different", "same"] = "") -> Desired:
        now_loaded, generation = self._desire(int(loaded), only_if)
        return Desired(loaded=bool(now_loaded), generation=int(generation))

    def beat(self, report: WorkerReport, *, ttl_s: float) -> None:
        """Publish a worker's report; it counts as alive for `ttl_s` seconds."""
        self._beat(report.id, int(ttl_s * 1000), report.slots, report.to_json())

    def leave(self, worker_id: str) -> None:
        """Take a worker that ends in order off the list."""
        self._leave(worker_id)

    def workers(self) -> list[WorkerReport]:
        """The reports of the live workers, oldest heartbeat first."""
        return [WorkerReport.from_json(text) for text in self._workers()]
