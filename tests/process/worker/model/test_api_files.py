"""Fetching from an API that answers wrongly, late or not at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.adapters.store import AdapterStore
from common.content import ContentHashes
from common.errors import ModelUnavailable
from tests.adapter_files import write_adapter
from worker.model.adapter_files import AdapterFiles
from worker.model.api_files import ApiFiles, NotOnTheApi

NO_DELAYS = (0.01, 0.01, 0.01)


class Answers:
    """What the API answers: by path, a list of (status, body), the last of which is repeated. `None`: it hangs up."""

    def __init__(self) -> None:
        self.by_path: dict[str, list[tuple[int, bytes] | None]] = {}
        self.requests: list[str] = []

    def next(self, path: str) -> tuple[int, bytes] | None:
        self.requests.append(path)
        found = self.by_path.get(path, [(404, b'{"error": "not here"}')])
        return found.pop(0) if len(found) > 1 else found[0]

    def serve(self, folder: Path, adapter_id: str) -> str:
        """Answer with the files of that folder; return the path of their list."""
        path = f"/slm/worker/adapters/{adapter_id}"
        files = list(folder.iterdir())
        listed = [{"name": file.name, "bytes": file.stat().st_size} for file in files]
        self.by_path = {path: [(200, json.dumps({"files": listed}).encode())]}
        self.by_path |= {f"{path}/{file.name}": [(200, file.read_bytes())] for file in files}
        return path


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def url(answers: Answers) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if (answer := answers.next(self.path)) is None:
                return
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def files(url: str, tmp_path: Path) -> Iterator[AdapterFiles]:
    with closing(ApiFiles(url, "slm_key", max_bytes=10_000, delays_s=NO_DELAYS)) as api:
        yield AdapterFiles(AdapterStore(tmp_path / "data" / "adapters"), api)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "source")


def test_an_api_that_fails_for_a_moment_is_asked_again(answers: Answers, files: AdapterFiles, source: Path) -> None:
    adapter_id = ContentHashes().of_folder(source)
    path = answers.serve(source, adapter_id)
    for one in answers.by_path.values():
        one[:0] = [(503, b"{}"), None]
    files.fetch(adapter_id)
    assert ContentHashes().of_folder(files.folder(adapter_id)) == adapter_id
    assert answers.requests.count(path) == 3


def test_an_api_that_never_answers_is_given_up(answers: Answers, files: AdapterFiles) -> None:
    answers.by_path[f"/slm/worker/adapters/{'a' * 64}"] = [None]
    with pytest.raises(ModelUnavailable, match=r"cannot be fetched from the API: The API at .* cannot be used: Remote"):
        files.fetch("a" * 64)
    assert len(answers.requests) == 1 + len(NO_DELAYS)


def test_what_is_not_there_is_asked_for_once(answers: Answers, files: AdapterFiles) -> None:
    with pytest.raises(ModelUnavailable, match="not here"):
        files.fetch("a" * 64)
    assert len(answers.requests) == 1


def test_other_files_are_not_kept(answers: Answers, files: AdapterFiles, source: Path) -> None:
    answers.serve(source, "a" * 64)
    with pytest.raises(ModelUnavailable, match="not of adapter aaaaaaaaaaaa"):
        files.fetch("a" * 64)
    assert files.store.ids() == set()


@pytest.mark.parametrize("lie", [True, False], ids=["more than announced", "more than allowed"])
def test_a_download_is_bounded(answers: Answers, files: AdapterFiles, source: Path, lie: bool) -> None:
    path = answers.serve(source, "a" * 64)
    listed = [{"name": "adapter_config.json", "bytes": 5 if lie else 20_000}]
    answers.by_path[path] = [(200, json.dumps({"files": listed}).encode())]
    with pytest.raises(ModelUnavailable, match="5 bytes that were expected" if lie else "larger than 10000 bytes"):
        files.fetch("a" * 64)


def test_damaged_files_are_fetched_again(answers: Answers, files: AdapterFiles, source: Path) -> None:
    adapter_id = ContentHashes().of_folder(source)
    answers.serve(source, adapter_id)
    files.fetch(adapter_id)
    (files.folder(adapter_id) / "adapter_config.json").write_text("{}")
    assert ContentHashes().of_folder(files.folder(adapter_id)) == adapter_id


def test_an_upload_that_is_gone_is_told_from_trouble(url: str, tmp_path: Path) -> None:
    with (
        closing(ApiFiles(url, None, max_bytes=10, delays_s=NO_DELAYS)) as api,
        (tmp_path / "archive").open("wb") as file,
        pytest.raises(NotOnTheApi),
    ):
        api.fetch_upload("gone", file)
