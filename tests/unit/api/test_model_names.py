"""The model that a request under /slm names, on its way to the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.webhooks.message import body_of
from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.jobs.store import MAX_CRASHES, JobStore
from common.redis import keys
from tests.api_in_process import Api
from tests.processes import wait_for
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi, frames

BODIES: dict[str, dict[str, Any]] = {
    "/slm/generate": {"prompt": "Hi"},
    "/slm/stream": {"prompt": "Hi"},
    "/slm/tokenize": {"prompt": "Hi"},
    "/slm/detokenize": {"ids": [72]},
}
FIRST = {"model": "support@1", "base": "gpt2", "adapter_id": "a1"}
SECOND = {"model": "support@2", "base": "gpt2", "adapter_id": "a2"}
every_path = pytest.mark.parametrize("path", BODIES)


def publish(api: Api) -> AdapterRegistry:
    """Give `support` two versions, and let `prod` point to the first."""
    registry = AdapterRegistry(api.redis)
    registry.register("support", VersionFacts("a1", "gpt2"))
    registry.set_alias("prod", "support", set_by="ops")
    registry.register("support", VersionFacts("a2", "gpt2"))
    return registry


@pytest.fixture
def registry(api: Api) -> AdapterRegistry:
    return publish(api)


def model_of(job: dict[str, Any]) -> dict[str, Any]:
    return {name: job[name] for name in FIRST}


@every_path
@pytest.mark.parametrize("field", ["model", "adapter"])
@pytest.mark.usefixtures("registry")
def test_a_request_names_its_model(api: Api, path: str, field: str) -> None:
    answer = api.client.post(path, json=BODIES[path] | {field: "prod"})
    answer.get_data()
    assert (answer.status_code, answer.headers["X-Model"]) == (200, "support@1")
    job = api.finish(answer.headers["X-Job-Id"])
    assert model_of(job) == model_of(job["result"]) == FIRST


@every_path
def test_without_a_name_a_request_gets_the_default(api: Api, path: str) -> None:
    answer = api.client.post(path, json=BODIES[path] | {"async": True})
    assert (answer.status_code, answer.headers["X-Model"]) == (202, "cuda_lora_out@1")
    assert model_of(api.finish(answer.json["job_id"]))["model"] == "cuda_lora_out@1"


@every_path
def test_both_names_may_be_given_if_they_are_the_same(api: Api, path: str) -> None:
    assert api.client.post(path, json=BODIES[path] | {"model": "gpt2", "adapter": "gpt2"}).status_code == 200
    answer = api.client.post(path, json=BODIES[path] | {"model": "gpt2", "adapter": "cuda_lora_out"})
    assert (answer.status_code, answer.json["code"], answer.json["param"]) == (400, "invalid_request", "adapter")
    assert answer.json["error"] == "adapter must not differ from model; it is another name for it"


@every_path
@pytest.mark.parametrize("is_async", [False, True])
def test_an_unknown_name_is_404_and_the_error_lists_those_that_exist(api: Api, path: str, is_async: bool) -> None:
    answer = api.client.post(path, json=BODIES[path] | {"model": "nope", "async": is_async})
    assert (answer.status_code, answer.json["code"], answer.json["param"]) == (404, "model_not_found", "model")
    assert answer.json["error"] == "There is no model 'nope'. There are: cuda_lora_out, default, gpt2."
    assert "X-Job-Id" not in answer.headers
    assert api.client.get("/slm/jobs").json["jobs"] == []


@pytest.mark.parametrize("path", ["/slm/load", "/slm/unload"])
def test_a_job_without_a_prompt_has_no_model(api: Api, path: str) -> None:
    answer = api.client.post(path)
    assert "X-Model" not in answer.headers
    assert model_of(api.job(answer.headers["X-Job-Id"])) == dict.fromkeys(FIRST)
    assert api.client.post(path, json={"adapter": "gpt2"}).json["param"] == "adapter"


def test_a_job_accepted_before_any_model_was_known_says_so(api: Api) -> None:
    api.redis.delete(keys.ALIASES)
    answer = api.generate()
    assert model_of(answer.json) == dict.fromkeys(FIRST)
    assert "X-Model" not in answer.headers


def test_a_waiting_job_keeps_its_version_when_the_alias_moves(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    registry = publish(api)
    accepted = [api.submit(model="prod") for _ in range(6)]
    registry.set_alias("prod", "support@2", set_by="ops")
    later = api.submit(model="prod")
    assert [model_of(api.job(job_id)) for job_id in accepted] == [FIRST] * 6
    listed = {job["job_id"]: model_of(job) for job in api.client.get("/slm/jobs").json["jobs"]}
    assert listed == dict.fromkeys(accepted, FIRST) | {later: SECOND}
    for job_id in (later, *reversed(accepted)):
        api.client.delete(f"/slm/jobs/{job_id}")


@every_path
def test_a_repeated_request_gets_its_first_job_wherever_the_alias_points_now(
    api: Api, registry: AdapterRegistry, path: str
) -> None:
    def send(**more: str) -> tuple[str | None, str | None, str | None]:
        answer = api.client.post(path, json=BODIES[path] | {"model": "prod"} | more, headers={"Idempotency-Key": "k"})
        answer.get_data()
        return answer.headers.get("X-Job-Id"), answer.headers.get("X-Model"), (answer.json or {}).get("code")

    first = send()
    registry.set_alias("prod", "support@2", set_by="ops")
    assert send() == first
    registry.delete_alias("prod")
    assert send() == first
    assert first[1:] == ("support@1", None)
    assert send(model="support@1")[2] == "idempotency_mismatch"


def test_a_stream_that_is_resumed_shows_the_version_that_it_began_with(api: Api, registry: AdapterRegistry) -> None:
    stream = api.stream(model="prod")
    whole = frames(stream.get_data(as_text=True))
    registry.set_alias("prod", "support@2", set_by="ops")
    rest = api.client.get(f"{stream.headers['Location']}/stream", headers={"Last-Event-ID": "1"})
    assert frames(rest.get_data(as_text=True)) == whole[2:]
    assert model_of(api.job(stream.headers["X-Job-Id"])) == FIRST


def test_a_retried_dead_letter_keeps_its_version(start_api: StartApi) -> None:
    api = start_api(lambda play: None)
    registry, store = publish(api), JobStore(api.redis, lambda _: None, job_ttl_s=60)
    job_id = api.submit(model="prod")
    registry.set_alias("prod", "support@2", set_by="ops")
    for _ in range(MAX_CRASHES):
        wait_for("the job to run", lambda: api.redis.zscore(keys.leases("generate"), job_id))
        api.redis.zadd(keys.leases("generate"), {job_id: 0})
        store.reap()
    assert model_of(api.client.get("/slm/quarantine").json["jobs"][0]) == FIRST
    retried = api.client.post(f"/slm/jobs/{job_id}/retry")
    assert retried.headers["X-Model"] == "support@1"
    assert model_of(api.job(retried.json["job_id"])) == FIRST


@pytest.mark.usefixtures("registry")
def test_a_webhook_says_which_version_ran(api: Api) -> None:
    done = api.generate(model="support@1")
    view = api.client.application.extensions["slm"].jobs.view(done.json["job_id"])
    assert model_of(json.loads(body_of(view))["data"]) == FIRST
