"""Adapters, aliases, vectors and exports with the httpx client, blocking and asynchronous."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from slm_client import Adapter, Alias, ConnectionLost, SLMClient

from common.settings import ROOT
from tests.clients.blocking import BlockingClient
from tests.clients.conftest import Worker
from tests.scripted_worker import answer

VERSION = {"name": "support", "id": "ab" * 32, "base": "gpt2", "rank": 8, "bytes": 1000, "aliases": [], "new": 1}
SECOND = VERSION | {"version": 2, "aliases": ["prod"]}
ALIAS = {"name": "prod", "model": "support@2", "history": ["support@1"], "success": True}
EMBEDDINGS = ROOT / "tests" / "golden" / "openai" / "embeddings.json"
ANSWERS: dict[str, Any] = {
    "GET /slm/adapters": {"adapters": [SECOND | {"versions": [VERSION | {"version": 1}, SECOND]}]},
    "GET /slm/adapters/support%401": VERSION | {"version": 1},
    "POST /slm/adapters?name=support&base=gpt2": SECOND | {"is_new": True},
    "DELETE /slm/adapters/support%401": {"name": "support", "versions": [1]},
    "GET /slm/aliases": {"aliases": [ALIAS]},
    "PUT /slm/aliases/prod": ALIAS,
    "POST /slm/aliases/prod/rollback": ALIAS,
    "DELETE /slm/aliases/prod": {"name": "prod"},
    "POST /v1/embeddings": json.loads(EMBEDDINGS.read_text("utf-8")),
}


class Server:
    """Answers as the server does; keeps the requests."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []
        self.is_gone = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        if self.is_gone:
            raise httpx.ReadError("gone", request=request)
        return httpx.Response(200, json=ANSWERS[f"{request.method} {request.url.raw_path.decode()}"])


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture(params=[SLMClient, BlockingClient], ids=["blocking", "async"])
def client(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def slm(client: Any, server: Server) -> Iterator[Any]:
    with client("http://test", transport=httpx.MockTransport(server)) as found:
        yield found


def test_adapters_are_listed_shown_and_deleted(slm: Any) -> None:
    [found] = slm.adapters()
    assert (found.version, found.aliases, [one.version for one in found.versions]) == (2, ["prod"], [1, 2])
    assert slm.adapter("support@1") == Adapter("support", 1, "ab" * 32, "gpt2", 8, 1000, [], [])
    slm.delete_adapter("support@1")


@pytest.mark.parametrize("is_folder", [True, False], ids=["folder", "archive"])
def test_a_folder_or_an_archive_is_published(slm: Any, server: Server, tmp_path: Path, *, is_folder: bool) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    path = tmp_path if is_folder else tmp_path / "adapter_config.json"
    assert slm.publish("support", path, base="gpt2").version == 2
    [request] = server.seen
    assert request.headers["Content-Type"] == "application/octet-stream"
    if is_folder:
        with tarfile.open(fileobj=io.BytesIO(request.content)) as archive:
            assert archive.getnames() == ["adapter_config.json"]
    else:
        assert request.content == b"{}"


def test_an_alias_is_set_rolled_back_and_deleted(slm: Any, server: Server) -> None:
    expected = Alias("prod", "support@2", ["support@1"])
    assert slm.set_alias("prod", "support") == slm.roll_back("prod") == expected
    assert json.loads(server.seen[0].content) == {"model": "support"}
    assert slm.aliases() == [expected]
    slm.delete_alias("prod")


def test_a_request_that_would_have_two_effects_is_not_repeated(slm: Any, server: Server) -> None:
    server.is_gone = True
    with pytest.raises(ConnectionLost):
        slm.roll_back("prod")
    assert len(server.seen) == 1


def test_texts_get_their_vectors(slm: Any, server: Server) -> None:
    first, second = slm.embed(["a", "b"], dimensions=2)
    assert (first[0], second[0]) == (0.5, 1.5)
    assert all(isinstance(number, float) for number in (*first, *second))
    assert json.loads(server.seen[0].content) == {"input": ["a", "b"], "dimensions": 2}


def test_a_conversation_is_exported_and_imported(client: Any, url: str, worker: Worker) -> None:
    with client(url) as slm, worker(answer("x")):
        made = slm.create_conversation(title="Birds")
        slm.append(made.id, "Can penguins fly?")
        copy = slm.import_conversation(slm.export_conversation(made.id))
        assert copy.id != made.id
        assert [one.content for one in slm.conversation(copy.id).shown()] == ["Can penguins fly?"]
        assert "## User\n\nCan penguins fly?" in slm.export_conversation(copy.id, "markdown")
