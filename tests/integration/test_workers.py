"""Real worker processes on a real Redis with a fake model: working together, and being killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.adapters.registry import AdapterRegistry
from common.errors import InvalidRequest, JobTimeout, ModelUnavailable, PromptTooLong
from common.fleet import WorkerReport, WorkerState
from common.jobs.events import EventType
from common.jobs.job import JobKind, JobState
from common.jobs.logprobs import TokenLogprobs
from common.jobs.sampling import Grammar, GrammarKind
from common.jobs.store import JobOptions
from tests.processes import Cluster, Reader, running_cluster, wait_for
from tests.redis_server import RedisServer, running_server

ENDLESS = "abc "
SLOW = {"FAKE_STEP_MS": "40"}  # so that a worker is killed before its jobs end, also on a busy machine


@pytest.fixture
def cluster(redis_server: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(redis_server.url, tmp_path, SLM_LEASE_S="2", SLM_DRAIN_S="1") as cluster:
        yield cluster


def assert_whole(reader: Reader, tokens: int) -> None:
    """Check that nothing is lost, duplicated or out of order, and that there is one end."""
    events = reader.to_end()
    assert [event.seq for event in events] == list(range(len(events)))
    assert reader.text == (ENDLESS * tokens)[:tokens]
    assert [event.type for event in events if event.type.is_terminal] == [EventType.FINISHED]
    assert [event.data["is_last"] for event in events if event.type is EventType.TOKEN][-1]


def test_many_jobs_at_once_each_get_their_own_answer(cluster: Cluster) -> None:
    cluster.start_worker("a", SLM_MAX_NUM_SEQS="4")
    cluster.wait_until_taking_jobs("a")
    jobs = [(f"prompt number {n}", cluster.stream(f"prompt number {n}")) for n in range(20)]
    for prompt, (job_id, reader) in jobs:
        reader.to_end()
        assert reader.text == prompt
        record = cluster.store.get(job_id)
        assert record.state is JobState.SUCCEEDED
        assert record.result is not None
        assert record.result["response"] == prompt
    report = wait_for("the worker to be idle", lambda: (one := cluster.worker("a")) and not one.running and one)
    assert report.state is WorkerState.READY


def test_load_and_unload_reach_every_worker_and_a_later_one_loads_first(cluster: Cluster) -> None:
    cluster.fleet.set_desired(loaded=False)
    for name in "ab":
        cluster.start_worker(name)
    cluster.wait_until_taking_jobs("a", "b")
    assert {one.state for one in cluster.fleet.workers()} == {WorkerState.UNLOADED}

    loaded = cluster.finish(JobKind.LOAD)
    assert loaded.result is not None
    assert [one["state"] for one in loaded.result["workers"]] == ["ready", "ready"]
    assert {one.state for one in cluster.fleet.workers()} == {WorkerState.READY}

    cluster.start_worker("c")
    report = wait_for("the third worker", lambda: (one := cluster.worker("c")) and one.slots and one)
    assert report.state is WorkerState.READY

    unloaded = cluster.finish(JobKind.UNLOAD)
    assert unloaded.result is not None
    assert [one["state"] for one in unloaded.result["workers"]] == ["unloaded"] * 3


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A file that stands for the fake model's adapter."""
    file = tmp_path / "adapter"
    file.write_text("first")
    return file


def load_result(cluster: Cluster) -> dict[str, Any]:
    result = cluster.finish(JobKind.LOAD).result
    assert result is not None
    return result


def test_a_load_reads_changed_files_into_every_worker_and_says_what_changed(cluster: Cluster, adapter: Path) -> None:
    for name in "ab":
        cluster.start_worker(name, FAKE_ADAPTER_FILE=str(adapter))
    cluster.wait_until_taking_jobs("a", "b")
    assert {one.adapter_id for one in cluster.fleet.workers()} == {"first"}

    assert load_result(cluster)["changed"] == []
    adapter.write_text("second")
    result = load_result(cluster)
    assert (result["changed"], result["base_id"], result["adapter_id"]) == (["adapter"], "fake", "second")
    assert {one.adapter_id for one in cluster.fleet.workers()} == {"second"}
    assert load_result(cluster)["changed"] == []

    cluster.finish(JobKind.UNLOAD)
    assert {one.base_id for one in cluster.fleet.workers()} == {None}
    assert load_result(cluster)["changed"] == ["base", "adapter"]


