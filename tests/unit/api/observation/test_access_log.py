"""One line per request, at the end of its answer, with its ids and without the client's texts."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest

from common.observation.logs import JsonFormatter
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi

LOGGER = "api.observation.access_log"


class Lines(logging.Handler):
    """Keeps each record's JSON line, formatted when it was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def access(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Lines:
    caplog.set_level(logging.INFO)
    handler = Lines()
    monkeypatch.setattr(logging.getLogger(LOGGER), "handlers", [handler])
    return handler


def test_a_request_is_one_line(api: Api, access: Lines) -> None:
    answer = api.client.get("/slm/jobs?limit=5&key=secret", headers={"X-Request-Id": "r-1"}, buffered=True)
    [line] = access.lines
    assert line.pop("duration_ms") >= 0
    del line["time"], line["message"]
    assert line == {
        "level": "INFO",
        "logger": LOGGER,
        "request_id": "r-1",
        "owner": "anonymous",
        "method": "GET",
        "path": "/slm/jobs",
        "status": 200,
        "bytes": len(answer.data),
    }


def test_a_generation_names_its_job_and_never_its_prompt(api: Api, access: Lines) -> None:
    with api.generate(prompt="my secret") as answer:
        job_id = answer.headers["X-Job-Id"]
    [line] = access.lines
    assert line["job_id"] == job_id
    assert "secret" not in json.dumps(line)


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/slm/generate", 405), ("/", 200)])
def test_errors_and_files_are_logged_too(api: Api, access: Lines, path: str, status: int) -> None:
    with api.client.get(path) as answer:
        size = len(answer.data)
    [line] = access.lines
    assert (line["status"], line["bytes"]) == (status, size)


def test_a_bug_is_logged_with_its_status(api: Api, access: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.overview.Overview.snapshot", lambda _: 1 / 0)
    api.client.get("/slm/info", buffered=True)
    assert [line["status"] for line in access.lines] == [500]


def test_a_stream_is_logged_at_its_end(start_api: StartApi, access: Lines) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("first")
        assert go_on.wait(60)
        play.end("last")

    answer = start_api(script).stream()
    parts = iter(answer.response)
    size = len(next(parts))
    assert access.lines == []
    go_on.set()
    size += sum(map(len, parts))
    answer.close()
    [line] = access.lines
    assert (line["path"], line["status"], line["bytes"]) == ("/slm/stream", 200, size)
    assert line["job_id"] == answer.headers["X-Job-Id"]


def test_a_path_cannot_forge_a_line(api: Api, access: Lines) -> None:
    api.client.get("/a%0AERROR forged", buffered=True)
    [line] = access.lines
    assert line["path"] == "/a%0AERROR%20forged"
    assert "\n" not in line["message"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/static/docs.js"])
def test_frequent_requests_are_not_logged(api: Api, access: Lines, path: str) -> None:
    api.client.get(path).close()
    assert access.lines == []


def test_the_next_request_of_a_connection_has_an_id_of_its_own(api: Api, access: Lines) -> None:
    for name in ("r-1", "r-2"):
        api.client.get("/slm/info", headers={"X-Request-Id": name}, buffered=True)
    assert [line["request_id"] for line in access.lines] == ["r-1", "r-2"]


def test_the_job_carries_the_id_of_its_request(api: Api) -> None:
    answer = api.client.post("/slm/generate", json={"prompt": "Hi"}, headers={"X-Request-Id": "r-7"})
    assert api.worker.store.get(answer.headers["X-Job-Id"]).request_id == "r-7"
