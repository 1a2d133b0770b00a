"""The routes that train and evaluate: what they accept, who may use them, and what clients see of a run."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from pydantic import TypeAdapter
from redis import Redis
from werkzeug.test import TestResponse

from api.schemas.frames import Frame
from api.schemas.jobs import Job
from api.schemas.training import Evaluated, RunState, Trained
from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.jobs.job import JobKind
from common.jobs.store import JobStore
from common.owners.api_keys import ApiKeyStore, Role
from common.owners.files import FileStore
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import SAMPLES, Play, trained
from tests.unit.api.conftest import StartApi, data_of, wait_until

Json = dict[str, Any]
PAIRS = [{"instruction": "Who?", "response": "Ottoline."}, {"instruction": "Where?", "response": "Brindle Cove."}]


def train(api: Api, headers: dict[str, str] | None = None, **body: Any) -> TestResponse:
    given = {"name": "support", "data": PAIRS} | body
    sent = {name: value for name, value in given.items() if value is not None}
    return api.client.post("/slm/train", json=sent, headers=headers)


def finished(api: Api, response: TestResponse) -> Json:
    assert response.status_code == 202, response.text
    return check(api.finish(str(response.json["job_id"])), Job)


def check(body: Json, model: Any) -> Json:
    """Check that a body is as the reference describes it."""
    TypeAdapter(model).validate_json(json.dumps(body), strict=True)
    return body


def put_file(redis: Redis, owner: str = "anonymous", purpose: str = "fine-tune") -> str:
    return FileStore(redis, ttl_s=60).put(owner, "a.jsonl", purpose, ["{}"]).id


class Waiting:
    """A script that ends only when it is told to."""

    def __init__(self) -> None:
        self.plays: list[Play] = []

    def __call__(self, play: Play) -> None:
        self.plays.append(play)


# -- training ----------------------------------------------------------------------------------------------------------


def test_a_dataset_in_the_body_is_stored_and_a_run_reads_it(api: Api, redis: Redis) -> None:
    job = finished(api, train(api))
    assert (job["kind"], job["status"], job["base"], job["model"]) == ("train", "succeeded", "gpt2", "gpt2")
    result = check(job["result"], Trained)
    assert (result["name"], result["version"], result["published"]) == ("support", 1, True)
    params = json.loads(redis.hget(f"slm:job:{job['job_id']}", "params"))
    kept = "".join(FileStore(redis, ttl_s=60).content(params["file_id"]))
    assert [json.loads(line) for line in kept.splitlines()] == PAIRS


def test_a_run_gets_what_the_client_chose_and_defaults_for_the_rest(api: Api, redis: Redis) -> None:
    prompts = [{"prompt": "Who?", "expected": ["Ottoline"]}]
    sent = {"epochs": 3, "rank": 8, "seed": 5, "publish": False, "method": "supervised", "prompts": prompts}
    job = finished(api, train(api, **sent))
    params = json.loads(redis.hget(f"slm:job:{job['job_id']}", "params"))
    assert params["recipe"] == {"epochs": 3, "rank": 8}
    assert (params["seed"], params["publish"], params["force"], params["method"]) == (5, False, False, "supervised")
    assert params["prompts"] == [{**prompts[0], "json_schema": None}]


def test_an_ended_run_is_kept_longer_than_other_jobs(start_api: StartApi, redis: Redis) -> None:
    api = start_api(train_ttl_s=100_000)
    job = finished(api, train(api))
    assert 50_000 < redis.ttl(f"slm:job:{job['job_id']}") <= 100_000


def test_a_run_continues_the_version_that_its_name_stood_for(api: Api, redis: Redis) -> None:
    registry = AdapterRegistry(redis)
    registry.register("first", VersionFacts("1" * 64, "gpt2"))
    response = train(api, **{"from": "first"})
    registry.register("first", VersionFacts("2" * 64, "gpt2"))
    job = finished(api, response)
    assert (job["model"], job["adapter_id"]) == ("first@1", "1" * 64)


@pytest.mark.parametrize(
    ("sent", "status", "param"),
    [
        ({"data": None}, 400, "file_id"),
        ({"file_id": f"file-{uuid.uuid4()}"}, 400, "file_id"),  # beside data
        ({"data": None, "file_id": f"file-{uuid.uuid4()}"}, 404, "file_id"),
        ({"validation_file_id": f"file-{uuid.uuid4()}"}, 404, "validation_file_id"),
        ({"data": PAIRS[:1]}, 400, "data"),
        ({"name": "no spaces"}, 400, "name"),
        ({"name": "gpt2"}, 409, "name"),
        ({"name": "default"}, 409, "name"),
        ({"base": "unknown"}, 404, "base"),
        ({"base": MODEL}, 400, "base"),
        ({"from": "unknown"}, 404, "from"),
        ({"epochs": 0}, 400, "epochs"),
        ({"rank": 1.5}, 400, "rank"),
        ({"method": "rlhf"}, 400, "method"),
        ({"webhook_url": "https://example.org/"}, 400, "webhook_url"),
        ({"ephocs": 3}, 400, "ephocs"),
    ],
)
def test_a_wrong_field_is_refused_by_name(start_api: StartApi, sent: Json, status: int, param: str) -> None:
    response = train(start_api(), **sent)
    assert (response.status_code, response.json["param"]) == (status, param), response.text


def test_a_file_must_be_the_callers_and_for_training(api: Api, redis: Redis) -> None:
    assert train(api, data=None, file_id=put_file(redis)).status_code == 202
    wrong = train(api, data=None, file_id=put_file(redis, purpose="batch"))
    assert (wrong.status_code, wrong.json["param"]) == (400, "file_id")


def test_a_repeated_request_makes_one_run(api: Api) -> None:
    file = put_file(api.redis)
    first, second = (train(api, {"Idempotency-Key": "k"}, data=None, file_id=file) for _ in range(2))
    assert first.json["job_id"] == second.json["job_id"]
    assert train(api, {"Idempotency-Key": "k"}, data=None, file_id=file, seed=2).status_code == 422


# -- roles -------------------------------------------------------------------------------------------------------------


def test_training_needs_an_admin_or_a_trainer(api: Api, redis: Redis) -> None:
    keys = ApiKeyStore(redis)
    secrets = {role: {"X-API-Key": keys.create(role.value, role)} for role in Role}
    assert train(api, secrets[Role.USER]).status_code == 403
    job_id = train(api, secrets[Role.TRAINER]).json["job_id"]
    assert train(api, secrets[Role.ADMIN], name="other").status_code == 202
    assert api.client.get(f"/slm/jobs/{job_id}", headers=secrets[Role.USER]).status_code == 404
    assert api.client.post("/slm/load", headers=secrets[Role.TRAINER]).status_code == 403


def test_a_trainer_cannot_use_the_files_of_others(api: Api, redis: Redis) -> None:
    secret = ApiKeyStore(redis).create("tim", Role.TRAINER)
    response = train(api, {"X-API-Key": secret}, data=None, file_id=put_file(redis, owner="ann"))
    assert (response.status_code, response.json["param"]) == (404, "file_id")


# -- what clients see --------------------------------------------------------------------------------------------------


def test_the_stream_of_a_run_has_steps_checkpoints_samples_and_an_end(api: Api) -> None:
    job_id = train(api).json["job_id"]
    seen = data_of(api.client.get(f"/slm/jobs/{job_id}/stream").get_data(as_text=True))
    for data in seen:
        TypeAdapter(Frame).validate_json(json.dumps(data), strict=True)
    lines = [data["status"] for data in seen]
    assert lines[-5 - len(SAMPLES) :] == [
        "Step 1 of 2",
        "Checkpoint at step 1",
        "Step 2 of 2",
        "Checkpoint at step 2",
        *["Sample"] * len(SAMPLES),
        "Training complete!",
    ]
    progress = next(data["progress"] for data in seen if "progress" in data)
    assert (progress["step"], progress["steps"], progress["loss"]) == (1, 2, 2.0)


def test_a_job_shows_its_latest_progress(api: Api) -> None:
    job = finished(api, train(api))
    assert job["progress"]["status"] == "Step 2 of 2"
    assert "progress" not in api.job(api.submit())


def test_a_run_is_paused_resumed_and_cancelled(api: Api) -> None:
    api.worker.training = Waiting()
    first, second = (train(api).json["job_id"] for _ in range(2))
    wait_until(lambda: api.job(first)["status"] == "running")  # the only trainer has it, and so not the second
    paused = api.client.post(f"/slm/jobs/{second}/pause")
    assert check(dict(paused.json), RunState)["status"] == "paused"
    assert api.job(second)["status"] == "paused"
    assert api.client.post(f"/slm/jobs/{second}/resume").json["status"] == "queued"
    assert api.client.post(f"/slm/jobs/{first}/pause").json["status"] == "running"  # after its step
    assert api.client.delete(f"/slm/jobs/{second}").json["status"] == "cancelled"
    again = api.client.post(f"/slm/jobs/{second}/resume")
    assert (again.status_code, again.json["code"]) == (409, "conflict")


def test_a_run_that_is_being_published_is_neither_cancelled_nor_paused(api: Api) -> None:
    api.worker.training = Waiting()
    job_id = train(api).json["job_id"]
    wait_until(lambda: api.job(job_id)["status"] == "running")
    assert JobStore(api.redis, lambda _: None, job_ttl_s=60).begin_publishing(job_id, attempt=1)
    for refused in (api.client.post(f"/slm/jobs/{job_id}/pause"), api.client.delete(f"/slm/jobs/{job_id}")):
        assert (refused.status_code, refused.json["code"]) == (409, "conflict")
        assert refused.json["error"].endswith("it is too late to cancel or to pause it.")
    refused = api.client.post(f"/v1/fine_tuning/jobs/ftjob-{job_id}/cancel")
    assert (refused.status_code, refused.json["error"]["code"]) == (409, "conflict")


def test_only_runs_can_be_paused(api: Api) -> None:
    assert api.client.post(f"/slm/jobs/{api.submit()}/pause").status_code == 409
    assert api.client.post(f"/slm/jobs/{uuid.uuid4()}/resume").status_code == 404


def test_a_run_that_the_gate_refused_can_be_published_later(api: Api, redis: Redis) -> None:
    refused = {"published": False, "version": None, "adapter_id": None, "message": "support was not published: worse"}
    api.worker.training = trained(**refused)
    job = finished(api, train(api))
    assert (job["status"], job["result"]["published"]) == ("succeeded", False)
    published = api.client.post(f"/slm/jobs/{job['job_id']}/publish")
    assert (published.status_code, published.json["name"], published.json["version"]) == (201, "support", 1)
    result = check(api.job(job["job_id"])["result"], Trained)
    assert (result["published"], result["version"]) == (True, 1)
    assert api.client.post(f"/slm/jobs/{job['job_id']}/publish").status_code == 409


def test_only_runs_that_succeeded_can_be_published(api: Api) -> None:
    generation = api.submit()
    assert api.client.post(f"/slm/jobs/{generation}/publish").status_code == 409
    api.worker.training = Waiting()
    assert api.client.post(f"/slm/jobs/{train(api).json['job_id']}/publish").status_code == 409


# -- evaluation --------------------------------------------------------------------------------------------------------


def test_models_are_evaluated_as_what_their_names_stood_for(api: Api, redis: Redis) -> None:
    AdapterRegistry(redis).register("support", VersionFacts("1" * 64, "gpt2"))
    response = api.client.post("/slm/evaluate", json={"models": ["gpt2", "support"], "data": PAIRS})
    job = finished(api, response)
    assert job["kind"] == JobKind.EVALUATE
    result = check(job["result"], Evaluated)
    assert [(one["name"], one["model"]) for one in result["models"]] == [("gpt2", "gpt2"), ("support", "support@1")]


@pytest.mark.parametrize(
    ("sent", "status", "param"),
    [({"models": []}, 400, "models"), ({"models": ["unknown"]}, 404, "models"), ({"seed": -1}, 400, "seed")],
)
def test_a_wrong_evaluation_is_refused(api: Api, sent: Json, status: int, param: str) -> None:
    response = api.client.post("/slm/evaluate", json={"models": ["gpt2"], "data": PAIRS} | sent)
    assert (response.status_code, response.json["param"]) == (status, param)
