"""Models that can be requested by name."""

from __future__ import annotations

import pytest
from redis import Redis

from api.openai.models import Catalogue
from common.errors import ModelNotFound
from common.fleet import WorkerReport, WorkerState
from tests.api_in_process import REPORT, Api
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import MESSAGES, chat


def test_an_adapter_is_listed_with_its_base_and_can_be_requested(api: Api) -> None:
    listing = api.client.get("/v1/models").json
    assert listing["object"] == "list"
    assert [(model["id"], model["parent"]) for model in listing["data"]] == [("cuda_lora_out", "gpt2")]
    assert api.client.get("/slm/info").json["adapters"] == ["cuda_lora_out"]
    assert chat(api, model="cuda_lora_out").json["model"] == "cuda_lora_out"


def test_a_base_without_an_adapter_is_listed_and_can_be_requested(start_api: StartApi) -> None:
    api = start_api(report=REPORT.but(lora_path=None))
    assert [(model["id"], model["parent"]) for model in api.client.get("/v1/models").json["data"]] == [("gpt2", None)]
    assert api.client.get("/slm/info").json["adapters"] == []
    assert chat(api, model="gpt2").json["model"] == "gpt2"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
def test_the_base_of_an_adapter_is_not_answered_with_the_adapter(api: Api, path: str) -> None:
    body = {"model": "gpt2"} | {
        "/v1/chat/completions": {"messages": MESSAGES},
        "/v1/completions": {"prompt": "Hi"},
        "/v1/responses": {"input": "Hi"},
    }[path]
    answer = api.client.post(path, json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (404, "model_not_found")
    assert answer.json["error"]["message"].endswith("known: cuda_lora_out (an adapter of gpt2).")
    assert api.client.get("/v1/models/gpt2").status_code == 404


def test_a_model_is_found_by_its_name(api: Api) -> None:
    assert api.client.get("/v1/models/cuda_lora_out").json == api.client.get("/v1/models").json["data"][0]


def test_an_unknown_name_is_404(api: Api) -> None:
    for answer in (chat(api, model="gpt-5"), api.client.get("/v1/models/gpt-5"), api.client.get("/v1/models/a/b")):
        assert (answer.status_code, answer.json["error"]["code"]) == (404, "model_not_found")
        assert answer.json["error"]["param"] == "model"


def test_without_a_worker_nothing_is_listed_and_nothing_can_be_requested(api: Api, redis: Redis) -> None:
    redis.delete("slm:workers")
    assert api.client.get("/v1/models").json["data"] == []
    answer = chat(api)
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "no_worker")
    assert (answer.headers["X-Should-Retry"], answer.headers["Retry-After"]) == ("true", "5")


def test_a_hub_id_keeps_its_slash_and_a_folder_its_own_name() -> None:
    reports = [
        REPORT.but(base_model="org/model", lora_path=None),
        REPORT.but(base_model="/models/mine/", lora_path=None),
    ]
    assert [model.id for model in Catalogue(reports).all()] == ["org/model", "mine"]


def test_a_worker_with_a_loaded_model_is_listed_first() -> None:
    loading = REPORT.but(id="a", state=WorkerState.LOADING)
    assert Catalogue([loading, REPORT.but(context=512)]).get("cuda_lora_out").context == 512


def test_a_worker_without_a_model_is_not_listed() -> None:
    starting = Catalogue([WorkerReport(id="a", host="h", pid=1), REPORT])
    assert len(starting.all()) == 1
    with pytest.raises(ModelNotFound):
        starting.get("base")


def test_the_fingerprint_depends_on_the_model_and_not_on_the_worker() -> None:
    assert Catalogue([REPORT]).fingerprint == Catalogue([REPORT.but(id="other")]).fingerprint
    assert Catalogue([REPORT]).fingerprint != Catalogue([REPORT.but(dtype="int8")]).fingerprint
