"""The forms of a body, on every route that accepts one."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api.openai.batches.request import check_lines
from tests.api_in_process import MODEL, Api

BOM = b"\xef\xbb\xbf"
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
BODIES: dict[str, dict[str, Any]] = {
    "/slm/generate": {"prompt": "Hi"},
    "/slm/stream": {"prompt": "Hi"},
    "/slm/load": {"async": False},
    "/slm/tokenize": {"prompt": "Hi", "async": True},
    "/v1/chat/completions": CHAT,
    "/v1/completions": {"model": MODEL, "prompt": "Hi"},
    "/v1/responses": {"model": MODEL, "input": "Hi"},
}
every_route = pytest.mark.parametrize("path", BODIES)


@pytest.fixture
def api(shared_api: Api) -> Api:
    return shared_api


def job_ids(api: Api) -> list[str]:
    return [job["job_id"] for job in api.client.get("/slm/jobs").json["jobs"]]


def send(api: Api, path: str, *, before: bytes = b"", content_type: str | None = "application/json") -> TestResponse:
    return api.client.post(path, data=before + json.dumps(BODIES[path]).encode(), content_type=content_type)


def code_of(answer: TestResponse) -> str:
    error = answer.json["error"]
    return str(error["code"] if isinstance(error, dict) else answer.json["code"])


@every_route
@pytest.mark.parametrize("content_type", ["application/json; charset=UTF-8", "APPLICATION/JSON", "application/a+json"])
def test_json_is_recognised_by_its_type(api: Api, path: str, content_type: str) -> None:
    assert send(api, path, content_type=content_type).status_code < 300


@every_route
@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "x"])
def test_a_body_of_another_type_is_refused(api: Api, path: str, content_type: str | None) -> None:
    before = job_ids(api)
    answer = send(api, path, content_type=content_type)
    assert (answer.status_code, code_of(answer)) == (415, "unsupported_media_type")
    assert "Content-Type: application/json; got " in answer.text
    assert job_ids(api) == before


def test_no_body_needs_no_type(api: Api) -> None:
    assert api.client.post("/slm/load").status_code == 200


@every_route
def test_a_compressed_body_is_refused(api: Api, path: str) -> None:
    body = gzip.compress(json.dumps(BODIES[path]).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    answer = api.client.post(path, data=body, headers=headers)
    assert (answer.status_code, code_of(answer)) == (415, "unsupported_media_type")
    assert "must not be compressed; got Content-Encoding: 'gzip'" in answer.text


def test_the_identity_encoding_is_accepted(api: Api) -> None:
    answer = api.client.post("/slm/generate", json={"prompt": "Hi"}, headers={"Content-Encoding": "identity"})
    assert answer.status_code == 200


@every_route
def test_a_byte_order_mark_is_skipped(api: Api, path: str) -> None:
    assert send(api, path, before=BOM).status_code < 300


@pytest.mark.parametrize("before", [BOM + BOM, b" " + BOM])
def test_a_byte_order_mark_is_not_text(api: Api, before: bytes) -> None:
    assert send(api, "/slm/generate", before=before).status_code == 400


def test_a_byte_order_mark_before_a_line_of_a_batch_is_skipped() -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    assert check_lines([(0, "\ufeff" + json.dumps(line))], "/v1/chat/completions").errors == []


@pytest.mark.parametrize("text", ["10.0", "1e1", "1.0E+1", "100e-1"])
def test_an_integer_is_accepted_however_it_is_written(api: Api, text: str) -> None:
    raw = f'{{"prompt": "Hi", "max_new_tokens": {text}}}'
    settings = api.client.post("/slm/generate", data=raw, content_type="application/json").json["settings"]
    assert settings["max_new_tokens"] == 10
    assert isinstance(settings["max_new_tokens"], int)


@pytest.mark.parametrize("text", ["10.5", "1e-1", "1e400", "9.3e15"])
def test_any_other_number_is_not_an_integer(api: Api, text: str) -> None:
    raw = f'{{"prompt": "Hi", "max_new_tokens": {text}}}'
    answer = api.client.post("/slm/generate", data=raw, content_type="application/json")
    assert (answer.status_code, answer.json["param"]) == (400, "max_new_tokens")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/slm/jobs/", 200),
        ("/v1/models/", 200),
        (f"/v1/models/{MODEL}/", 200),
        ("/v1/files//", 200),
        ("/slm/nothing/", 404),
    ],
)
def test_an_additional_slash_is_harmless(api: Api, path: str, status: int) -> None:
    assert api.client.get(path).status_code == status


FIELD_OF = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": BODIES["/v1/completions"],
    "/v1/responses": BODIES["/v1/responses"],
}


@pytest.mark.parametrize("path", FIELD_OF)
@pytest.mark.parametrize("url", ["", "x", "ftp://a.org", "http://a..b", "http://[", "http://u@a.org", "http://é.org"])
def test_a_wrong_webhook_url_is_named_with_what_would_be_right(api: Api, path: str, url: str) -> None:
    answer = api.client.post(path, json=FIELD_OF[path] | {"webhook_url": url})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "webhook_url")
    assert answer.json["error"]["message"].startswith("webhook_url must be an http or https URL ")


IDS_OF_OTHER_KEYS = ["x", "x:lines", "file-1:lines", "batch_1:output", "%00", "a" * 3000, "file-" + "0" * 36]


@pytest.mark.parametrize("name", IDS_OF_OTHER_KEYS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/files/{}"),
        ("GET", "/v1/files/{}/content"),
        ("DELETE", "/v1/files/{}"),
        ("GET", "/v1/batches/{}"),
        ("POST", "/v1/batches/{}/cancel"),
        ("GET", "/v1/responses/{}"),
        ("POST", "/v1/responses/{}/cancel"),
    ],
)
def test_an_invalid_id_is_not_found(api: Api, method: str, path: str, name: str) -> None:
    answer = api.client.open(path.format(name), method=method)
    assert (answer.status_code, code_of(answer)) == (404, "not_found")


@pytest.mark.parametrize("form", ["file:{}:lines", "batch:{}:lines", "batch:{}:jobs"])
def test_part_of_an_object_does_not_count_as_the_object(api: Api, form: str) -> None:
    """The parts are under the object's own key, with other Redis types."""
    kind, _, part = form.partition(":{}")
    api.redis.rpush(f"slm:{form.format('file-1')}", "x")
    assert api.client.get(f"/v1/{'files' if kind == 'file' else 'batches'}/file-1{part}").status_code == 404


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
def test_a_page_begins_after_an_id(api: Api, path: str) -> None:
    answer = api.client.get(f"{path}?after=x:lines")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "after")


def test_the_file_of_a_batch_is_named_by_the_batchs_own_field(api: Api) -> None:
    body = {"input_file_id": "x", "endpoint": "/v1/completions", "completion_window": "24h"}
    answer = api.client.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json["error"]["param"]) == (404, "input_file_id")
