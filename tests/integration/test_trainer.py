"""Real trainer processes with a fake child: runs survive their trainers, and stop when they are told to."""

from __future__ import annotations

import json
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.adapters.registry import AdapterRegistry
from common.errors import Conflict
from common.fleet import WorkerReport, WorkerState
from common.jobs.events import Event, EventType
from common.jobs.job import JobKind, JobRecord, JobState
from common.jobs.store import JobOptions
from common.owners.files import FileStore
from common.training.spec import TrainingSpec
from common.training.trainers import Trainers
from tests.fake_training import PHASES, RELEASED
from tests.processes import Cluster, Process, running_cluster, wait_for
from tests.redis_server import RedisServer, running_server

ENV = {"SLM_LEASE_S": "2", "SLM_DRAIN_S": "5"}


class Site:
    """Trainers on one Redis, and a worker that only counts as alive."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        self.folder = folder / "data" / "training"
        self.trainers = Trainers(cluster.redis)
        self.registry = AdapterRegistry(cluster.redis)
        self.registry.note_base("tiny", "0" * 64)
        self.files = FileStore(cluster.redis, ttl_s=600)

    def start_trainer(self, name: str = "t", **env: str) -> Process:
        process = self.cluster.start_worker(name, "tests.fake_trainer", **env)
        wait_for("the trainer", lambda: self.trainer(name))
        return process

    def trainer(self, name: str = "t") -> str | None:
        return next((one.id for one in self.trainers.live() if one.id.startswith(f"{name}@")), None)

    def submit(self, *, name: str = "support", **recipe: Any) -> str:
        job_id = str(uuid.uuid4())
        file = self.files.put("test", "pairs.jsonl", "fine-tune", ['{"prompt": "a", "completion": "b"}', ""])
        spec = TrainingSpec(name=name, file_id=file.id, recipe=recipe)
        options = JobOptions(model="tiny", keep_s=900)
        store = self.cluster.store
        store.submit(job_id, JobKind.TRAIN, spec.to_dict(), owner="test", max_queue=9, options=options)
        return job_id

    def job(self, job_id: str) -> JobRecord:
        return self.cluster.store.get(job_id)

    def events(self, job_id: str) -> list[Event]:
        return self.cluster.log.read(job_id)

    def steps(self, job_id: str) -> list[int]:
        return [event.data["step"] for event in self.events(job_id) if event.type is EventType.PROGRESS]

    def wait_for_step(self, job_id: str, step: int) -> None:
        wait_for(f"step {step}", lambda: step in self.steps(job_id))

    def wait_for_phase(self, job_id: str, phase: str) -> None:
        lines = (f"Phase {phase}",)
        wait_for(lines[0], lambda: any(event.data.get("status") in lines for event in self.events(job_id)))

    def release(self, job_id: str) -> None:
        """Let a held run go on."""
        (self.folder / job_id / "run" / RELEASED).touch()

    def versions(self, name: str) -> list[int]:
        return [one.number for one in self.registry.versions(name)]

    def wait_for_state(self, job_id: str, state: JobState) -> JobRecord:
        return wait_for(str(state), lambda: (job := self.job(job_id)).state is state and job)


@pytest.fixture
def mortal_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def site(redis_server: RedisServer, tmp_path: Path) -> Iterator[Site]:
    with running_cluster(redis_server.url, tmp_path, **ENV) as cluster:
        report = WorkerReport("w", "h", 1, WorkerState.READY, slots=1)
        cluster.fleet.beat(report, ttl_s=600)
        yield Site(cluster, tmp_path)


def test_a_run_reports_steps_and_keeps_only_its_adapter(site: Site) -> None:
    site.start_trainer()
    job = site.wait_for_state(site.submit(steps=3), JobState.SUCCEEDED)
    assert job.result is not None
    assert job.result["steps"] == 3
    assert site.steps(job.id) == [1, 2, 3]
    wait_for("the rest to go", lambda: [path.name for path in (site.folder / job.id).iterdir()] == ["adapter"])
    assert (site.folder / job.id / "adapter" / "dataset").read_text() == '{"prompt": "a", "completion": "b"}\n'
    assert 600 < site.cluster.redis.ttl(f"slm:job:{job.id}") <= 900


def test_a_killed_trainers_run_continues_after_its_last_checkpoint(site: Site) -> None:
    trainer = site.start_trainer("first")
    job_id = site.submit(steps=12, step_s=0.3)
    site.wait_for_step(job_id, 3)
    child = psutil.Process(trainer.pid).children()[0]
    trainer.kill()
    wait_for("the child to end, too", lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    site.start_trainer("second")
    site.wait_for_state(job_id, JobState.SUCCEEDED)
    assert site.steps(job_id) == list(range(1, 13))
    assert site.job(job_id).attempt == 2
    assert site.job(job_id).crashes == 1


def test_a_suspended_trainers_child_is_ended_by_the_next_attempt(site: Site) -> None:
    trainer = site.start_trainer("first")
    job_id = site.submit(steps=12, step_s=0.3)
    site.wait_for_step(job_id, 2)
    child = psutil.Process(trainer.pid).children()[0]
    trainer.signal(signal.SIGSTOP)
    site.start_trainer("second")
    site.wait_for_state(job_id, JobState.SUCCEEDED)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    trainer.signal(signal.SIGCONT)
    wait_for("the first trainer to be free", lambda: len(site.trainers.live()) == 2)
    assert site.job(job_id).state is JobState.SUCCEEDED
    assert site.job(job_id).attempt == 2


def test_a_terminated_trainer_hands_its_run_back_at_a_checkpoint(site: Site) -> None:
    trainer = site.start_trainer("first")
    job_id = site.submit(steps=12, step_s=0.3)
    site.wait_for_step(job_id, 2)
    assert trainer.terminate() == 0
    assert site.job(job_id).state is JobState.QUEUED
    assert site.trainer("first") is None
    site.start_trainer("second")
    job = site.wait_for_state(job_id, JobState.SUCCEEDED)
    assert site.steps(job_id) == list(range(1, 13))
    assert job.crashes == 0


def test_a_run_survives_a_restart_of_redis(mortal_redis: RedisServer, tmp_path: Path) -> None:
    with running_cluster(mortal_redis.url, tmp_path, **ENV) as cluster:
        cluster.fleet.beat(WorkerReport("w", "h", 1, WorkerState.READY, slots=1), ttl_s=600)
        site = Site(cluster, tmp_path)
        site.start_trainer()
        job_id = site.submit(steps=15, step_s=0.2)
        site.wait_for_step(job_id, 2)
        mortal_redis.kill()
        time.sleep(1)
        mortal_redis.start()
        site.wait_for_state(job_id, JobState.SUCCEEDED)
        assert site.steps(job_id) == list(range(1, 16))


def test_a_run_is_cancelled_at_once_and_its_files_go(redis_server: RedisServer, tmp_path: Path) -> None:
    with running_cluster(redis_server.url, tmp_path, SLM_LEASE_S="2", SLM_DRAIN_S="600") as cluster:
        cluster.fleet.beat(WorkerReport("w", "h", 1, WorkerState.READY, slots=1), ttl_s=600)
        site = Site(cluster, tmp_path)
        site.start_trainer()
        job_id = site.submit(steps=5, hang_at=3)  # as while it loads torch, or reads a large model
        site.wait_for_step(job_id, 2)
        site.cluster.store.cancel(job_id)
        site.wait_for_state(job_id, JobState.CANCELLED)
        wait_for("the folder to go", lambda: not (site.folder / job_id).exists())


def test_a_run_is_paused_within_a_step_and_resumed(site: Site) -> None:
    site.start_trainer()
    job_id = site.submit(steps=20, step_s=0.1)
    site.wait_for_step(job_id, 2)
    site.cluster.store.pause(job_id)
    site.wait_for_state(job_id, JobState.PAUSED)
    so_far = len(site.steps(job_id))
    assert so_far < 20
    other = site.submit(steps=1)
    site.wait_for_state(other, JobState.SUCCEEDED)  # the trainer is free
    assert len(site.steps(job_id)) == so_far
    site.cluster.store.resume(job_id)
    job = site.wait_for_state(job_id, JobState.SUCCEEDED)
    assert site.steps(job_id) == list(range(1, 21))
    assert job.crashes == 0


def test_a_run_that_is_cancelled_in_any_phase_leaves_no_version(site: Site) -> None:
    site.start_trainer()
    *early, last = PHASES
    for phase in early:
        job_id = site.submit(name=phase, hold=[phase], publishes=True)
        site.wait_for_phase(job_id, phase)
        site.cluster.store.cancel(job_id)
        site.wait_for_state(job_id, JobState.CANCELLED)
        assert site.versions(phase) == []
    job_id = site.submit(name=last, hold=[last], publishes=True)
    site.wait_for_phase(job_id, last)
    with pytest.raises(Conflict, match="too late"):  # what it has published is its result
        site.cluster.store.cancel(job_id)
    site.release(job_id)
    job = site.wait_for_state(job_id, JobState.SUCCEEDED)
    assert job.result is not None
    assert ([job.result["version"]], site.versions(last)) == ([1], [1])


def test_a_cancellation_that_the_trainer_has_not_heard_of_stops_the_publication(site: Site) -> None:
    site.start_trainer()
    job_id = site.submit(name="late", hold=["gate"], publishes=True)
    site.wait_for_phase(job_id, "gate")
    key = f"slm:job:{job_id}"
    site.cluster.redis.hset(key, mapping={"cancel": "1", "pause": "1"})  # the pause ends the phase
    site.cluster.redis.publish("slm:control", json.dumps({"pause": job_id}))
    site.wait_for_state(job_id, JobState.CANCELLED)
    assert site.versions("late") == []


def test_a_run_is_paused_in_any_phase_and_resumed(site: Site) -> None:
    site.start_trainer()
    *early, last = PHASES
    for phase in early:
        job_id = site.submit(name=phase, hold=[phase], publishes=True)
        site.wait_for_phase(job_id, phase)
        site.cluster.store.pause(job_id)
        site.wait_for_state(job_id, JobState.PAUSED)
        assert site.versions(phase) == []
        site.cluster.store.resume(job_id)
        site.wait_for_state(job_id, JobState.SUCCEEDED)
        assert (site.steps(job_id), site.versions(phase)) == ([1, 2, 3], [1])
    job_id = site.submit(name=last, hold=[last], publishes=True)
    site.wait_for_phase(job_id, last)
    with pytest.raises(Conflict, match="too late"):
        site.cluster.store.pause(job_id)
    site.release(job_id)
    site.wait_for_state(job_id, JobState.SUCCEEDED)


def test_a_run_whose_trainer_is_killed_in_every_phase_publishes_one_version(site: Site) -> None:
    trainer = site.start_trainer("0")
    job_id = site.submit(hold=PHASES, publishes=True)
    for number, phase in enumerate(PHASES, start=1):
        site.wait_for_phase(job_id, phase)
        trainer.kill()
        trainer = site.start_trainer(str(number))
    job = site.wait_for_state(job_id, JobState.SUCCEEDED)
    assert (site.steps(job_id), site.versions("support")) == ([1, 2, 3], [1])
    assert job.attempt == 1 + len(PHASES)


def test_a_run_whose_trainer_died_after_it_had_published_cannot_be_cancelled(site: Site) -> None:
    trainer = site.start_trainer("first")
    job_id = site.submit(hold=["publish"], publishes=True)
    site.wait_for_phase(job_id, "publish")
    trainer.kill()
    with pytest.raises(Conflict, match="too late"):
        site.cluster.store.cancel(job_id)
    site.start_trainer("second")
    job = site.wait_for_state(job_id, JobState.SUCCEEDED)
    assert job.result is not None
    assert (job.result["version"], site.versions("support")) == (1, [1])


def test_a_hanging_child_is_killed_when_its_run_is_paused(redis_server: RedisServer, tmp_path: Path) -> None:
    with running_cluster(redis_server.url, tmp_path, SLM_LEASE_S="2", SLM_DRAIN_S="1") as cluster:
        cluster.fleet.beat(WorkerReport("w", "h", 1, WorkerState.READY, slots=1), ttl_s=600)
        site = Site(cluster, tmp_path)
        site.start_trainer()
        job_id = site.submit(steps=5, hang_at=3)
        site.wait_for_step(job_id, 2)
        site.cluster.store.pause(job_id)
        site.wait_for_state(job_id, JobState.PAUSED)


def test_the_queue_goes_on_after_failed_runs(site: Site) -> None:
    site.start_trainer()
    bad = site.submit(fail="line 3, column 5: no")
    dead = site.submit(steps=5, die_at=2)
    good = site.submit(steps=2)
    site.wait_for_state(good, JobState.SUCCEEDED)
    error = site.job(bad).error
    assert error is not None
    assert (error.code, error.message, error.param) == ("invalid_request", "line 3, column 5: no", "file_id")
    died = site.job(dead).error
    assert died is not None
    assert died.code == "training_failed"
    assert not (site.folder / bad).exists()


def test_a_run_whose_file_is_gone_says_so(site: Site) -> None:
    job_id = str(uuid.uuid4())
    site.start_trainer()
    spec = TrainingSpec(name="support", file_id=f"file-{uuid.uuid4()}")
    options = JobOptions(model="tiny")
    site.cluster.store.submit(job_id, JobKind.TRAIN, spec.to_dict(), owner="test", max_queue=9, options=options)
    job = site.wait_for_state(job_id, JobState.FAILED)
    assert job.error is not None
    assert job.error.param == "file_id"


def test_runs_that_take_too_much_disk_fail_but_old_ones_make_room(redis_server: RedisServer, tmp_path: Path) -> None:
    with running_cluster(redis_server.url, tmp_path, **ENV, SLM_TRAIN_DISK="2000") as cluster:
        cluster.fleet.beat(WorkerReport("w", "h", 1, WorkerState.READY, slots=1), ttl_s=600)
        site = Site(cluster, tmp_path)
        old = site.folder / str(uuid.uuid4())
        old.mkdir(parents=True)
        (old / "weights").write_bytes(bytes(5000))
        site.start_trainer()
        first = site.wait_for_state(site.submit(steps=1), JobState.SUCCEEDED)
        wait_for("the rest to go", lambda: not (site.folder / first.id / "run").exists())
        assert not old.exists()
        (site.folder / first.id / "adapter" / "weights").write_bytes(bytes(5000))
        site.wait_for_state(site.submit(steps=1), JobState.SUCCEEDED)
        assert not (site.folder / first.id).exists()


def test_a_trainer_loads_no_torch_and_its_metrics_are_published(site: Site) -> None:
    trainer = site.start_trainer()
    job_id = site.submit(steps=6, step_s=0.2)
    site.wait_for_step(job_id, 5)
    assert [one.job_id for one in site.trainers.live()] in ([job_id], [None])
    site.wait_for_state(job_id, JobState.SUCCEEDED)
    maps = Path(f"/proc/{trainer.pid}/maps").read_text()
    assert "torch" not in maps
    key = f"slm:worker:{site.trainer()}:metrics"

    def steps() -> float | None:
        found = json.loads(site.cluster.redis.get(key) or "[]")
        values = {name: value for _, _, _, samples in found for name, _, value in samples}
        return values.get("slm_training_steps_total")

    wait_for("the metrics", lambda: steps() == 5)  # the first progress of an attempt only sets the beginning


def test_a_second_signal_does_not_break_the_hand_back(site: Site) -> None:
    trainer = site.start_trainer()
    job_id = site.submit(steps=50, step_s=0.3)
    site.wait_for_step(job_id, 1)
    trainer.signal(signal.SIGTERM)
    wait_for("the run to be handed back", lambda: site.job(job_id).state is JobState.QUEUED)
