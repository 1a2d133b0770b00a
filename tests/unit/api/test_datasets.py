"""Datasets are checked by a worker, from the body, from an uploaded file or from a list."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from common.jobs.job import JobKind, Lane
from tests.api_in_process import Api
from tests.unit.api.conftest import StartApi, data_of

ROWS = [{"instruction": f"Say {one}", "response": f"It is {one}."} for one in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CHECK = "/slm/datasets/check"


def upload(api: Api, content: str) -> str:
    form = {"purpose": "fine-tune", "file": (io.BytesIO(content.encode()), "a.jsonl")}
    return str(api.client.post("/v1/files", data=form).json["id"])


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/jsonl", LINES),
        ("application/json", LINES),
        ("application/json", json.dumps(ROWS)),
        ("application/json", json.dumps({"data": ROWS})),
        ("application/octet-stream", LINES),
        (
            "text/csv; charset=utf-8",
            "instruction,response\n" + "".join(f"Say {one},It is {one}.\n" for one in range(3)),
        ),
    ],
)
def test_a_dataset_as_body_is_reported(api: Api, content_type: str, body: str) -> None:
    answer = api.client.post(CHECK, data=body, content_type=content_type)
    assert (answer.status_code, answer.json["usable"], answer.json["count"]) == (200, True, 3)
    assert answer.json["job_id"] == answer.headers["X-Job-Id"]


def test_an_uploaded_dataset_is_reported(api: Api) -> None:
    file_id = upload(api, LINES)
    for answer in (
        api.client.post(CHECK, json={"file_id": file_id, "max_length": 20}),
        api.client.post(CHECK, query_string={"file_id": file_id, "max_length": 20}),
    ):
        assert (answer.status_code, answer.json["count"], answer.json["too_long"]["max_length"]) == (200, 3, 20)


def test_a_bad_dataset_is_a_report_and_no_error(api: Api) -> None:
    answer = api.client.post(CHECK, data=b'{"instruction": "\xff"}\n', content_type="application/jsonl")
    assert (answer.status_code, answer.json["usable"]) == (200, False)
    assert [(one["line"], one["column"]) for one in answer.json["faults"]] == [(1, 18)]


def test_an_empty_dataset_is_reported_like_any_other(api: Api) -> None:
    answer = api.client.post(CHECK, data=b"", content_type="application/octet-stream")
    assert (answer.status_code, answer.json["usable"], answer.json["total_faults"]) == (200, False, 1)
    assert api.client.post(CHECK).json["param"] == "file_id"


def test_the_line_of_an_example_in_the_body_is_its_number(api: Api) -> None:
    answer = api.client.post(CHECK, json={"data": [*ROWS, {"instruction": "A"}]})
    assert [(one["line"], one["field"]) for one in answer.json["faults"]] == [(4, "response")]


def test_options_are_in_the_query_of_a_bare_dataset(api: Api) -> None:
    answer = api.client.post(f"{CHECK}?max_length=20&model=gpt2", data=LINES, content_type="application/jsonl")
    assert (answer.json["too_long"]["max_length"], answer.json["model"]) == (20, "gpt2")


def test_the_base_model_is_checked_unless_an_adapter_is_named(api: Api) -> None:
    models = [api.client.post(CHECK, json={"data": ROWS} | more).json["model"] for more in ({}, {"model": "default"})]
    assert models == ["gpt2", "cuda_lora_out@1"]


def test_it_is_a_job_that_takes_no_capacity(api: Api) -> None:
    answer = api.client.post(CHECK, json={"data": ROWS, "async": True})
    assert answer.status_code == 202
    job = api.finish(answer.json["job_id"])
    assert (job["kind"], job["result"]["usable"]) == (JobKind.CHECK_DATASET, True)
    stream = api.client.get(f"/slm/jobs/{answer.json['job_id']}/stream")
    assert data_of(stream.get_data(as_text=True))[-1]["status"] == "Check complete!"
    assert JobKind.CHECK_DATASET.lane is Lane.PREPARE


def test_an_idempotency_key_finds_the_first_check(api: Api) -> None:
    headers = {"Idempotency-Key": "a"}
    first, second = (api.client.post(CHECK, json={"data": ROWS}, headers=headers).json for _ in range(2))
    assert first["job_id"] == second["job_id"]
    assert api.client.post(CHECK, json={"data": ROWS[:2]}, headers=headers).status_code == 422


@pytest.mark.parametrize(
    ("sent", "status", "param"),
    [
        ({"json": {"file_id": "file-1"}}, 400, "file_id"),
        ({"json": {"file_id": "file-00000000-0000-0000-0000-000000000000"}}, 404, "file_id"),
        ({"json": {"data": ROWS, "validation_file_id": "file-00000000-0000-0000-0000-000000000000"}}, 404, None),
        ({"json": {"data": ROWS, "file_id": "file-00000000-0000-0000-0000-000000000000"}}, 400, "file_id"),
        ({"json": {"data": 7}}, 400, "data"),
        ({"json": {"data": ROWS, "epochs": 0}}, 400, "epochs"),
        ({"json": {"data": ROWS, "rank": 8}}, 400, "rank"),
        ({"json": {"data": ROWS, "model": "nobody"}}, 404, "model"),
        ({"data": LINES, "query_string": {"epochs": "many"}, "content_type": "application/jsonl"}, 400, "epochs"),
        ({"data": LINES, "query_string": {"data": "1"}, "content_type": "application/jsonl"}, 400, "data"),
        ({"data": LINES, "content_type": "text/plain"}, 415, None),
        ({"data": LINES, "content_type": "application/x-www-form-urlencoded"}, 415, None),
        ({}, 400, "file_id"),
    ],
)
def test_a_wrong_request_is_explained(api: Api, sent: dict[str, Any], status: int, param: str | None) -> None:
    answer = api.client.post(CHECK, **sent)
    assert (answer.status_code, answer.json.get("param")) == (status, param or answer.json.get("param"))


def test_a_dataset_that_is_too_large_for_a_body_is_to_be_uploaded(start_api: StartApi) -> None:
    api = start_api(max_body_bytes=1024)
    answer = api.client.post(CHECK, data=LINES * 100, content_type="application/jsonl")
    assert answer.status_code == 413
    assert answer.json["error"].endswith("upload a larger dataset to /v1/files and send its file_id")
