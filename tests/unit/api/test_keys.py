"""Keys, the audit log and the settings over HTTP, for admins."""

from __future__ import annotations

import re
from dataclasses import asdict, fields, replace
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from api.reference.document import OPERATIONS
from api.schemas.keys import KeyLimits, LimitFields
from common.owners.api_keys import DEFAULT_LIMITS, ApiKeyStore, Limits, Role
from common.owners.audit_log import AuditLog, Change
from common.owners.files import FileStore
from common.settings import ROOT, SECRETS
from tests.api_in_process import Api
from tests.unit.api.conftest import StartApi

PAIR = r"(\w+): (\d+)(?: \*\* (\d+))?"


@pytest.fixture
def root(redis: Redis) -> dict[str, str]:
    return {"X-API-Key": ApiKeyStore(redis).create("root", Role.ADMIN)}


def done(api: Api, root: dict[str, str]) -> list[tuple[str, str | None, str | None]]:
    """The audit log: action, target and details, newest first."""
    entries = api.client.get("/slm/audit", headers=root).json["entries"]
    return [(one["action"], one["target"], one["details"]) for one in entries]


def test_a_key_is_created_shown_once_changed_and_revoked(start_api: StartApi, root: dict[str, str]) -> None:
    api = start_api()
    client = api.client
    made = client.post("/slm/keys", json={"name": "ann", "limits": {"files": 3, "job_bytes": None}}, headers=root)
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    ann = {"X-API-Key": made.json["key"]}
    assert client.get("/slm/usage", headers=ann).json["role"] == "user"
    listed = client.get("/slm/keys", headers=root)
    assert made.json["key"] not in listed.text
    assert listed.json["keys"][0]["limits"] == made.json["limits"]
    assert made.json["limits"] == asdict(replace(DEFAULT_LIMITS, files=3, job_bytes=None))
    changed = client.patch("/slm/keys/ann", json={"role": "trainer", "limits": {"files": None}}, headers=root)
    assert (changed.json["role"], changed.json["limits"]["files"]) == ("trainer", None)
    assert client.delete("/slm/keys/ann", headers=root).json["name"] == "ann"
    assert client.get("/slm/usage", headers=ann).status_code == 401  # at once in this process
    assert done(api, root) == [
        ("revoke_key", "ann", None),
        ("change_key", "ann", "role: trainer, files: none"),
        ("create_key", "ann", "role: user, job_bytes: none, files: 3"),
    ]


