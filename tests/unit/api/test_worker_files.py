"""The routes for workers of other hosts: who may use them, and what they take and give."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from redis import Redis
from werkzeug.test import TestResponse

from common.adapters.store import AdapterStore
from common.content import ContentHashes
from common.owners.api_keys import ApiKeyStore, Role
from tests.adapter_files import write_adapter
from tests.api_in_process import Api
from tests.unit.api.conftest import StartApi

UPLOAD = "00000000-0000-4000-8000-000000000000"


class WorkerClient:
    """A client with a key of each role."""

    def __init__(self, api: Api, redis: Redis) -> None:
        self._api = api
        self._keys = {role: ApiKeyStore(redis).create(role.value, role) for role in Role}
        self.data = api.settings.data_dir

    def open(self, method: str, path: str, role: Role = Role.WORKER, **options: object) -> TestResponse:
        headers = {"X-API-Key": self._keys[role]}
        return self._api.client.open(path, method=method, headers=headers, **options)

    def read(self, path: str) -> bytes:
        with self.open("GET", path) as response:
            return response.data

    def send(self, content: bytes, digest: str | None = None) -> TestResponse:
        digest = digest or hashlib.sha256(content).hexdigest()
        return self.open("POST", f"/slm/worker/uploads/{digest}", data=content)

    def add(self, files: dict[str, bytes], adapter_id: str) -> TestResponse:
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        return self.open("PUT", f"/slm/worker/adapters/{adapter_id}", json={"files": hashes})


@pytest.fixture
def client(start_api: StartApi, redis: Redis, data_dir: Path) -> WorkerClient:
    return WorkerClient(start_api(data_dir=data_dir, max_adapter_bytes=20_000), redis)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in write_adapter(tmp_path / "source").iterdir()}


@pytest.fixture
def adapter_id(tmp_path: Path, files: dict[str, bytes]) -> str:
    assert files
    return ContentHashes().of_folder(tmp_path / "source")


def test_only_workers_and_admins_may_use_them(client: WorkerClient) -> None:
    path = f"/slm/worker/uploads/{UPLOAD}"
    found = {role: client.open("GET", path, role) for role in Role}
    assert {role: one.status_code for role, one in found.items()} == {
        Role.USER: 403,
        Role.WORKER: 404,
        Role.TRAINER: 403,
        Role.ADMIN: 404,
    }
    assert found[Role.USER].json["error"] == "This needs a worker's API key."


@pytest.mark.parametrize("path", ["/slm/info", "/slm/adapters", "/v1/models", "/slm/quarantine"])
def test_a_workers_key_opens_nothing_else(client: WorkerClient, path: str) -> None:
    assert client.open("GET", path).status_code == 403
    assert client.open("GET", path, Role.ADMIN).status_code == 200


def test_an_adapter_is_added_and_read_back(client: WorkerClient, files: dict[str, bytes], adapter_id: str) -> None:
    assert client.open("GET", f"/slm/worker/adapters/{adapter_id}").status_code == 404
    for content in files.values():
        assert client.send(content).status_code == 200
    for _ in range(2):
        assert client.add(files, adapter_id).status_code == 200
    listed = client.open("GET", f"/slm/worker/adapters/{adapter_id}").json["files"]
    assert {file["name"]: file["bytes"] for file in listed} == {name: len(content) for name, content in files.items()}
    for name, content in files.items():
        assert client.read(f"/slm/worker/adapters/{adapter_id}/{name}") == content
    assert AdapterStore(client.data / "adapters").folder(adapter_id).is_dir()


def test_only_what_has_the_hash_is_taken(client: WorkerClient, files: dict[str, bytes], adapter_id: str) -> None:
    wrong = client.send(b"something", "0" * 64)
    assert (wrong.status_code, wrong.json["param"]) == (400, "file")
    assert client.send(b"x" * 20_001).status_code == 413
    assert list((client.data / "uploads").iterdir()) == []
    missing = client.add(files, adapter_id)
    assert (missing.status_code, missing.json["param"]) == (400, "files")
    assert "has not been sent" in missing.json["error"]
    others = client.add(files | {"more.json": b"{}"}, adapter_id)
    assert others.json["error"].startswith(f"files must be those of adapter {adapter_id[:12]}; got those of")
    assert AdapterStore(client.data / "adapters").ids() == set()


@pytest.mark.parametrize("name", ["../evil.json", ".hidden.json", "a/b.json", "weights.bin", ""])
def test_an_adapters_file_has_a_plain_name(client: WorkerClient, name: str) -> None:
    client.send(b"{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    adapter_id = hashlib.sha256(f"{digest} {name}\n".encode()).hexdigest()
    refused = client.add({name: b"{}"}, adapter_id)
    assert (refused.status_code, refused.json["param"]) == (400, "files")
    assert AdapterStore(client.data / "adapters").ids() == set()


@pytest.mark.parametrize(
    "path", ["adapters/..", "adapters/x/adapter_config.json", "uploads/x", f"adapters/{'0' * 64}", f"uploads/{UPLOAD}"]
)
def test_what_is_not_there_is_not_found(client: WorkerClient, path: str) -> None:
    assert client.open("GET", f"/slm/worker/{path}").status_code == 404


def test_an_archive_is_read_and_deleted(client: WorkerClient) -> None:
    (client.data / "uploads").mkdir(parents=True)
    (client.data / "uploads" / UPLOAD).write_bytes(b"archive")
    assert client.read(f"/slm/worker/uploads/{UPLOAD}") == b"archive"
    for _ in range(2):
        assert client.open("DELETE", f"/slm/worker/uploads/{UPLOAD}").status_code == 200
    assert client.open("GET", f"/slm/worker/uploads/{UPLOAD}").status_code == 404
