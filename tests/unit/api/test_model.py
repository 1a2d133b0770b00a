"""GET /slm/info, POST /slm/load and /slm/unload, and the health checks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from api import __version__
from api.schemas.server import Info
from common.fleet import Fleet, WorkerState
from tests.api_in_process import REPORT, Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi

DOCUMENTED_INFO = ["model_loaded", "device", "base_model", "lora_path", "cuda_available", "mps_available"]


def test_info_shows_the_reports_of_the_workers(api: Api) -> None:
    info = api.client.get("/slm/info").json
    assert list(info)[:6] == DOCUMENTED_INFO
    assert [info[name] for name in DOCUMENTED_INFO] == [True, "cuda", "gpt2", "../SLMInit/cuda_lora_out", True, False]
    assert info["adapters"] == ["cuda_lora_out"]
    assert info["workers"] == [
        {
            "id": "slm1@host",
            "host": "host",
            "pid": 4711,
            "device": "cuda",
            "state": "ready",
            "running": 0,
            "slots": 2,
            "error": None,
        }
    ]


def test_info_shows_the_number_format_of_each_worker(api: Api) -> None:
    Fleet(api.redis).beat(REPORT.but(id="slm0@host", dtype="int8 with a cache in int8"), ttl_s=60)
    response = api.client.get("/slm/info")
    TypeAdapter(Info).validate_json(response.text, strict=True)
    formats = {worker["id"]: worker.get("dtype") for worker in response.json["workers"]}
    assert formats == {"slm0@host": "int8 with a cache in int8", "slm1@host": None}


def test_info_claims_nothing_without_a_worker(api: Api) -> None:
    api.worker.leave()
    info = api.client.get("/slm/info").json
    assert [info[name] for name in DOCUMENTED_INFO] == [False, None, None, None, False, False]
    assert (info["adapters"], info["workers"]) == ([], [])


def test_info_knows_that_the_model_is_unloaded(api: Api) -> None:
    api.client.post("/slm/unload")
    info = api.client.get("/slm/info").json
    assert (info["model_loaded"], info["device"], info["base_model"]) == (False, "cuda", "gpt2")
    assert info["adapters"] == []


def test_info_describes_a_worker_with_a_loaded_model(api: Api) -> None:
    Fleet(api.redis).beat(REPORT.but(id="slm0@host", state=WorkerState.LOADING, device=None), ttl_s=1)
    info = api.client.get("/slm/info").json
    assert (info["model_loaded"], info["device"], len(info["workers"])) == (True, "cuda", 2)


def test_info_counts_waiting_and_running_jobs(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    for _ in range(5):  # two run, one wake-up message is ahead, two in the queue
        api.submit()
    assert api.client.get("/slm/info").json["queue"]["waiting"] == 2


def test_the_node_client_has_the_servers_version() -> None:
    node_client = json.loads(Path("clients/node/package.json").read_text("utf-8"))
    assert __version__ == node_client["version"]


def test_load_answers_as_documented_and_reports_each_worker(api: Api) -> None:
    answer = api.client.post("/slm/load")
    assert answer.status_code == 200
    assert list(answer.json)[:4] == ["success", "message", "device", "model_path"]
    assert answer.json | {"job_id": "?"} == {
        "success": True,
        "message": "Model loaded successfully on cuda",
        "device": "cuda",
        "model_path": "../SLMInit/cuda_lora_out",
        "changed": [],
        "base_id": REPORT.base_id,
        "adapter_id": REPORT.adapter_id,
        "job_id": "?",
        "workers": [{"id": "slm1@host", "device": "cuda", "state": "ready"}],
    }


def test_unload_answers_as_documented(api: Api) -> None:
    answer = api.client.post("/slm/unload")
    assert list(answer.json)[:2] == ["success", "message"]
    assert answer.json["message"] == "Model unloaded successfully"


@pytest.mark.parametrize("path", ["/slm/load", "/slm/unload"])
@pytest.mark.parametrize("body", [b"", b"{}", b" \n", b'{"async": false}'])
def test_the_bodies_of_load_and_unload_may_be_empty(api: Api, path: str, body: bytes) -> None:
    assert api.client.post(path, data=body, content_type="application/json").status_code == 200


@pytest.mark.parametrize("path", ["/slm/load", "/slm/unload"])
def test_load_and_unload_can_be_asynchronous(api: Api, path: str) -> None:
    answer = api.client.post(path, headers={"Prefer": "respond-async"})
    assert answer.status_code == 202
    assert api.finish(answer.json["job_id"])["result"]["success"] is True


@pytest.mark.parametrize("path", ["/slm/load", "/slm/unload"])
def test_without_a_worker_load_and_unload_are_refused_at_once(api: Api, path: str) -> None:
    api.worker.leave()
    answer = api.client.post(path)
    assert (answer.status_code, answer.json["code"]) == (503, "no_worker")
    assert answer.headers["Retry-After"]


def test_the_process_is_healthy_even_if_redis_and_workers_are_away(api: Api) -> None:
    api.worker.leave()
    answer = api.client.get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_the_server_is_ready_when_a_worker_has_loaded_the_model(api: Api) -> None:
    answer = api.client.get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"status": "ready"})


def test_the_server_is_not_ready_without_a_worker(api: Api) -> None:
    api.worker.leave()
    answer = api.client.get("/readyz")
    assert (answer.status_code, answer.json["code"], answer.json["error"]) == (503, "no_worker", "No worker is alive.")
    assert answer.headers["Retry-After"]


def test_the_server_is_not_ready_without_a_loaded_model(api: Api) -> None:
    api.client.post("/slm/unload")
    answer = api.client.get("/readyz")
    assert (answer.status_code, answer.json["code"]) == (503, "model_unavailable")
    assert answer.json["error"] == "No worker has the model loaded: slm1@host is unloaded."
