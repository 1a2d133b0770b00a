"""Jobs by their id: look, list, cancel."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from common.errors import PromptTooLong
from common.jobs.store import JobStore
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi

UNKNOWN = "00000000-0000-4000-8000-000000000000"
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_a_finished_job_shows_everything(api: Api) -> None:
    answer = api.generate()
    job = api.job(answer.json["job_id"])
    assert (job["kind"], job["status"], job["position"], job["attempt"]) == ("generate", "succeeded", None, 1)
    assert job["text"] == "Once upon a time."
    assert job["result"] == answer.json
    assert job["error"] is None
    assert all(ISO.fullmatch(job[name]) for name in ("created_at", "started_at", "finished_at"))
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    timings = job["timings"]
    assert timings["total_ms"] == timings["queue_ms"] + timings["run_ms"]
    assert timings["first_token_ms"] == 1.5


def test_a_running_job_shows_its_text_so_far(start_api: StartApi) -> None:
    said, go_on = threading.Event(), threading.Event()

    def script(play: Play) -> None:
        play.say(" so ", "far ")
        said.set()
        assert go_on.wait(60)
        play.end("so good")

    api = start_api(script)
    job_id = api.submit()
    assert said.wait(60)
    job = api.job(job_id)
    assert (job["status"], job["text"], job["result"]) == ("running", "so far", None)
    assert (job["finished_at"], job["timings"]["run_ms"]) == (None, None)
    go_on.set()
    assert api.finish(job_id)["text"] == "so far so good"


def test_a_queued_job_shows_its_queue_position(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    jobs = [api.submit() for _ in range(5)]  # two run, one wake-up message is ahead, two in the queue
    assert [api.job(job_id)["position"] for job_id in jobs[3:]] == [1, 2]
    waiting = api.job(jobs[4])
    assert (waiting["status"], waiting["attempt"], waiting["started_at"]) == ("queued", 0, None)


def test_a_failed_job_shows_its_error(start_api: StartApi) -> None:
    api = start_api(lambda play: play.fail(PromptTooLong("Too long.", param="prompt")))
    job = api.finish(api.submit())
    assert (job["success"], job["status"], job["result"]) == (True, "failed", None)
    assert job["error"] == {"code": "prompt_too_long", "message": "Too long.", "param": "prompt"}


def test_cancelling_a_queued_job_ends_it_at_once(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    waiting = [api.submit() for _ in range(4)][3]
    answer = api.client.delete(f"/slm/jobs/{waiting}")
    assert answer.status_code == 200
    assert answer.json == {"success": True, "job_id": waiting, "status": "cancelled", "cancelling": False}
    job = api.job(waiting)
    assert (job["status"], job["result"], job["attempt"]) == ("cancelled", None, 0)


def test_cancelling_a_running_job_stops_it_and_keeps_what_it_has(start_api: StartApi) -> None:
    said = threading.Event()

    def script(play: Play) -> None:
        play.say("so far")
        said.set()
        play.run_until_cancelled()

    api = start_api(script)
    job_id = api.submit()
    assert said.wait(60)
    answer = api.client.delete(f"/slm/jobs/{job_id}")
    assert answer.json == {"success": True, "job_id": job_id, "status": "running", "cancelling": True}
    job = api.finish(job_id)
    assert (job["status"], job["text"]) == ("cancelled", "so far")
    assert (job["result"]["success"], job["result"]["finish_reason"]) == (False, "cancelled")


def test_cancelling_an_ended_job_changes_nothing(api: Api) -> None:
    job_id = api.generate().json["job_id"]
    before = api.job(job_id)
    answer = api.client.delete(f"/slm/jobs/{job_id}")
    assert answer.json == {"success": True, "job_id": job_id, "status": "succeeded", "cancelling": False}
    assert api.job(job_id) == before


def test_the_list_is_newest_first_and_short(api: Api) -> None:
    jobs = []
    for _ in range(3):
        jobs.insert(0, api.generate().json["job_id"])
    jobs.insert(0, api.client.post("/slm/load").json["job_id"])
    listed = api.client.get("/slm/jobs").json
    assert listed["success"] is True
    assert {job["job_id"] for job in listed["jobs"]} == set(jobs)
    assert [job["created_at"] for job in listed["jobs"]] == sorted(
        (job["created_at"] for job in listed["jobs"]), reverse=True
    )
    assert set(listed["jobs"][0]) == {
        "job_id",
        "kind",
        "status",
        "attempt",
        "created_at",
        "started_at",
        "finished_at",
        "model",
        "base",
        "adapter_id",
        "owner",
    }


def test_the_list_does_not_read_the_jobs_bodies(api: Api) -> None:
    """A thousand prompts of a megabyte would be read from Redis for nothing."""
    api.generate(prompt="x" * 1000)
    [listed] = JobStore(api.redis, lambda _: None, job_ttl_s=60).newest(10)
    assert (listed.state, listed.params, listed.result) == ("succeeded", {}, None)


def test_the_list_can_be_limited(api: Api) -> None:
    for _ in range(3):
        api.generate()
    assert len(api.client.get("/slm/jobs?limit=2").json["jobs"]) == 2


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.0", "٣", "9" * 40])
def test_a_limit_out_of_range_is_refused_by_name(api: Api, limit: str) -> None:
    answer = api.client.get("/slm/jobs", query_string={"limit": limit})
    assert (answer.status_code, answer.json["param"]) == (400, "limit")
    assert answer.json["error"].startswith("limit must be an integer from 1 to 1000; got ")


@pytest.mark.parametrize("method", ["get", "delete"])
@pytest.mark.parametrize("job_id", [UNKNOWN, "nope", "a:b", "*", "%00", UNKNOWN.upper().replace("0", "A")])
def test_an_unknown_id_is_404(api: Api, method: str, job_id: str) -> None:
    answer = getattr(api.client, method)(f"/slm/jobs/{job_id}")
    assert (answer.status_code, answer.json["code"]) == (404, "job_not_found")


def test_an_id_cannot_reach_another_key_of_the_store(api: Api) -> None:
    job_id = api.generate().json["job_id"]
    assert api.client.get(f"/slm/jobs/{job_id}:log").json["code"] == "job_not_found"
    assert api.client.get(f"/slm/jobs/{job_id}:log/stream").json["code"] == "job_not_found"


def test_a_job_whose_record_has_expired_is_404(api: Api) -> None:
    job_id = api.generate().json["job_id"]
    api.redis.delete(f"slm:job:{job_id}", f"slm:job:{job_id}:log")
    assert api.client.get(f"/slm/jobs/{job_id}").status_code == 404
    assert api.client.get("/slm/jobs").json["jobs"] == []


def test_the_list_can_be_searched_for_a_prompt(api: Api) -> None:
    messages = [{"role": "user", "content": "Where is the LIGHTHOUSE?"}]
    chat = api.client.post("/v1/chat/completions", json={"messages": messages}).headers["X-Job-Id"]
    plain = api.generate(prompt="A lighthouse keeper").json["job_id"]
    api.generate(prompt="Something else")

    def found(**query: Any) -> list[str]:
        return [job["job_id"] for job in api.client.get("/slm/jobs", query_string=query).json["jobs"]]

    assert set(found(q="lighthouse")) == {chat, plain}
    assert found(q="lighthouse k") == found(q=plain[:13].upper()) == [plain]
    assert len(found(q="lighthouse", limit=1)) == 1
    assert found(q="nowhere") == []


@pytest.mark.parametrize("text", ["", "x" * 201], ids=["empty", "long"])
def test_a_search_for_a_text_without_a_usual_length_is_refused(api: Api, text: str) -> None:
    answer = api.client.get("/slm/jobs", query_string={"q": text})
    assert (answer.status_code, answer.json["param"]) == (400, "q")
