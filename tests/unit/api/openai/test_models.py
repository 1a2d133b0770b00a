"""The models under /v1: base models, adapters, their versions, and aliases."""

from __future__ import annotations

import time
from typing import Any

import pytest
from redis import Redis

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.redis import keys
from tests.api_in_process import REPORT, Api
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import MESSAGES, chat

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
}


@pytest.fixture
def registry(api: Api) -> AdapterRegistry:
    """The API's registry: `prod` points to the first of two versions of `support`, `plain` to the base."""
    registry = AdapterRegistry(api.redis)
    registry.register("support", VersionFacts("a1", "gpt2"))
    registry.set_alias("prod", "support", set_by="ops")
    registry.register("support", VersionFacts("a2", "gpt2"))
    registry.set_alias("plain", "gpt2", set_by="ops")
    return registry


@pytest.mark.usefixtures("registry")
def test_everything_that_a_request_can_name_is_listed_with_what_it_stands_for(api: Api) -> None:
    listing = api.client.get("/v1/models").json
    assert listing["object"] == "list"
    assert [(model["id"], model["root"], model["parent"]) for model in listing["data"]] == [
        ("default", "cuda_lora_out@1", "gpt2"),
        ("cuda_lora_out", "cuda_lora_out@1", "gpt2"),
        ("gpt2", "gpt2", None),
        ("plain", "gpt2", None),
        ("prod", "support@1", "gpt2"),
        ("support", "support@2", "gpt2"),
    ]
    for model in listing["data"]:
        assert api.client.get(f"/v1/models/{model['id']}").json == model


def test_a_model_was_created_when_it_was_registered(api: Api, registry: AdapterRegistry, redis: Redis) -> None:
    listed = {model["id"]: model["created"] for model in api.client.get("/v1/models").json["data"]}
    assert all(abs(created - time.time()) < 600 for created in listed.values())

    redis.hset(keys.adapter_version("a1"), "created_ms", 1_700_000_000_999)
    redis.hset(keys.BASES_CREATED, "gpt2", 1_600_000_000)
    registry.note_base("gpt2", "other files")
    listed = {model["id"]: model["created"] for model in api.client.get("/v1/models").json["data"]}
    assert (listed["prod"], listed["gpt2"], listed["plain"]) == (1_700_000_000, 1_600_000_000, 1_600_000_000)
    assert api.client.get("/v1/models/support@1").json["created"] == 1_700_000_000


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt2", "gpt2"),
        ("support", "support@2"),
        ("support@1", "support@1"),
        ("prod", "support@1"),
        ("default", "cuda_lora_out@1"),
    ],
)
def test_an_answer_has_the_name_that_the_client_used_and_a_header_the_model(
    api: Api, path: str, name: str, model: str
) -> None:
    answer = api.client.post(path, json={"model": name} | BODIES[path])
    assert (answer.json["model"], answer.headers["X-Model"]) == (name, model)
    job = api.job(answer.headers["X-Job-Id"])
    assert (job["model"], job["base"]) == (model, "gpt2")
    shown = api.client.get(f"/v1/models/{name}").json
    assert (shown["id"], shown["root"]) == (name, model)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_an_unknown_name_is_404_and_the_error_lists_those_that_exist(api: Api, path: str, stream: bool) -> None:
    for name in ("gpt-5", "cuda_lora_out@2", "a/b"):
        answer = api.client.post(path, json={"model": name, "stream": stream} | BODIES[path])
        assert answer.status_code == 404
        assert answer.json["error"] == {
            "message": f"There is no model {name!r}. There are: cuda_lora_out, default, gpt2.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
        assert api.client.get(f"/v1/models/{name}").json["error"] == answer.json["error"]
    assert api.client.get("/slm/jobs").json["jobs"] == []


@pytest.mark.parametrize("path", BODIES)
def test_a_repeated_request_gets_its_first_answer_wherever_the_alias_points_now(
    api: Api, registry: AdapterRegistry, path: str
) -> None:
    body, headers = {"model": "prod"} | BODIES[path], {"Idempotency-Key": "k"}
    first = api.client.post(path, json=body, headers=headers)
    registry.set_alias("prod", "support@2", set_by="ops")
    second = api.client.post(path, json=body, headers=headers)
    registry.delete_alias("prod")
    third = api.client.post(path, json=body, headers=headers)
    assert second.json == third.json == first.json
    assert second.headers["X-Model"] == third.headers["X-Model"] == "support@1"
    other = api.client.post(path, json=body | {"model": "support@1"}, headers=headers)
    assert other.json["error"]["code"] == "idempotency_mismatch"  # the key belongs to the name, not to its version


def test_a_background_response_keeps_its_version_and_the_name_that_the_client_used(
    api: Api, registry: AdapterRegistry
) -> None:
    begun = api.client.post("/v1/responses", json={"model": "prod", "input": "Hi", "background": True})
    registry.set_alias("prod", "support@2", set_by="ops")
    job = api.finish(begun.json["id"].removeprefix("resp_"))
    shown = api.client.get(f"/v1/responses/{begun.json['id']}").json
    assert (shown["status"], shown["model"]) == ("completed", "prod")
    assert begun.headers["X-Model"] == job["model"] == "support@1"


def test_all_choices_of_a_request_come_from_one_version(
    api: Api, registry: AdapterRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = api.client.application.extensions["slm"].jobs
    submit = jobs.start

    def start_and_publish(job: Any) -> Any:
        live = submit(job)
        registry.register("support", VersionFacts(live.id, "gpt2"))
        return live

    monkeypatch.setattr(type(jobs), "start", lambda _self, job: start_and_publish(job))
    chat(api, model="support", n=3)
    assert [job["model"] for job in api.client.get("/slm/jobs").json["jobs"]] == ["support@2"] * 3


def test_without_a_worker_nothing_can_be_requested(api: Api, redis: Redis) -> None:
    redis.delete("slm:workers")
    answer = chat(api)
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "no_worker")
    assert (answer.headers["X-Should-Retry"], answer.headers["Retry-After"]) == ("true", "5")


def test_before_a_worker_has_named_its_base_the_client_should_try_again(api: Api, redis: Redis) -> None:
    redis.delete(keys.BASES, keys.ADAPTERS, keys.ALIASES, keys.adapter("cuda_lora_out"))
    assert api.client.get("/v1/models").json["data"] == []
    assert (chat(api).status_code, chat(api).json["error"]["code"]) == (503, "no_worker")


def test_a_model_has_the_context_of_its_loaded_base(start_api: StartApi) -> None:
    api = start_api(report=REPORT.but(context=512))
    AdapterRegistry(api.redis).note_base("other", "b2")
    lengths = {model["id"]: model["max_model_len"] for model in api.client.get("/v1/models").json["data"]}
    assert lengths == {"cuda_lora_out": 512, "default": 512, "gpt2": 512, "other": None}


def test_a_hub_id_keeps_its_slash_and_a_folder_its_own_name(start_api: StartApi) -> None:
    for source, name in (("org/model", "org/model"), ("/models/mine/", "mine")):
        api = start_api(report=REPORT.but(base_model=source, lora_path=None))
        assert chat(api, model=name).headers["X-Model"] == name
        assert api.client.get(f"/v1/models/{name}").json["id"] == name


def test_a_name_that_no_header_could_carry_is_quoted(start_api: StartApi) -> None:
    api = start_api(report=REPORT.but(base_model="/models/模型\n", lora_path=None))
    answer = chat(api, model="模型\n")
    assert (answer.json["model"], answer.headers["X-Model"]) == ("模型\n", "%E6%A8%A1%E5%9E%8B%0A")
