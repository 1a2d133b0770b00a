"""One JSON shape for every failure, with an id to find it in the log."""

from __future__ import annotations

import logging
import re
from typing import Any
from unittest.mock import Mock

import pytest
import redis.exceptions
from fakeredis import FakeRedis, FakeServer
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from common.redis.subscriber import Subscriber
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi


def check_shape(answer: TestResponse, status: int, code: str) -> dict[str, Any]:
    body = dict(answer.json)
    assert answer.status_code == status
    assert (body["success"], body["code"]) == (False, code)
    assert isinstance(body["error"], str)
    assert body["request_id"] == answer.headers["X-Request-Id"]
    return body


@pytest.mark.parametrize("path", ["/nothing", "/slm", "/slm/jobs/a/b", "/static/none.js", "/v2/models"])
def test_an_unknown_path_is_404(api: Api, path: str) -> None:
    body = check_shape(api.client.get(path), 404, "not_found")
    assert body["error"] == f"There is nothing at {path}"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/slm/generate", "OPTIONS, POST"),
        ("GET", "/slm/stream", "OPTIONS, POST"),
        ("PUT", "/slm/load", "OPTIONS, POST"),
        ("POST", "/slm/info", "GET, HEAD, OPTIONS"),
        ("POST", "/slm/jobs", "GET, HEAD, OPTIONS"),
        ("POST", "/", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_405_and_lists_the_right_ones(api: Api, method: str, path: str, allowed: str) -> None:
    answer = api.client.open(path, method=method)
    body = check_shape(answer, 405, "method_not_allowed")
    assert body["error"] == f"{path} does not allow {method}; it allows {allowed}"
    assert answer.headers["Allow"] == allowed


def test_a_bug_is_500_without_its_details_which_are_in_the_log(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("api.service.JobService.newest", Mock(side_effect=ZeroDivisionError("the secret")))
    answer = api.client.get("/slm/jobs", headers={"X-Request-Id": "r-1"})
    check_shape(answer, 500, "internal_error")
    assert "secret" not in answer.get_data(as_text=True)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "r-1" in record.getMessage()
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("given", ["abc-123", "A.b:c_d", "x" * 128])
def test_a_sane_request_id_is_kept(api: Api, given: str) -> None:
    for path in ("/healthz", "/nothing"):
        assert api.client.get(path, headers={"X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 129, "<script>", "é", "a;b"])
def test_any_other_request_id_is_replaced(api: Api, given: str) -> None:
    made = api.client.get("/healthz", headers={"X-Request-Id": given}).headers["X-Request-Id"]
    assert re.fullmatch("[0-9a-f]{32}", made)


REDIS_PATHS = [
    ("GET", "/slm/info"),
    ("GET", "/slm/jobs"),
    ("GET", "/slm/jobs/00000000-0000-4000-8000-000000000000"),
    ("GET", "/slm/jobs/00000000-0000-4000-8000-000000000000/stream"),
    ("DELETE", "/slm/jobs/00000000-0000-4000-8000-000000000000"),
    ("GET", "/slm/quarantine"),
    ("POST", "/slm/jobs/00000000-0000-4000-8000-000000000000/retry"),
    ("DELETE", "/slm/quarantine/00000000-0000-4000-8000-000000000000"),
    ("GET", "/slm/usage"),
    ("POST", "/slm/load"),
    ("POST", "/slm/unload"),
    ("POST", "/slm/generate"),
    ("POST", "/slm/stream"),
    ("GET", "/readyz"),
]


@pytest.mark.parametrize(("method", "path"), REDIS_PATHS)
def test_without_redis_every_route_says_so(api: Api, method: str, path: str) -> None:
    body = {"json": {"prompt": "Hi"}} if path in ("/slm/generate", "/slm/stream") else {}
    answer = _client_without_redis(api).open(path, method=method, **body)
    check_shape(answer, 503, "redis_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def _client_without_redis(api: Api) -> FlaskClient:
    server = FakeServer()
    server.connected = False
    away = FakeRedis(server=server, decode_responses=True)
    return create_app(api.settings, redis=away, dispatch=api.worker.dispatch, subscriber=Subscriber(away)).test_client()


def test_a_full_redis_says_so(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    full = redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
    monkeypatch.setattr("common.jobs.store.JobStore.submit", Mock(side_effect=full))
    answer = api.generate()
    check_shape(answer, 503, "redis_full")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_failing_script_is_a_bug_and_not_a_failure_of_redis(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = redis.exceptions.ResponseError("user_script:7: attempt to index a nil value")
    monkeypatch.setattr("common.jobs.store.JobStore.submit", Mock(side_effect=bug))
    check_shape(api.generate(), 500, "internal_error")


def test_if_redis_fails_while_a_client_waits_the_answer_still_names_the_job(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = start_api(Play.run_until_cancelled, sync_timeout_s=0)
    gone = Mock(side_effect=redis.exceptions.ConnectionError)
    monkeypatch.setattr("api.service.JobService.view", gone)
    answer = api.generate()
    check_shape(answer, 503, "redis_unavailable")
    monkeypatch.undo()
    assert api.client.get(answer.headers["Location"]).json["status"] in ("queued", "running")


def test_health_needs_no_redis(api: Api) -> None:
    assert _client_without_redis(api).get("/healthz").status_code == 200
