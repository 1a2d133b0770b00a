"""The routes for models, adapters and aliases: what they show, who may use them, and how uploads are received."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from redis import Redis
from werkzeug.test import TestResponse

from api.schemas.adapters import Adapter, AdapterList, AliasList, ModelNames, Published, ShownAdapter, ShownAlias
from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.owners.api_keys import ApiKeyStore, Role
from common.redis import keys
from tests.api_in_process import MODEL, REPORT, Api
from tests.scripted_worker import answer
from tests.unit.api.conftest import StartApi

Json = dict[str, Any]
ARCHIVE = b"archive"


@pytest.fixture
def api(start_api: StartApi, data_dir: Path) -> Api:
    return start_api(data_dir=data_dir, max_adapter_bytes=20_000)


@pytest.fixture
def registry(redis: Redis) -> AdapterRegistry:
    return AdapterRegistry(redis)


def upload(api: Api, content: bytes = ARCHIVE, name: str = "support", **options: Any) -> TestResponse:
    sent = {"data": content, "content_type": "application/gzip"} | options
    return api.client.post("/slm/adapters", query_string={"name": name}, **sent)


def uploads_of(api: Api) -> list[str]:
    folder = api.settings.data_dir / "uploads"
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def check(body: Json, model: Any) -> Json:
    """Check that a body is as the reference describes it."""
    TypeAdapter(model).validate_json(json.dumps(body), strict=True)
    return body


# -- uploads -----------------------------------------------------------------------------------------------------------


def test_an_upload_becomes_the_newest_version(api: Api) -> None:
    first, second = upload(api, b"one"), upload(api, b"two")
    assert (first.status_code, second.status_code) == (201, 201)
    body = check(dict(second.json), Published)
    expected = {"name": "support", "version": 2, "base": "gpt2", "rank": 8, "modules": ["c_attn"], "bytes": 3}
    assert body.items() >= expected.items()
    assert (body["success"], body["is_new"], body["job_id"]) == (True, True, second.headers["X-Job-Id"])
    assert api.client.get("/slm/adapters/support").json["version"] == 2
    assert uploads_of(api) == []


def test_an_upload_of_the_newest_content_changes_nothing(api: Api) -> None:
    upload(api)
    again = upload(api)
    assert (again.status_code, again.json["version"], again.json["is_new"]) == (200, 1, False)


@pytest.mark.parametrize(
    "content_type", ["application/gzip", "application/zip", "application/x-tar", "application/octet-stream", ""]
)
def test_an_archive_can_be_the_body(api: Api, content_type: str) -> None:
    assert upload(api, content_type=content_type).status_code == 201


def test_an_archive_can_be_in_a_form(api: Api, redis: Redis) -> None:
    form = {"file": (BytesIO(ARCHIVE), "support.tar.gz")}
    assert upload(api, data=form, content_type="multipart/form-data").status_code == 201
    assert upload(api).json["is_new"] is False, "it is the same content"


@pytest.mark.parametrize("size", [65_536, 300_000])
def test_an_archive_in_a_form_can_be_large(start_api: StartApi, data_dir: Path, size: int) -> None:
    api = start_api(data_dir=data_dir)
    form = {"file": (BytesIO(bytes(size)), "support.tar.gz")}
    assert upload(api, data=form, content_type="multipart/form-data").json["bytes"] == size


def test_a_client_need_not_wait(api: Api) -> None:
    accepted = upload(api, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    job = api.finish(accepted.json["job_id"])
    assert (job["kind"], job["status"], job["result"]["version"]) == ("publish", "succeeded", 1)


def test_the_stream_of_a_publish_job_tells_how_it_goes(api: Api) -> None:
    job_id = upload(api).headers["X-Job-Id"]
    text = api.client.get(f"/slm/jobs/{job_id}/stream").text
    assert '{"status": "Checking the adapter..."}' in text
    assert '{"status": "Publish complete!", "device_used": null}' in text


@pytest.mark.parametrize(
    ("sent", "status", "param", "words"),
    [
        ({"name": "a b"}, 400, "name", "'a b' cannot be a name"),
        ({"name": "support@3"}, 400, "name", "cannot be a name"),
        ({"name": "gpt2"}, 409, "name", "a base model named 'gpt2'"),
        ({"name": "default"}, 409, "name", "the alias of requests without a name"),
        ({"content": b""}, 400, "file", "got nothing"),
        ({"content": b"broken"}, 400, "file", "The archive cannot be read"),
        ({"content": bytes(20_001)}, 413, None, "must not be larger than 20000 bytes"),
        ({"content_type": "application/json"}, 415, None, "got 'application/json'"),
        ({"content_type": "application/x-www-form-urlencoded"}, 415, None, "application/gzip"),
        ({"headers": {"Content-Encoding": "gzip"}}, 415, None, "must not be compressed"),
    ],
    ids=str,
)
def test_an_upload_that_cannot_be_used_is_refused_and_leaves_nothing(
    api: Api, sent: Json, status: int, param: str | None, words: str
) -> None:
    refused = upload(api, **sent)
    assert (refused.status_code, refused.json.get("param")) == (status, param), refused.text
    assert words in refused.json["error"]
    assert uploads_of(api) == []
    assert api.client.get("/slm/adapters/support").status_code == 404


@pytest.mark.parametrize(
    ("form", "status", "param"),
    [
        ({}, 400, "file"),
        ({"file": "text"}, 400, "file"),
        ({"file": (BytesIO(b"a"), "a"), "purpose": "batch"}, 400, "purpose"),
        ({"other": (BytesIO(b"a"), "a")}, 400, "other"),
        ({"file": [(BytesIO(b"a"), "a"), (BytesIO(b"b"), "b")]}, 400, "file"),
        ({"file": (BytesIO(bytes(20_001)), "a")}, 413, None),
        ({"file": (BytesIO(bytes(200_000)), "a")}, 413, None),
    ],
    ids=["empty", "text", "another field too", "another field", "two files", "too large", "much too large"],
)
def test_a_wrong_form_is_refused_and_leaves_nothing(api: Api, form: Json, status: int, param: str | None) -> None:
    refused = upload(api, data=form, content_type="multipart/form-data")
    assert (refused.status_code, refused.json.get("param")) == (status, param), refused.text
    assert uploads_of(api) == []


def test_a_name_is_required(api: Api) -> None:
    refused = api.client.post("/slm/adapters", data=ARCHIVE, content_type="application/gzip")
    assert (refused.status_code, refused.json["param"]) == (400, "name")


def test_without_a_worker_nothing_is_kept(api: Api) -> None:
    api.worker.leave()
    assert upload(api).status_code == 503
    assert uploads_of(api) == []


# -- what is shown -----------------------------------------------------------------------------------------------------


def facts(adapter_id: str, **more: Any) -> VersionFacts:
    return VersionFacts(adapter_id, "gpt2", "b5a4d58c", 16, ("c_attn",), 1234, **more)


def test_only_admins_see_the_summary_of_a_training(api: Api, redis: Redis, registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1", summary={"samples": ["A customer's question"]}))
    keys = {role: ApiKeyStore(redis).create(role.value, role) for role in (Role.USER, Role.ADMIN)}
    for path in ("/slm/adapters/support", "/slm/adapters/support@1"):
        seen = {role: api.client.get(path, headers={"X-API-Key": key}).json["summary"] for role, key in keys.items()}
        assert seen == {Role.USER: None, Role.ADMIN: {"samples": ["A customer's question"]}}


def test_an_adapter_is_shown_with_its_versions_aliases_and_workers(
    start_api: StartApi, registry: AdapterRegistry, data_dir: Path
) -> None:
    api = start_api(data_dir=data_dir, report=REPORT.but(adapters=["a1"]))
    registry.register("support", facts("a1", summary={"eval_loss_after": 2.7}))
    registry.register("support", facts("a2"))
    registry.set_alias("prod", "support@1", set_by="ann")
    shown = check(dict(api.client.get("/slm/adapters/support").json), ShownAdapter)
    assert (shown["version"], shown["id"], shown["aliases"], shown["workers"]) == (2, "a2", [], [])
    first, second = shown["versions"]
    assert (first["version"], first["aliases"], first["workers"]) == (1, ["prod"], ["slm1@host"])
    assert (first["summary"], second["summary"]) == ({"eval_loss_after": 2.7}, None)
    one = check(dict(api.client.get("/slm/adapters/support@1").json), ShownAdapter)
    assert one == first | {"success": True}
    listed = check(dict(api.client.get("/slm/adapters").json), AdapterList)
    assert [one["name"] for one in listed["adapters"]] == [MODEL, "support"]
    assert check(listed["adapters"][1], Adapter)["versions"] == shown["versions"]


@pytest.mark.parametrize("name", ["other", "support@2", "support@x", "gpt2"])
def test_what_does_not_exist_is_not_shown(api: Api, registry: AdapterRegistry, name: str) -> None:
    registry.register("support", facts("a1"))
    for refused in (api.client.get(f"/slm/adapters/{name}"), api.client.delete(f"/slm/adapters/{name}")):
        assert (refused.status_code, refused.json["code"], refused.json["param"]) == (404, "adapter_not_found", "name")
        assert refused.json["error"] == f"There is no adapter {name!r}. There are: {MODEL}, support."


def test_every_name_is_listed(start_api: StartApi, registry: AdapterRegistry) -> None:
    known = {"license": "mit", "parameters": 124, "model_bytes": 496, "context": 1024, "dtype": "float32"}
    api = start_api(report=REPORT.but(**known))
    registry.register("support", facts("a1"))
    registry.register("support", facts("a2"))
    registry.set_alias("prod", "support@1", set_by="ann")
    listed = check(dict(api.client.get("/slm/models").json), ModelNames)
    rows = {one["name"]: one for one in listed["models"]}
    assert list(rows) == [MODEL, "default", "gpt2", "prod", "support"]
    base = {"name": "gpt2", "kind": "base", "model": "gpt2", "base": "gpt2", "parent": None, "version": None}
    card = {"license": "mit", "parameters": 124, "bytes": 496, "context_length": 1024, "dtype": "float32"}
    assert rows["gpt2"] == base | {"adapter_id": None, "versions": [], "workers": ["slm1@host"], "card": card}
    prod = {"name": "prod", "kind": "alias", "model": "support@1", "base": "gpt2", "parent": "gpt2", "version": 1}
    assert rows["prod"] == prod | {"adapter_id": "a1", "versions": [], "workers": [], "card": None}
    assert (rows["support"]["model"], rows["support"]["versions"]) == ("support@2", [1, 2])


# -- deletion ----------------------------------------------------------------------------------------------------------


def test_only_a_base_model_that_no_worker_serves_can_be_forgotten(api: Api, registry: AdapterRegistry) -> None:
    registry.note_base("org/old", "b2")
    assert api.client.delete("/slm/models/org/old").json == {"success": True, "name": "org/old"}
    assert "org/old" not in registry.bases()
    served = api.client.delete("/slm/models/gpt2")
    assert served.status_code == 409
    assert "'gpt2' is served by the worker slm1@host" in served.json["error"]
    assert api.client.delete("/slm/models/nothing").status_code == 404


def test_a_version_and_an_adapter_can_be_deleted(api: Api, registry: AdapterRegistry) -> None:
    for number in range(3):
        registry.register("support", facts(f"a{number}"))
    deleted = api.client.delete("/slm/adapters/support@2")
    assert (deleted.status_code, deleted.json) == (200, {"success": True, "name": "support", "versions": [2]})
    assert api.client.get("/slm/adapters/support@2").status_code == 404
    assert api.client.delete("/slm/adapters/support").json["versions"] == [1, 3]
    assert api.client.get("/slm/adapters/support").status_code == 404


def test_what_is_needed_cannot_be_deleted(api: Api, redis: Redis, registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    registry.set_alias("prod", "support", set_by="ann")
    refused = api.client.delete("/slm/adapters/support@1")
    assert (refused.status_code, refused.json["code"]) == (409, "conflict")
    assert refused.json["error"] == "'support@1' is needed by the alias 'prod'. Nothing was deleted."
    registry.delete_alias("prod")
    redis.hset(keys.job("j"), "model", "support@1")
    redis.zadd(keys.pending("generate"), {"j": 1})
    assert "the open job j" in api.client.delete("/slm/adapters/support").json["error"]


# -- aliases -----------------------------------------------------------------------------------------------------------


def test_an_alias_is_set_moved_rolled_back_and_deleted(api: Api, registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    created = api.client.put("/slm/aliases/prod", json={"model": "support"})
    assert created.status_code == 200
    alias = {"name": "prod", "model": "support@1", "history": [], "set_by": "anonymous"}
    assert check(dict(created.json), ShownAlias) == alias | {"success": True}
    registry.register("support", facts("a2"))
    moved = api.client.put("/slm/aliases/prod", json={"model": "support"}).json
    assert (moved["model"], moved["history"]) == ("support@2", ["support@1"])
    listed = check(dict(api.client.get("/slm/aliases").json), AliasList)
    assert [one["name"] for one in listed["aliases"]] == ["default", "prod"]
    assert [one["set_by"] for one in listed["aliases"]] == [None, "anonymous"]
    assert api.client.post("/slm/aliases/prod/rollback").json["model"] == "support@1"
    assert api.client.post("/slm/aliases/prod/rollback").status_code == 409
    assert api.client.delete("/slm/aliases/prod").json == {"success": True, "name": "prod"}
    assert api.client.delete("/slm/aliases/prod").status_code == 404
    assert api.client.post("/slm/aliases/prod/rollback").status_code == 404


@pytest.mark.parametrize(
    ("alias", "body", "status", "param"),
    [
        ("prod", {}, 400, "model"),
        ("prod", {"model": 3}, 400, "model"),
        ("prod", {"model": ""}, 400, "model"),
        ("prod", {"model": None}, 400, "model"),
        ("prod", {"model": "gpt2", "x": 1}, 400, "x"),
        ("prod", {"model": "other"}, 404, "model"),
        ("prod", {"model": "x" * 201}, 400, "model"),
        ("a b", {"model": "gpt2"}, 400, "alias"),
        ("prod@1", {"model": "gpt2"}, 400, "alias"),
        ("gpt2", {"model": "gpt2"}, 409, "alias"),
        (MODEL, {"model": "gpt2"}, 409, "alias"),
    ],
)
def test_a_wrong_alias_is_refused(api: Api, alias: str, body: Json, status: int, param: str) -> None:
    refused = api.client.put(f"/slm/aliases/{alias}", json=body)
    assert (refused.status_code, refused.json["param"]) == (status, param), refused.text
    assert [one["name"] for one in api.client.get("/slm/aliases").json["aliases"]] == ["default"]


def test_a_request_follows_the_alias(start_api: StartApi, registry: AdapterRegistry) -> None:
    api = start_api(answer("Hi"))
    registry.register("support", facts("a1"))
    api.client.put("/slm/aliases/default", json={"model": "support"})
    assert api.generate().json["model"] == "support@1"


# -- rights ------------------------------------------------------------------------------------------------------------


def test_everybody_may_read_and_only_admins_may_write(api: Api, redis: Redis, registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    registry.set_alias("prod", "support", set_by="root")
    key = {"X-API-Key": ApiKeyStore(redis).create("ann", Role.USER)}
    for path in ("/slm/models", "/slm/adapters", "/slm/adapters/support", "/slm/adapters/support@1", "/slm/aliases"):
        assert api.client.get(path, headers=key).status_code == 200
        assert api.client.get(path).status_code == 401
    shown = api.client.get("/slm/aliases", headers=key).json["aliases"]
    assert all("set_by" not in one for one in shown)
    workers = {tuple(one["workers"]) for one in api.client.get("/slm/models", headers=key).json["models"]}
    assert workers == {("worker-1",), ()}
    for method, path in (
        ("POST", "/slm/adapters?name=x"),
        ("DELETE", "/slm/adapters/support"),
        ("PUT", "/slm/aliases/prod"),
        ("POST", "/slm/aliases/prod/rollback"),
        ("DELETE", "/slm/aliases/prod"),
    ):
        refused = api.client.open(path, method=method, headers=key, json={"model": "gpt2"})
        assert (refused.status_code, refused.json["code"]) == (403, "forbidden"), path