def test_a_key_that_is_revoked_while_it_is_created_is_a_conflict(
    start_api: StartApi, redis: Redis, root: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, create = start_api().client, ApiKeyStore.create

    def create_and_lose(store: ApiKeyStore, name: str, *args: Any, **options: Any) -> str:
        secret = create(store, name, *args, **options)
        store.revoke(name)
        return secret

    monkeypatch.setattr(ApiKeyStore, "create", create_and_lose)
    assert client.post("/slm/keys", json={"name": "ann"}, headers=root).status_code == 409


def test_revoking_a_key_cancels_its_jobs(start_api: StartApi, redis: Redis, root: dict[str, str]) -> None:
    api = start_api()
    ann = {"X-API-Key": ApiKeyStore(redis).create("ann", Role.USER)}
    with api.worker.busy():
        api.client.post("/slm/generate", json={"prompt": "Hi", "async": True}, headers=ann)
        assert api.client.get("/slm/keys", headers=root).json["keys"][0]["usage"]["open_jobs"] == 1
        assert api.client.delete("/slm/keys/ann", headers=root).json["cancelled_jobs"] == 1


def test_usage_is_counted_per_key(start_api: StartApi, redis: Redis, root: dict[str, str]) -> None:
    api = start_api()
    ann = {"X-API-Key": ApiKeyStore(redis).create("ann", Role.USER)}
    answer = api.client.post("/slm/generate", json={"prompt": "Hi"}, headers=ann).json
    used = {one["name"]: one["usage"] for one in api.client.get("/slm/keys", headers=root).json["keys"]}
    assert used["ann"]["total_tokens"] == used["ann"]["tokens_today"] == answer["usage"]["total_tokens"] > 0
    assert (used["ann"]["jobs"], used["root"]["jobs"]) == (1, 0)
    assert used["ann"]["job_bytes"] > 0


def test_the_first_key_must_be_an_admins(start_api: StartApi) -> None:
    client = start_api().client
    refused = client.post("/slm/keys", json={"name": "ann"})
    assert (refused.status_code, refused.json["code"]) == (409, "conflict")
    made = client.post("/slm/keys", json={"name": "root", "role": "admin"})
    assert made.status_code == 201
    assert client.get("/slm/keys").status_code == 401
    assert client.get("/slm/keys", headers={"X-API-Key": made.json["key"]}).status_code == 200


@pytest.mark.parametrize(
    ("insecure", "headers"), [(True, {}), (False, {"X-Forwarded-For": "203.0.113.7"}), (False, {"Origin": "null"})]
)
def test_the_first_key_is_not_created_from_another_machine(
    start_api: StartApi, redis: Redis, insecure: bool, headers: dict[str, str]
) -> None:
    api, body = start_api(insecure=insecure, cors_origins="null"), {"name": "mallory", "role": "admin"}
    refused = api.client.post("/slm/keys", json=body, headers=headers)
    assert (refused.status_code, refused.json["code"]) == (403, "forbidden")
    assert "slm keys create" in refused.json["error"]
    root = {"X-API-Key": ApiKeyStore(redis).create("root", Role.ADMIN)}
    later = start_api(insecure=insecure)  # has no keys in its cache
    assert later.client.post("/slm/keys", json=body, headers=headers | root).status_code == 201


def test_the_last_admin_stays(start_api: StartApi, redis: Redis, root: dict[str, str]) -> None:
    client = start_api().client
    assert client.patch("/slm/keys/root", json={"role": "user"}, headers=root).status_code == 409
    assert client.delete("/slm/keys/root", headers=root).status_code == 409
    ApiKeyStore(redis).create("second", Role.ADMIN)
    assert client.patch("/slm/keys/root", json={"limits": {"files": 1}}, headers=root).status_code == 200
    assert client.delete("/slm/keys/root", headers=root).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "a b"}, "name"),
        ({}, "name"),
        ({"name": "x", "role": "king"}, "role"),
        ({"name": "x", "limits": {"files": 0}}, "limits.files"),
        ({"name": "x", "limits": {"apples": 1}}, "limits.apples"),
        ({"name": "x", "limits": None}, "limits"),
    ],
    ids=["name", "missing", "role", "zero", "unknown", "null"],
)
def test_a_wrong_key_is_refused_by_its_field(
    start_api: StartApi, root: dict[str, str], body: dict[str, object], param: str
) -> None:
    refused = start_api().client.post("/slm/keys", json=body, headers=root)
    assert (refused.status_code, refused.json["param"]) == (400, param)


def test_names_in_use_and_unknown_names(start_api: StartApi, root: dict[str, str]) -> None:
    client = start_api().client
    assert client.post("/slm/keys", json={"name": "root"}, headers=root).status_code == 409
    assert client.post("/slm/keys", json={"name": "anonymous"}, headers=root).status_code == 409
    assert client.patch("/slm/keys/nobody", json={}, headers=root).status_code == 404
    assert client.delete("/slm/keys/nobody", headers=root).status_code == 404


def test_only_admins_manage(start_api: StartApi, redis: Redis) -> None:
    client = start_api().client
    ApiKeyStore(redis).create("root", Role.ADMIN)
    trainer = {"X-API-Key": ApiKeyStore(redis).create("tom", Role.TRAINER)}
    for path in ("/slm/keys", "/slm/audit", "/slm/settings"):
        assert client.get(path, headers=trainer).status_code == 403


def test_what_operators_do_is_recorded_and_what_others_do_is_not(start_api: StartApi, redis: Redis) -> None:
    api = start_api()
    root = {"X-API-Key": ApiKeyStore(redis).create("root", Role.ADMIN)}
    ann = {"X-API-Key": ApiKeyStore(redis).create("ann", Role.USER)}
    client = api.client
    client.put("/slm/aliases/prod", json={"model": "cuda_lora_out"}, headers=root)
    client.put("/slm/aliases/prod", json={"model": "nothing"}, headers=root)  # refused
    client.get("/slm/aliases", headers=root)
    with api.worker.busy():
        first, second = (
            client.post("/slm/generate", json={"prompt": "Hi", "async": True}, headers=ann).json["job_id"] for _ in "12"
        )
        client.delete(f"/slm/jobs/{first}", headers=ann)
        client.delete(f"/slm/jobs/{second}", headers=root)
    entries = client.get("/slm/audit", headers=root).json["entries"]
    assert [(one["action"], one["target"], one["details"]) for one in entries] == [
        ("cancel_job", None, None),
        ("set_alias", "prod", "cuda_lora_out@1"),
    ]
    assert (entries[0]["job_id"], entries[0]["owner"]) == (second, "root")
    older = client.get(f"/slm/audit?limit=1&after={entries[0]['id']}", headers=root).json
    assert (older["entries"], older["has_more"]) == (entries[1:], False)


