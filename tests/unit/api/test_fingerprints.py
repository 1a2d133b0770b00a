"""`system_fingerprint`: it changes with everything that changes an answer, and with nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from api.fingerprints import CACHE_S, Fingerprints
from common.fleet import WorkerReport, WorkerState
from common.jobs.job import JobRecord
from tests.api_in_process import REPORT

FIELDS = {
    "id": "1",
    "kind": "generate",
    "lane": "generate",
    "owner": "me",
    "state": "queued",
    "attempt": "0",
    "crashes": "0",
    "created_ms": "0",
}


def record(base: str = "gpt2", adapter_id: str = "a1") -> JobRecord:
    return JobRecord.from_hash(FIELDS | {"model": "any", "base": base, "adapter_id": adapter_id})


def fingerprint(*reports: WorkerReport, base: str = "gpt2", adapter_id: str = "a1") -> str:
    return Fingerprints(lambda: reports).of(record(base, adapter_id))


USUAL = fingerprint(REPORT)


@pytest.mark.parametrize("change", [{"dtype": "int8"}, {"device": "cpu"}, {"base_id": "b2"}])
def test_it_depends_on_what_the_worker_computes_with(change: dict[str, str]) -> None:
    assert fingerprint(REPORT.but(**change)) != USUAL


def test_it_depends_on_the_base_and_the_adapters_content() -> None:
    assert fingerprint(REPORT, adapter_id="a2") != USUAL
    assert fingerprint(REPORT, adapter_id="") != USUAL
    assert fingerprint(REPORT, base="other") != USUAL


def test_it_does_not_depend_on_the_worker_or_on_those_of_other_bases() -> None:
    other = REPORT.but(id="a", base_model="other", dtype="int8")
    assert fingerprint(REPORT.but(id="other", running=3)) == fingerprint(other, REPORT) == USUAL


def test_a_worker_that_has_loaded_its_model_counts_before_others() -> None:
    assert fingerprint(REPORT.but(id="a", state=WorkerState.LOADING, dtype=None, base_id=None), REPORT) == USUAL


def test_it_looks_at_the_workers_only_now_and_then() -> None:
    now, looks = [0.0], []

    def workers() -> Sequence[WorkerReport]:
        looks.append(now[0])
        return [REPORT]

    fingerprints = Fingerprints(workers, clock=lambda: now[0])
    for now[0] in (0.0, CACHE_S - 0.1, CACHE_S, CACHE_S + 0.1):
        assert fingerprints.of(record()) == USUAL
    assert looks == [0.0, CACHE_S]
