"""Follows the desired state: loads and unloads the model, and gives handles of it to the jobs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from common.errors import InternalError, RedisUnavailable, SLMError
from common.fleet import Desired, Fleet, WorkerState
from common.redis.outage import Outage
from worker.helper.given_up import GivenUp, IsGivenUp
from worker.model.protocols import LoadedModel, ModelContent

POLL_S = 2.0  # how often the desired state is read without a message that it has changed
RECHECK_S = 0.2  # how often a waiting thread checks whether its job was given up
_READING, _REGISTERING, _PINNING = "desired state not read", "adapters not registered", "aliases not read"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelHandle:
    """A job's use of the model. `loaded_for_it`: the job had to wait for the model to be loaded."""

    model: LoadedModel
    loaded_for_it: bool


@dataclass(frozen=True)
class ModelStatus:
    """The model manager's state, for the worker's report.

    `generation` is the newest desired state reached, and `content` what was on the disk then. With a model in memory,
    `error` says why the files on the disk are not served now.
    """

    state: WorkerState
    generation: int
    model: LoadedModel | None = None
    content: ModelContent | None = None
    error: SLMError | None = None


class ModelManager:
    """Owns the model. Only its thread loads and unloads it, and loads it again if the base model's files have changed.

    An unload waits until all handles are released; meanwhile new jobs wait. Adapters that aliases point to are pinned:
    a load ends when they are in memory, too.

    Args:
        fleet: stores the desired state.
        load: returns a `LoadedModel`; raises `SLMError` if it cannot.
        content: registers the adapters on the disk, and returns what is there; raises `SLMError` if it cannot.
        pins: returns the ids of the adapters to keep in memory, the most important first.
        publish: sends the worker's report; called after every change of the status.
    """

    def __init__(
        self,
        fleet: Fleet,
        load: Callable[[], LoadedModel],
        content: Callable[[], ModelContent],
        pins: Callable[[], Sequence[str]],
        publish: Callable[[], None],
        outage: Outage,
    ) -> None:
        self._outage = outage
        self._fleet = fleet
        self._load = load
        self._content = content
        self._pins = pins
        self._publish = publish
        self._changed = threading.Condition()
        self._status = ModelStatus(WorkerState.STARTING, 0)
        self._num_handles = 0
        self._closing = False  # an unload has begun: no new handles
        self._nudged = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slm-model-manager", daemon=True)

    @property
    def status(self) -> ModelStatus:
        """Its current state."""
        return self._status

    def start(self) -> None:
        """Start to follow the desired state."""
        self._nudged.set()
        self._thread.start()

    def stop(self) -> None:
        """Free the model and end. All handles must have been released."""
        self._stopping.set()
        self._nudged.set()
        self._thread.join()
        if self._status.model is not None:
            self._status.model.close()

    def nudge(self) -> None:
        """Read the desired state now, since it has changed."""
        self._nudged.set()

    def wait_until_settled(self, timeout_s: float) -> bool:
        """Wait until the first desired state has been reached; return False after `timeout_s`."""
        transient = (WorkerState.STARTING, WorkerState.LOADING)
        with self._changed:
            return self._changed.wait_for(lambda: self._status.state not in transient, timeout_s)

    @contextmanager
    def acquire(self, given_up: IsGivenUp, on_wait: Callable[[], None]) -> Iterator[ModelHandle]:
        """Acquire the model for the duration of a `with` block; an unloaded model is first loaded, on every worker.

        `on_wait` is called once if the model has to be loaded first.

        Raises:
            GivenUp: `given_up` became true while waiting.
            SLMError: the model cannot be loaded.
        """
        handle = self._try_acquire()
        if handle is None:
            on_wait()
            handle = self._wait_for_handle(given_up)
        try:
            yield handle
        finally:
            with self._changed:
                self._num_handles -= 1
                self._changed.notify_all()

    def _try_acquire(self, *, loaded_for_it: bool = False) -> ModelHandle | None:
        with self._changed:
            if self._status.model is None or self._closing:
                return None
            self._num_handles += 1
            return ModelHandle(self._status.model, loaded_for_it)

    def _wait_for_handle(self, given_up: IsGivenUp) -> ModelHandle:
        while not given_up():
            if (handle := self._try_acquire(loaded_for_it=True)) is not None:
                return handle
            status = self._status
            if status.error is not None:
                raise status.error
            if status.state is WorkerState.UNLOADED:
                self._outage.attempt("model not requested", self._fleet.require_model)
                self._nudged.set()
            with self._changed:
                self._changed.wait(RECHECK_S)
        raise GivenUp

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._nudged.wait(POLL_S)
            self._nudged.clear()
            try:
                desired = self._fleet.desired()
            except RedisError as err:
                self._outage.note_failure(_READING, err)
                continue
            self._outage.note_success(_READING)
            if self._must_act(desired) and not self._stopping.is_set():
                self._follow(desired)
            elif (model := self._status.model) is not None:
                self._pin(model)

    def _must_act(self, desired: Desired) -> bool:
        return desired.generation != self._status.generation or self._status.state is WorkerState.STARTING

    def _follow(self, desired: Desired) -> None:
        if not desired.loaded:
            if self._unload():
                self._set_status(ModelStatus(WorkerState.UNLOADED, desired.generation))
        elif (model := self._status.model) is not None:
            self._refresh(model, desired.generation)
        else:
            self._load_new(desired.generation)

    def _refresh(self, model: LoadedModel, generation: int) -> None:
        """Serve what is on the disk now. What cannot be read does not end the service of what is in memory."""
        found = self._found()
        if isinstance(found, ModelContent) and found.base != model.base_id:
            if self._unload():
                self._load_new(generation)
            return
        self._pin_and_wait(model)
        if isinstance(found, ModelContent):
            self._set_status(ModelStatus(WorkerState.READY, generation, model, found))
        else:
            self._set_status(ModelStatus(WorkerState.READY, generation, model, self._status.content, found))

    def _load_new(self, generation: int) -> None:
        is_start = self._status.state is WorkerState.STARTING
        self._set_status(ModelStatus(WorkerState.LOADING, self._status.generation))
        self._set_status(self._loaded(generation))
        if is_start:
            self._check_other_workers()

    def _found(self) -> ModelContent | SLMError:
        """Register what is on the disk and return it, or why it cannot be served. Redis may be away for a while."""
        while True:
            try:
                found = self._content()
            except SLMError as err:
                log.error("the files on the disk are not served: %s", err.message)
                return err
            except RedisError as err:
                self._outage.note_failure(_REGISTERING, err)
                if self._stopping.wait(RECHECK_S):
                    return RedisUnavailable("Redis does not answer.")
            else:
                self._outage.note_success(_REGISTERING)
                return found

    def _pin(self, model: LoadedModel) -> None:
        self._outage.attempt(_PINNING, lambda: model.adapters.pin(self._pins()))

    def _pin_and_wait(self, model: LoadedModel) -> None:
        self._pin(model)
        model.adapters.wait_for_pins(self._stopping.is_set)

    def _check_other_workers(self) -> None:
        """Let all workers check their files again if this one, which started later, found other files.

        Otherwise the workers would use different models until the next load.
        """
        content = self._status.content
        try:
            others = [worker for worker in self._fleet.workers_of_base() if worker.holds_model]
            if content and any((worker.base_id, worker.adapter_id) != content for worker in others):
                log.warning("other workers' models differ from the files here: all workers load from disk again")
                self._fleet.refresh()
        except RedisError as err:
            log.warning("the other workers' models could not be read: %s", err)

    def _loaded(self, generation: int) -> ModelStatus:
        """A boundary: any error in loading becomes the worker's reported state."""
        try:
            return self._serving(self._load(), generation)
        except SLMError as err:
            log.error("model not loaded: %s", err.message)
            return ModelStatus(WorkerState.FAILED, generation, error=err)
        except Exception as err:
            log.exception("model not loaded")
            failure = InternalError(
                f"Loading the model failed ({type(err).__name__}); the worker's log has the details."
            )
            return ModelStatus(WorkerState.FAILED, generation, error=failure)

    def _serving(self, model: LoadedModel, generation: int) -> ModelStatus:
        """Register and pin the adapters of a new model. Raises `SLMError` if the configured one cannot be served."""
        found = self._found()
        if isinstance(found, SLMError):
            model.close()
            raise found
        self._pin_and_wait(model)
        return ModelStatus(WorkerState.READY, generation, model, found)

    def _unload(self) -> bool:
        """Wait until all handles are released and free the model; return False if the worker stops first."""
        with self._changed:
            self._closing = True
            self._changed.wait_for(lambda: self._num_handles == 0 or self._stopping.is_set())
            if self._stopping.is_set():
                return False
        if self._status.model is not None:
            self._status.model.close()
        return True

    def _set_status(self, status: ModelStatus) -> None:
        with self._changed:
            self._status = status
            self._closing = False
            self._changed.notify_all()
        self._publish()
