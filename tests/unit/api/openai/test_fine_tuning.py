"""Fine-tuning jobs in OpenAI's form."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from typing import Any

import pytest
from openai.types import FileObject
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import TypeAdapter
from redis import Redis
from werkzeug.test import TestResponse

from api.schemas.openai import fine_tuning as shapes
from common.errors import InvalidRequest
from common.owners.files import FileStore
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import Play, trained
from tests.unit.api.conftest import wait_until

UNKNOWN = "6f1c3f0e-6a5e-4c1b-9d7b-0f4e0d1c2b3a"

Json = dict[str, Any]
JOBS = "/v1/fine_tuning/jobs"


@pytest.fixture
def file(redis: Redis) -> str:
    return FileStore(redis, ttl_s=60).put("anonymous", "a.jsonl", "fine-tune", ["{}"]).id


def create(api: Api, file: str, **body: Any) -> TestResponse:
    return api.client.post(JOBS, json={"model": "gpt2", "training_file": file, "suffix": "support"} | body)


def ended(api: Api, response: TestResponse) -> Json:
    assert response.status_code == 200, response.text
    job_id = response.json["id"]
    api.finish(job_id.removeprefix("ftjob-"))
    return shown(api, job_id)


def shown(api: Api, job_id: str) -> Json:
    body = dict(api.client.get(f"{JOBS}/{job_id}").json)
    TypeAdapter(shapes.FineTuningJob).validate_json(json.dumps(body), strict=True)
    if body["status"] != "paused":  # which OpenAI's client does not list
        FineTuningJob.model_validate(body, strict=True)
    return body


def waiting(_play: Play) -> None:
    """A script that never ends."""


def test_a_new_job_has_the_values_that_were_sent(api: Api, file: str) -> None:
    api.worker.training = waiting
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3}}}
    body = dict(create(api, file, seed=7, metadata={"team": "a"}, method=method).json)
    FineTuningJob.model_validate(body, strict=True)
    assert re.fullmatch("ftjob-[0-9a-f-]{36}", body["id"])
    assert body["object"] == "fine_tuning.job"
    assert body["status"] in ("queued", "validating_files")
    assert (body["model"], body["training_file"], body["validation_file"]) == ("gpt2", file, None)
    assert (body["seed"], body["metadata"], body["user_provided_suffix"]) == (7, {"team": "a"}, "support")
    given = {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert body["method"] == {"type": "supervised", "supervised": {"hyperparameters": given}}
    assert body["hyperparameters"] == given
    empty = ("fine_tuned_model", "finished_at", "trained_tokens", "error", "estimated_finish")
    assert {body[name] for name in empty} == {None}


def test_a_job_that_succeeded_names_its_model_and_what_it_used(api: Api, file: str) -> None:
    job = ended(api, create(api, file))
    assert (job["status"], job["fine_tuned_model"], job["trained_tokens"]) == ("succeeded", "support", 400)
    assert job["hyperparameters"] == {"n_epochs": 5.0, "batch_size": 4, "learning_rate_multiplier": 1.0}
    assert job["finished_at"] >= job["created_at"]


def test_a_model_without_a_suffix_gets_a_name_that_works(api: Api, file: str) -> None:
    job = ended(api, create(api, file, suffix=None))
    assert re.fullmatch(r"ft-gpt2-[0-9a-f]{8}", job["fine_tuned_model"])
    assert job["user_provided_suffix"] is None


def test_a_job_that_the_gate_refused_has_failed_and_says_how_to_publish(api: Api, file: str) -> None:
    api.worker.training = trained(published=False, version=None, message="support was not published: it forgot")
    job = ended(api, create(api, file))
    assert (job["status"], job["fine_tuned_model"], job["error"]["code"]) == ("failed", None, "not_published")
    assert "it forgot" in job["error"]["message"]
    run = job["id"].removeprefix("ftjob-")
    assert f"POST /slm/jobs/{run}/publish" in job["error"]["message"]
    assert api.client.post(f"/slm/jobs/{run}/publish").status_code == 201
    assert (shown(api, job["id"])["status"], shown(api, job["id"])["fine_tuned_model"]) == ("succeeded", "support")


def test_a_failed_job_names_openais_field(api: Api, file: str) -> None:
    api.worker.training = lambda play: play.fail(InvalidRequest("line 3: no", param="file_id"))
    job = ended(api, create(api, file, seed=3))
    assert job["status"] == "failed"
    assert job["error"] == {"code": "invalid_request", "message": "line 3: no", "param": "training_file"}
    assert (job["training_file"], job["seed"]) == (file, 3)  # although it has no result


def test_a_running_job_estimates_its_end(api: Api, file: str) -> None:
    api.worker.training = lambda play: play.step(1, 2)
    job_id = create(api, file).json["id"]
    wait_until(lambda: shown(api, job_id)["status"] == "running")
    job = shown(api, job_id)
    assert 0 < job["estimated_finish"] - job["created_at"] < 120


def test_a_job_is_paused_resumed_and_cancelled(api: Api, file: str) -> None:
    api.worker.training = waiting
    create(api, file)
    job_id = create(api, file).json["id"]
    states = [api.client.post(f"{JOBS}/{job_id}/{what}").json["status"] for what in ("pause", "resume", "cancel")]
    assert states == ["paused", "queued", "cancelled"]
    recorded = {one["job_id"] for one in api.client.get("/slm/audit?limit=3").json["entries"]}
    assert recorded == {job_id.removeprefix("ftjob-")}
    again = api.client.post(f"{JOBS}/{job_id}/pause")
    assert (again.status_code, again.json["error"]["code"]) == (409, "conflict")


def test_events_are_listed_newest_first_page_by_page(api: Api, file: str) -> None:
    job = ended(api, create(api, file))
    pages, after = [], None
    while True:
        query = {"limit": 3} | ({"after": after} if after else {})
        body = api.client.get(f"{JOBS}/{job['id']}/events", query_string=query).json
        TypeAdapter(shapes.FineTuningEvents).validate_json(json.dumps(body), strict=True)
        pages.append(body["data"])
        after = body["last_id"]
        if not body["has_more"]:
            break
    events = [event for page in pages for event in page]
    assert [len(page) for page in pages[:-1]] == [3] * (len(pages) - 1)
    for event in events:
        FineTuningJobEvent.model_validate(event, strict=True)
    assert events[0]["message"] == "The job has succeeded"
    assert [event["message"] for event in events if event["type"] == "metrics"] == ["Step 2 of 2", "Step 1 of 2"]
    samples = [event for event in events if "prompt" in event["data"]]
    assert {(event["message"], event["data"]["trained"]) for event in samples if event["data"]["step"] == 2} == {
        ("Answer to a training prompt at step 2", True),
        ("Answer to a held-out prompt at step 2", False),
    }
    newest = next(event for event in events if event["type"] == "metrics")
    assert newest["data"] == {
        "step": 2,
        "total_steps": 2,
        "train_loss": 1.0,
        "valid_loss": 1.5,
        "seconds_left": 60.0,
    }


def test_checkpoints_have_the_metrics_of_their_step(api: Api, file: str) -> None:
    job = ended(api, create(api, file))
    body = api.client.get(f"{JOBS}/{job['id']}/checkpoints").json
    TypeAdapter(shapes.FineTuningCheckpoints).validate_json(json.dumps(body), strict=True)
    for one in body["data"]:
        FineTuningJobCheckpoint.model_validate(one)
    newest = body["data"][0]
    assert (newest["step_number"], newest["fine_tuning_job_id"]) == (2, job["id"])
    assert newest["metrics"] == {"step": 2, "train_loss": 1.0, "valid_loss": 1.5, "full_valid_loss": 1.5}
    rest = api.client.get(f"{JOBS}/{job['id']}/checkpoints", query_string={"after": newest["id"]}).json
    assert [one["step_number"] for one in rest["data"]] == [1]


def test_jobs_are_listed_newest_first_page_by_page_and_by_metadata(api: Api, file: str) -> None:
    ids = [ended(api, create(api, file, metadata={"n": str(n % 2)}))["id"] for n in range(4)]
    api.submit()  # another kind of job
    first = api.client.get(JOBS, query_string={"limit": 3}).json
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (ids[:0:-1], True)
    rest = api.client.get(JOBS, query_string={"limit": 3, "after": first["last_id"]}).json
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (ids[:1], False)
    odd = api.client.get(JOBS, query_string={"metadata[n]": "1"}).json
    assert [one["id"] for one in odd["data"]] == [ids[3], ids[1]]
    bare = ended(api, create(api, file))["id"]
    without = api.client.get(JOBS, query_string={"metadata": "null"}).json
    assert [one["id"] for one in without["data"]] == [bare]
    wrong = api.client.get(JOBS, query_string={"metadata": "x"})
    assert (wrong.status_code, wrong.json["error"]["param"]) == (400, "metadata")


def test_the_result_file_has_the_metrics_of_the_steps(api: Api, file: str) -> None:
    api.worker.training = lambda play: play.fail(InvalidRequest("line 3: no"))
    assert ended(api, create(api, file))["result_files"] == []
    api.worker.training = trained()
    job = ended(api, create(api, file))
    (file_id,) = job["result_files"]
    shown_file = api.client.get(f"/v1/files/{file_id}").json
    content = api.client.get(f"/v1/files/{file_id}/content").data
    assert (shown_file["purpose"], shown_file["filename"]) == ("fine-tune-results", "step_metrics.csv")
    assert (shown_file["bytes"], shown_file["created_at"]) == (len(content), job["finished_at"])
    FileObject.model_validate(shown_file, strict=True)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(content).decode())))
    assert rows == [
        {"step": "1", "train_loss": "2.0", "train_accuracy": "", "valid_loss": "3.0", "valid_mean_token_accuracy": ""},
        {"step": "2", "train_loss": "1.0", "train_accuracy": "", "valid_loss": "1.5", "valid_mean_token_accuracy": ""},
    ]
    assert api.client.delete(f"/v1/files/{file_id}").status_code == 400


@pytest.mark.parametrize("path", ["", "/content"], ids=["record", "content"])
def test_other_jobs_have_no_result_file(api: Api, path: str) -> None:
    for job_id in (api.submit(), UNKNOWN):
        assert api.client.get(f"/v1/files/file-{job_id}-results{path}").status_code == 404


@pytest.mark.parametrize(
    ("sent", "status", "param"),
    [
        ({"training_file": f"file-{UNKNOWN}"}, 404, "training_file"),
        ({"validation_file": f"file-{UNKNOWN}"}, 404, "validation_file"),
        ({"model": "unknown"}, 404, "model"),
        ({"suffix": "gpt2"}, 409, "suffix"),
        ({"suffix": "no spaces"}, 400, "suffix"),
        ({"method": {"type": "reinforcement"}}, 400, "method.type"),
        ({"method": {"type": "dpo", "supervised": {}}}, 400, "method"),
        ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 0}}}}, 400, None),
        ({"hyperparameters": {}, "method": {"type": "dpo"}}, 400, "hyperparameters"),
        ({"integrations": [{"type": "wandb"}]}, 400, "integrations"),
        ({"epochs": 3}, 400, "epochs"),
    ],
)
def test_a_wrong_field_is_refused_by_name(api: Api, file: str, sent: Json, status: int, param: str | None) -> None:
    response = create(api, file, **sent)
    assert response.status_code == status, response.text
    if param is not None:
        assert response.json["error"]["param"] == param, response.text


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_epochs": "3"}, "n_epochs must be \"auto\" or an integer from 1 to 1000; got '3'"),
        ({"batch_size": 0}, 'batch_size must be "auto" or an integer from 1 to 256; got 0'),
        ({"beta": -1}, 'beta must be "auto" or a number above 0, at most 10; got -1'),
    ],
    ids=["epochs as a text", "no examples", "negative"],
)
def test_a_wrong_hyperparameter_is_explained(api: Api, file: str, parameters: Json, message: str) -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": parameters}}
    assert create(api, file, method=method).json["error"]["message"] == f"method.dpo.hyperparameters.{message}"


def test_dpo_and_a_fine_tuned_model_to_continue(api: Api, file: str, redis: Redis) -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": "auto"}}}
    api.worker.training = trained(method="dpo", recipe={"epochs": 2.0, "batch_size": 4, "beta": 0.2})
    job = ended(api, create(api, file, model=MODEL, method=method))
    assert job["method"]["type"] == "dpo"
    assert job["method"]["dpo"]["hyperparameters"]["beta"] == 0.2
    params = json.loads(redis.hget(f"slm:job:{job['id'].removeprefix('ftjob-')}", "params"))
    assert (params["method"], params["recipe"]) == ("dpo", {"beta": 0.2})
    assert job["model"] == f"{MODEL}@1"


@pytest.mark.parametrize("job_id", [f"ftjob-{UNKNOWN}", "ftjob-x", UNKNOWN])
def test_an_unknown_job_is_not_found(api: Api, job_id: str) -> None:
    for path in (job_id, f"{job_id}/events", f"{job_id}/checkpoints"):
        assert api.client.get(f"{JOBS}/{path}").status_code == 404


def test_another_kind_of_job_is_no_fine_tuning_job(api: Api) -> None:
    assert api.client.get(f"{JOBS}/ftjob-{api.submit()}").status_code == 404