def test_a_repeated_request_is_recorded_once(start_api: StartApi, redis: Redis, root: dict[str, str]) -> None:
    api = start_api()
    api.worker.training = lambda _play: None
    body = {"name": "support", "file_id": FileStore(redis, ttl_s=60).put("root", "a.jsonl", "fine-tune", ["{}"]).id}
    headers = root | {"Idempotency-Key": "once"}
    first, second = (api.client.post("/slm/train", json=body, headers=headers).json["job_id"] for _ in "12")
    assert first == second
    assert [action for action, _, _ in done(api, root)] == ["train"]


def test_every_changing_route_of_operators_has_a_name_in_the_page() -> None:
    """The audit log has the names of views; the page translates them."""
    from common.settings import ROOT

    known = (ROOT / "web" / "src" / "strings" / "en" / "system.ts").read_text("utf-8")
    for endpoint in OPERATIONS:
        if endpoint.startswith(("api_keys.", "adapters.", "quarantine.", "training.", "fine_tuning.")):
            action = endpoint.rpartition(".")[2]
            assert action.startswith(("list_", "show_")) or f"{action}:" in known, action


def test_a_change_without_a_log_is_still_made(
    start_api: StartApi, root: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_log: AuditLog, _change: Change) -> None:
        raise RedisConnectionError

    api = start_api()
    monkeypatch.setattr(AuditLog, "add", fail)
    assert api.client.put("/slm/aliases/prod", json={"model": "cuda_lora_out"}, headers=root).status_code == 200
    assert "audit log" in caplog.text


def test_settings_are_shown_without_secrets(start_api: StartApi) -> None:
    api = start_api(webhook_secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", max_queue=7)
    listed = api.client.get("/slm/settings")
    shown = {one["name"]: one for one in listed.json["settings"]}
    assert "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" not in listed.text
    assert (shown["SLM_MAX_QUEUE"]["value"], shown["SLM_MAX_QUEUE"]["is_default"]) == ("7", False)
    assert shown["SLM_WEBHOOK_SECRET"]["is_secret"]
    assert {name for name, one in shown.items() if one["is_secret"]} == {f"SLM_{name.upper()}" for name in SECRETS}


def test_passwords_in_urls_are_not_shown(start_api: StartApi) -> None:
    api = start_api(otlp_endpoint="http://bob:pa@ss@collector:4318", api_url="https://eve:hunter2@slm.example.com")
    shown = {one["name"]: one["value"] for one in api.client.get("/slm/settings").json["settings"]}
    assert shown["SLM_OTLP_ENDPOINT"] == "http://***@collector:4318"
    assert shown["SLM_API_URL"] == "https://***@slm.example.com"


def test_admins_see_the_owners_of_jobs(start_api: StartApi, redis: Redis, root: dict[str, str]) -> None:
    client = start_api().client
    ann = {"X-API-Key": ApiKeyStore(redis).create("ann", Role.USER)}
    client.post("/slm/generate", json={"prompt": "Hi"}, headers=ann)
    assert client.get("/slm/jobs", headers=root).json["jobs"][0]["owner"] == "ann"
    assert "owner" not in client.get("/slm/jobs", headers=ann).json["jobs"][0]


def test_all_places_know_the_same_limits() -> None:
    names = [one.name for one in fields(Limits)]
    assert [*LimitFields.model_fields] == [*KeyLimits.__annotations__] == names


def test_the_page_shows_the_default_limits() -> None:
    form = (ROOT / "web" / "src" / "views" / "system" / "KeyForm.svelte").read_text("utf-8")
    [usual] = re.findall(r"const USUAL: Partial<KeyLimits> = {(.*)};", form)
    shown = {name: int(number) ** int(power or 1) for name, number, power in re.findall(PAIR, usual)}
    assert shown == {name: limit for name, limit in asdict(DEFAULT_LIMITS).items() if limit is not None}
