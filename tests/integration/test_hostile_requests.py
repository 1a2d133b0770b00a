"""Real worker processes with requests that may never end: only their own job fails, and others are hardly affected."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from common.errors import InvalidRequest, PromptTooLong
from common.jobs.job import JobKind, JobState, Lane
from common.jobs.preparation import LONG_PROMPT
from common.jobs.sampling import Grammar, GrammarKind
from tests.processes import Cluster, Reader, running_cluster, wait_for
from tests.redis_server import RedisServer


@pytest.fixture
def cluster(redis_server: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(redis_server.url, tmp_path, SLM_LEASE_S="2", SLM_DRAIN_S="1", SLM_MAX_NUM_SEQS="4") as cluster:
        cluster.start_worker("a")
        cluster.wait_until_taking_jobs("a")
        yield cluster


def hostile(number: int) -> Grammar:
    """A unique grammar whose compilation never ends."""
    return Grammar(GrammarKind.JSON_SCHEMA, f'{{"type": "integer", "multipleOf": {1_000_003 + 2 * number}}}')


def is_preparing(cluster: Cluster) -> bool:
    return cluster.store.running(Lane.PREPARE) > 0


def refusal_of(cluster: Cluster, job_id: str, reader: Reader) -> InvalidRequest:
    reader.to_end()
    record = cluster.store.get(job_id)
    assert record.state is JobState.FAILED
    assert isinstance(record.error, InvalidRequest)
    return record.error


def test_hostile_grammars_are_refused_by_field_while_others_continue(cluster: Cluster) -> None:
    attacks = [cluster.stream("x", grammar=hostile(number)) for number in range(12)]
    wait_for("an attack to be under way", lambda: is_preparing(cluster))

    for number in range(3):
        _, ordinary = cluster.stream(f"ordinary {number}")
        ordinary.to_end()
        assert ordinary.text == f"ordinary {number}"
    assert cluster.store.depth(Lane.PREPARE) > 0, "the attack was still going on"

    for job_id, reader in attacks:
        error = refusal_of(cluster, job_id, reader)
        assert error.param == "response_format"
        assert "to compile" in error.message


def test_a_grammar_that_explodes_in_the_middle_of_an_answer_ends_that_answer(cluster: Cluster) -> None:
    late = Grammar(GrammarKind.REGEX, "[a-z]{60}" + ".?" * 31_000)
    job_id, reader = cluster.stream("x" * 80, grammar=late)
    neighbour_id, neighbour = cluster.stream("endless", max_new_tokens=500)

    error = refusal_of(cluster, job_id, reader)

    assert error.param == "regex"
    assert reader.text.startswith("x" * 50)
    neighbour.to_end()
    assert cluster.store.get(neighbour_id).state is JobState.SUCCEEDED
    report = cluster.worker("a")
    assert report is not None, "the worker is the same, and alive"
    assert report.pid == cluster.processes("a")[0].pid


def test_a_job_whose_grammar_takes_long_is_cancelled_at_once(cluster: Cluster) -> None:
    job_id, reader = cluster.stream("x", grammar=hostile(0))
    wait_for("the attack to be under way", lambda: is_preparing(cluster))

    cluster.store.cancel(job_id)
    reader.to_end()

    assert cluster.store.get(job_id).state is JobState.CANCELLED
    worker = psutil.Process(cluster.processes("a")[0].pid)
    wait_for("its process to be gone", lambda: not _busy_children(worker))


def _busy_children(worker: psutil.Process) -> list[psutil.Process]:
    return [one for one in worker.children(recursive=True) if one.status() == psutil.STATUS_RUNNING]


def test_an_unload_does_not_wait_for_grammars(cluster: Cluster) -> None:
    attacks = [cluster.stream("x", grammar=hostile(number)) for number in range(12)]
    wait_for("an attack to be under way", lambda: is_preparing(cluster))

    unloaded = cluster.finish(JobKind.UNLOAD)

    assert unloaded.state is JobState.SUCCEEDED
    assert any(not cluster.store.get(job_id).state.is_terminal for job_id, _ in attacks)
    for job_id, reader in attacks:  # the next one loads the model again, as any job would
        refusal_of(cluster, job_id, reader)


def test_a_terminated_worker_releases_the_jobs_that_it_prepares(cluster: Cluster) -> None:
    job_id, reader = cluster.stream("x", grammar=hostile(0))
    wait_for("the attack to be under way", lambda: is_preparing(cluster))
    worker = cluster.processes("a")[0]
    children = psutil.Process(worker.pid).children(recursive=True)

    worker.signal(signal.SIGTERM)
    assert worker.terminate() == 0

    wait_for("its children to be gone", lambda: not any(child.is_running() for child in children))
    record = cluster.store.get(job_id)
    assert (record.state, record.lane, record.crashes) == (JobState.QUEUED, Lane.PREPARE, 0)
    cluster.start_worker("b")
    assert refusal_of(cluster, job_id, reader).param == "response_format"


def test_long_texts_are_shown_and_too_long_ones_refused(cluster: Cluster) -> None:
    """The fake model has a token for each byte, and a context of 2,048."""
    long_id, long = cluster.submit(JobKind.STREAM, "x" * (LONG_PROMPT + 1))
    assert isinstance(refusal_of(cluster, long_id, long), PromptTooLong)


def test_a_grammar_that_was_prepared_once_needs_no_preparation(cluster: Cluster) -> None:
    grammar = Grammar(GrammarKind.REGEX, "[a-z]{3}")
    for _ in range(2):
        job_id, reader = cluster.stream("abc", grammar=grammar)
        reader.to_end()
        assert cluster.store.get(job_id).attempt == 1
        assert reader.text == "abc"
    cluster.redis.set("slm:lane:prepare:probe", 1)

    job_id, reader = cluster.stream("abc", grammar=grammar)

    assert cluster.store.get(job_id).lane is Lane.GENERATE
    reader.to_end()