def test_running_jobs_keep_their_model_and_new_ones_wait_for_the_new_model(cluster: Cluster, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.write_text("first")
    cluster.start_worker("a", FAKE_BASE_FILE=str(base), **SLOW)
    cluster.wait_until_taking_jobs("a")
    _, running = cluster.stream("endless", max_new_tokens=100)
    wait_for("some tokens", lambda: len(running.text) > 5)
    base.write_text("second")

    _, load = cluster.submit(JobKind.LOAD)
    wait_for("the load to begin", lambda: any(event.type is EventType.STATUS for event in load.events))
    _, waiting = cluster.stream("hello")
    waiting.to_end()

    assert_whole(running, 100)
    assert waiting.events[0].data["status"] == "Loading SLM model..."
    assert load.to_end()[-1].type is EventType.FINISHED


def test_a_later_worker_with_other_files_makes_all_workers_load_them(cluster: Cluster, adapter: Path) -> None:
    cluster.start_worker("a", FAKE_ADAPTER_FILE=str(adapter))
    cluster.wait_until_taking_jobs("a")
    adapter.write_text("second")

    cluster.start_worker("b", FAKE_ADAPTER_FILE=str(adapter))

    def ids() -> list[str | None]:
        return [one.adapter_id for one in cluster.fleet.workers() if one.holds_model]

    wait_for("both to hold the new adapter", lambda: ids() == ["second", "second"])


def test_workers_with_different_files_are_named(cluster: Cluster, adapter: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("theirs")
    cluster.start_worker("a", FAKE_ADAPTER_FILE=str(adapter))
    cluster.start_worker("b", FAKE_ADAPTER_FILE=str(other))
    cluster.wait_until_taking_jobs("a", "b")

    record = cluster.finish(JobKind.LOAD)

    assert record.state is JobState.FAILED
    assert record.error is not None
    assert record.error.code == ModelUnavailable.code
    for part in ("a@", "b@", "first", "theirs", "same files"):
        assert part in record.error.message


def test_unreadable_files_make_the_load_fail(cluster: Cluster, adapter: Path) -> None:
    cluster.start_worker("a", FAKE_ADAPTER_FILE=str(adapter))
    cluster.wait_until_taking_jobs("a")
    adapter.unlink()

    assert cluster.finish(JobKind.LOAD).state is JobState.FAILED
    adapter.write_text("back")
    assert load_result(cluster)["adapter_id"] == "back"


def test_a_generation_on_an_unloaded_model_loads_it_and_reports_it(cluster: Cluster) -> None:
    cluster.fleet.set_desired(loaded=False)
    cluster.start_worker("a")
    cluster.wait_until_taking_jobs("a")
    _, reader = cluster.stream("hi")
    lines = [event.data["status"] for event in reader.to_end() if event.type is EventType.STATUS]
    assert lines == ["Loading SLM model...", "Model loaded on cpu", "Generating response..."]
    assert reader.text == "hi"


def test_unloading_waits_for_running_jobs(cluster: Cluster) -> None:
    cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    _, reader = cluster.stream("endless", max_new_tokens=60)
    wait_for("the first tokens", lambda: reader.text)
    assert cluster.finish(JobKind.UNLOAD).state is JobState.SUCCEEDED
    assert_whole(reader, 60)


def test_a_model_that_cannot_be_loaded_fails_the_jobs_with_its_reason(cluster: Cluster) -> None:
    cluster.start_worker("a", FAKE_LOAD_ERROR="there is no such folder")
    cluster.wait_until_taking_jobs("a")
    assert cluster.worker("a").state is WorkerState.FAILED
    for kind in (JobKind.GENERATE, JobKind.LOAD):
        record = cluster.finish(kind)
        assert isinstance(record.error, ModelUnavailable)
        assert "there is no such folder" in record.error.message


def test_a_prompt_that_is_too_long_is_the_jobs_first_event(cluster: Cluster) -> None:
    cluster.start_worker("a", SLM_CONTEXT="64")
    cluster.wait_until_taking_jobs("a")
    job_id, reader = cluster.stream("x" * 100)
    (event,) = reader.to_end()
    assert event.type is EventType.ERROR
    assert isinstance(cluster.store.get(job_id).error, PromptTooLong)


def test_a_running_job_is_cancelled_at_its_next_token(cluster: Cluster) -> None:
    cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    job_id, reader = cluster.stream("endless", max_new_tokens=1000)
    wait_for("the first tokens", lambda: reader.text)
    cluster.store.cancel(job_id)
    events = reader.to_end()
    assert events[-1].data["state"] == "cancelled"
    record = cluster.store.get(job_id)
    assert record.state is JobState.CANCELLED
    assert record.result is not None
    assert record.result["response"] == reader.text.strip()
    assert len(reader.text) < 500
    wait_for("the worker to be free", lambda: (one := cluster.worker("a")) and not one.running)


def test_a_job_that_runs_too_long_fails(cluster: Cluster) -> None:
    cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    job_id, reader = cluster.stream("endless", JobOptions(timeout_s=1), max_new_tokens=1800)
    assert reader.to_end()[-1].type is EventType.ERROR
    assert isinstance(cluster.store.get(job_id).error, JobTimeout)
    wait_for("the worker to be free", lambda: (one := cluster.worker("a")) and not one.running)


def test_a_job_without_a_reader_is_cancelled_after_its_grace(cluster: Cluster) -> None:
    cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    job_id, reader = cluster.stream("endless", JobOptions(reader_grace_s=1), max_new_tokens=1800)
    assert reader.to_end()[-1].data["state"] == "cancelled"
    assert cluster.store.get(job_id).state is JobState.CANCELLED


def test_unread_answers_delay_nobody_and_continue_when_they_are_read_again(cluster: Cluster) -> None:
    cluster.start_worker("a", SLM_MAX_NUM_SEQS="2", FAKE_STEP_MS="20")
    cluster.wait_until_taking_jobs("a")
    options = JobOptions(reader_grace_s=60)
    left = [cluster.stream("endless", options, max_new_tokens=400) for _ in range(2)]
    for _, reader in left:
        wait_for("the first tokens", lambda reader=reader: reader.text)
    cluster.store.note_readers({job_id: False for job_id, _ in left}, 60)
    _, normal = cluster.stream("hello", options)
    normal.to_end()
    assert normal.text == "hello"
    assert any(cluster.store.get(job_id).attempt == 2 or len(reader.text) < 400 for job_id, reader in left)
    cluster.store.note_readers({job_id: True for job_id, _ in left}, 60)
    for job_id, reader in left:
        assert_whole(reader, 400)
        assert cluster.store.get(job_id).crashes == 0
    assert {cluster.store.get(job_id).attempt for job_id, _ in left} == {1, 2}, "one made room"


def test_a_load_job_can_be_cancelled_while_it_waits(cluster: Cluster) -> None:
    cluster.start_worker("a")
    cluster.wait_until_taking_jobs("a")
    stuck = WorkerReport(id="stuck@elsewhere", host="h", pid=1, state=WorkerState.LOADING)
    cluster.fleet.beat(stuck, ttl_s=60)
    job_id, reader = cluster.submit(JobKind.LOAD)
    wait_for("the job to wait", lambda: reader.events)
    cluster.store.cancel(job_id)
    assert reader.to_end()[-1].data["state"] == "cancelled"


def test_a_killed_workers_generation_continues_at_its_next_token(cluster: Cluster) -> None:
    first = cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    streams = [cluster.stream("endless", max_new_tokens=150) for _ in range(3)]
    for _, reader in streams:
        wait_for("the first tokens", lambda reader=reader: reader.text)
    first.kill()
    cluster.start_worker("b", **SLOW)
    for job_id, reader in streams:
        assert_whole(reader, 150)
        assert cluster.store.get(job_id).attempt == 2


def test_running_and_waiting_jobs_keep_their_model_when_the_alias_moves_and_their_worker_dies(cluster: Cluster) -> None:
    first = cluster.start_worker("a", **SLOW, SLM_MAX_NUM_SEQS="1")
    cluster.wait_until_taking_jobs("a")
    registry = AdapterRegistry(cluster.redis)
    registry.note_base("other", "b2")
    registry.set_alias("prod", "fake", set_by="ops")
    running = cluster.stream("endless", JobOptions(model="prod"), max_new_tokens=100)
    wait_for("the first tokens", lambda: running[1].text)
    waiting = [cluster.stream("endless", JobOptions(model="prod"), max_new_tokens=5) for _ in range(3)]
    registry.set_alias("prod", "other", set_by="ops")
    first.kill()
    cluster.start_worker("b", **SLOW)
    for job_id, reader in (running, *waiting):
        reader.to_end()
        record = cluster.store.get(job_id)
        assert (record.state, record.model, record.base) == (JobState.SUCCEEDED, "fake", "fake")
    assert cluster.store.get(running[0]).attempt == 2


def test_the_log_probabilities_of_both_attempts_make_one_answer(cluster: Cluster) -> None:
    first = cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    job_id, reader = cluster.stream("endless", max_new_tokens=80, logprobs=1)
    wait_for("the first tokens", lambda: reader.text)
    first.kill()
    cluster.start_worker("b", **SLOW)
    assert_whole(reader, 80)
    record = cluster.store.get(job_id)
    assert record.attempt == 2
    assert record.result is not None
    scored = [TokenLogprobs.from_wire(one) for one in record.result["logprobs"]]
    assert record.result["logprobs"] == [one for event in reader.to_end() for one in event.data.get("logprobs", ())]
    assert b"".join(one.chosen.token for one in scored).decode() == reader.text
    assert all(one.top == (one.chosen,) for one in scored)


def test_a_grammar_still_holds_after_a_worker_dies_inside_a_string(cluster: Cluster) -> None:
    first = cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    grammar = Grammar(GrammarKind.REGEX, r'\{"said":"[a-z ]{80}"\}')
    job_id, reader = cluster.stream("endless", grammar=grammar, max_new_tokens=500)
    wait_for("the string's beginning", lambda: len(reader.text) > 20)
    first.kill()
    cluster.start_worker("b", **SLOW)
    reader.to_end()
    record = cluster.store.get(job_id)
    assert (record.state, record.attempt) == (JobState.SUCCEEDED, 2)
    assert record.result is not None
    assert record.result["finish_reason"] == "stop"
    start = '{"said":"'
    assert reader.text == start + (ENDLESS * 30)[len(start) : len(start) + 80] + '"}'


def test_an_unusable_grammar_is_the_jobs_first_event_and_a_usable_one_keeps_its_spaces(
    cluster: Cluster,
) -> None:
    cluster.start_worker("a")
    cluster.wait_until_taking_jobs("a")
    refused, reader = cluster.stream(grammar=Grammar(GrammarKind.REGEX, "(a"))
    assert [event.type for event in reader.to_end()] == [EventType.ERROR]
    assert isinstance(error := cluster.store.get(refused).error, InvalidRequest)
    assert error.param == "regex"
    taken, reader = cluster.stream(grammar=Grammar(GrammarKind.CHOICE, '[" left ", " right "]'))
    reader.to_end()
    result = cluster.store.get(taken).result
    assert result is not None
    assert result["response"] in (" left ", " right ")


def test_a_terminated_worker_releases_its_generations_and_exits_cleanly(cluster: Cluster) -> None:
    first = cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    job_id, reader = cluster.stream("endless", max_new_tokens=1800)
    wait_for("the first tokens", lambda: reader.text)
    cluster.start_worker("b")
    cluster.wait_until_taking_jobs("b")
    assert first.terminate() == 0
    assert cluster.worker("a") is None
    assert_whole(reader, 1800)
    record = cluster.store.get(job_id)
    assert (record.attempt, record.crashes) == (2, 0)


def test_a_paused_worker_that_resumes_writes_nothing_more(cluster: Cluster) -> None:
    first = cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    job_id, reader = cluster.stream("endless", max_new_tokens=1800)
    wait_for("the first tokens", lambda: reader.text)
    first.signal(signal.SIGSTOP)
    cluster.start_worker("b", FAKE_STEP_MS="4")
    wait_for("the second attempt", lambda: cluster.store.get(job_id).attempt == 2)
    first.signal(signal.SIGCONT)
    assert_whole(reader, 1800)
    wait_for("the first worker to drop the job", lambda: (one := cluster.worker("a")) and not one.running)
    assert cluster.store.get(job_id).attempt == 2


def test_a_worker_survives_a_crash_of_redis(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with (
        running_server(tmp_path / "redis") as server,
        running_cluster(server.url, tmp_path, SLM_LEASE_S="2") as cluster,
    ):
        worker = cluster.start_worker("a", **SLOW)
        cluster.wait_until_taking_jobs("a")
        _, before = cluster.stream("endless", max_new_tokens=10)
        assert_whole(before, 10)
        server.kill()
        server.start()
        wait_for("the worker to be back", lambda: (one := cluster.worker("a")) and one.slots)
        _, after = cluster.stream("endless", max_new_tokens=10)
        assert_whole(after, 10)
        assert worker.is_running()


def test_pauses_of_redis_longer_than_the_lease_do_not_count_as_crashes(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with (
        running_server(tmp_path / "redis") as server,
        running_cluster(server.url, tmp_path, SLM_LEASE_S="1") as cluster,
    ):
        worker = cluster.start_worker("a", FAKE_STEP_MS="30")
        other = cluster.start_worker("b", FAKE_STEP_MS="30")
        cluster.wait_until_taking_jobs("a", "b")
        jobs = [cluster.stream("endless", max_new_tokens=200) for _ in range(4)]
        for _ in range(3):
            seen = [len(reader.text) for _, reader in jobs]
            wait_for("tokens", lambda seen=seen: all(len(r.text) > n for (_, r), n in zip(jobs, seen, strict=True)))
            server.pause()
            time.sleep(4)
            server.resume()
        for job_id, reader in jobs:
            assert_whole(reader, 200)
            record = cluster.store.get(job_id)
            assert (record.attempt, record.crashes) == (1, 0)
        assert worker.is_running()
        assert other.is_running()
