"""What an operator can do with jobs that killed their workers; and what an owner has used."""

from __future__ import annotations

import time

import pytest

from common.jobs.store import MAX_CRASHES
from common.redis import keys
from tests.api_in_process import Api
from tests.scripted_worker import Play, answer
from tests.unit.api.conftest import StartApi

UNKNOWN = "00000000-0000-4000-8000-000000000000"
PATIENCE_S = 60.0


class PoisonousOnce:
    """A script: emit nothing for the first job, as a worker that is about to die; answer all others."""

    def __init__(self) -> None:
        self._poisonous: str | None = None

    def __call__(self, play: Play) -> None:
        self._poisonous = self._poisonous or play.job.id
        if play.job.id != self._poisonous:
            answer("It ", "works.")(play)


def kill_worker(api: Api, job_id: str) -> None:
    """Let the lease of the job's worker expire."""
    deadline = time.monotonic() + PATIENCE_S
    while api.redis.zscore(keys.leases("generate"), job_id) is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    api.redis.zadd(keys.leases("generate"), {job_id: 0})
    api.worker.store.reap()


@pytest.fixture
def api(start_api: StartApi) -> Api:
    return start_api(PoisonousOnce())


@pytest.fixture
def poisonous(api: Api) -> str:
    """A dead letter."""
    job_id = api.submit(prompt="poison", seed=7, priority="bulk", ttl=60, timeout=30)
    for _ in range(MAX_CRASHES):
        kill_worker(api, job_id)
    return job_id


def dead_letters(api: Api) -> list[str]:
    return [job["job_id"] for job in api.client.get("/slm/quarantine").json["jobs"]]


def test_the_list_says_what_happened_to_each_job(api: Api, poisonous: str) -> None:
    body = api.client.get("/slm/quarantine").json
    assert body["success"] is True
    [job] = body["jobs"]
    assert (job["job_id"], job["status"], job["attempt"], job["crashes"]) == (poisonous, "failed", 3, 3)
    assert job["error"]["code"] == "worker_lost"


def test_a_retry_is_a_new_job_of_the_same_kind_and_options(api: Api, poisonous: str) -> None:
    old = api.worker.store.get(poisonous)
    accepted = api.client.post(f"/slm/jobs/{poisonous}/retry")
    new_id = accepted.json["job_id"]
    assert accepted.status_code == 202
    assert new_id != poisonous
    assert (accepted.headers["X-Job-Id"], accepted.headers["Location"]) == (new_id, f"/slm/jobs/{new_id}")
    assert api.finish(new_id)["result"]["response"] == "It works."
    new = api.worker.store.get(new_id)
    assert (new.kind, new.params, new.bulk) == (old.kind, old.params, True)
    assert (new.ttl_ms, new.timeout_ms) == (60_000, 30_000)
    assert dead_letters(api) == []
    assert api.redis.ttl(keys.job(poisonous)) > 0


def test_a_job_is_retried_once(api: Api, poisonous: str) -> None:
    assert api.client.post(f"/slm/jobs/{poisonous}/retry").status_code == 202
    again = api.client.post(f"/slm/jobs/{poisonous}/retry")
    assert (again.status_code, again.json["code"]) == (409, "conflict")
    assert len(api.client.get("/slm/jobs").json["jobs"]) == 2


def test_a_refused_retry_keeps_the_dead_letter(api: Api, poisonous: str) -> None:
    api.worker.leave()
    assert api.client.post(f"/slm/jobs/{poisonous}/retry").json["code"] == "no_worker"
    assert dead_letters(api) == [poisonous]


def test_a_dead_letter_can_be_dropped(api: Api, poisonous: str) -> None:
    dropped = api.client.delete(f"/slm/quarantine/{poisonous}")
    assert (dropped.status_code, dropped.json) == (200, {"success": True, "job_id": poisonous})
    assert dead_letters(api) == []
    assert api.client.delete(f"/slm/quarantine/{poisonous}").json["code"] == "job_not_found"
    assert api.job(poisonous)["status"] == "failed"  # until it expires


@pytest.mark.parametrize("job_id", [UNKNOWN, "nope", "a:b", "*"])
def test_an_unknown_job_is_404(api: Api, job_id: str) -> None:
    for refused in (api.client.post(f"/slm/jobs/{job_id}/retry"), api.client.delete(f"/slm/quarantine/{job_id}")):
        assert (refused.status_code, refused.json["code"]) == (404, "job_not_found")


def test_a_job_that_is_not_a_dead_letter_cannot_be_retried_or_dropped(start_api: StartApi) -> None:
    api = start_api()
    job_id = api.generate().json["job_id"]
    assert api.client.post(f"/slm/jobs/{job_id}/retry").json["code"] == "conflict"
    assert api.client.delete(f"/slm/quarantine/{job_id}").json["code"] == "job_not_found"


def test_usage_counts_what_ended(start_api: StartApi) -> None:
    api = start_api()
    empty = {"jobs": 0, "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert api.client.get("/slm/usage").json == {"success": True, "owner": "anonymous", "role": "admin"} | empty
    api.generate(prompt="one two")
    api.stream(prompt="three").get_data()
    assert api.client.get("/slm/usage").json == {
        "success": True,
        "owner": "anonymous",
        "role": "admin",
        "jobs": 2,
        "prompt_tokens": 3,
        "completion_tokens": 6,
        "total_tokens": 9,
    }
