"""Files: stored unchanged, visible only to their owner, refused if they cannot be used for a batch."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from redis import Redis
from werkzeug.test import TestResponse

from common.owners.api_keys import ApiKeyStore, Limits, Role
from common.owners.files import LINES_PER_CALL, FileStore
from common.redis import keys
from tests.api_in_process import Api
from tests.unit.api.conftest import StartApi


def upload(api: Api, content: bytes = b"{}\n", **form: Any) -> TestResponse:
    data = {"purpose": "batch", "file": (BytesIO(content), "my.jsonl")} | form
    return api.client.post("/v1/files", data=data, content_type="multipart/form-data")


def test_a_file_is_described_and_found_again(api: Api) -> None:
    kept = upload(api, b'{"a": 1}\n').json
    assert (kept["object"], kept["bytes"], kept["filename"], kept["purpose"]) == ("file", 9, "my.jsonl", "batch")
    assert kept["expires_at"] - kept["created_at"] == api.settings.file_ttl_s
    assert api.client.get(f"/v1/files/{kept['id']}").json == kept


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"a", b"a\n", b"a\n\n b\r\n", "漢字\n\u2028x".encode(), b"line\n" * (2 * LINES_PER_CALL + 1)],
    ids=lambda content: repr(content[:12]),
)
def test_a_files_content_comes_back_unchanged(api: Api, content: bytes) -> None:
    kept = upload(api, content).json
    assert api.client.get(f"/v1/files/{kept['id']}/content").get_data() == content
    assert kept["bytes"] == len(content)


def test_a_deleted_file_is_gone(api: Api, redis: Redis) -> None:
    file_id = upload(api).json["id"]
    assert api.client.delete(f"/v1/files/{file_id}").json == {"id": file_id, "object": "file", "deleted": True}
    for answer in (
        api.client.get(f"/v1/files/{file_id}"),
        api.client.get(f"/v1/files/{file_id}/content"),
        api.client.delete(f"/v1/files/{file_id}"),
    ):
        assert (answer.status_code, answer.json["error"]["param"]) == (404, "file_id")
    assert redis.keys("slm:file*") == []


def test_the_newest_files_come_first_and_in_pages(api: Api, redis: Redis) -> None:
    ids = []
    for number in range(5):
        ids.append(upload(api).json["id"])
        redis.zadd(keys.files("anonymous"), {ids[-1]: number})
    first = api.client.get("/v1/files?limit=2").json
    assert ([one["id"] for one in first["data"]], first["has_more"]) == ([ids[4], ids[3]], True)
    assert (first["first_id"], first["last_id"]) == (ids[4], ids[3])
    rest = api.client.get(f"/v1/files?after={first['last_id']}").json
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == ([ids[2], ids[1], ids[0]], False)


def test_a_listing_can_be_of_one_purpose(api: Api, redis: Redis) -> None:
    upload(api)
    made = FileStore(redis, ttl_s=60).put("anonymous", "x", "batch_output", ["{}"])
    listed = api.client.get("/v1/files?purpose=batch_output").json["data"]
    assert [one["id"] for one in listed] == [made.id]


def test_an_expired_file_is_not_listed(api: Api, redis: Redis) -> None:
    file_id = upload(api).json["id"]
    redis.delete(keys.file(file_id))
    assert api.client.get("/v1/files").json["data"] == []
    assert redis.zcard(keys.files("anonymous")) == 0


def test_every_part_of_a_file_expires(api: Api, redis: Redis) -> None:
    file_id = upload(api).json["id"]
    assert 0 < redis.ttl(keys.file(file_id)) <= api.settings.file_ttl_s
    assert 0 < redis.ttl(keys.file_lines(file_id)) <= api.settings.file_ttl_s


def test_somebody_else_s_file_is_not_found(start_api: StartApi, redis: Redis) -> None:
    file_id = upload(start_api()).json["id"]
    key = ApiKeyStore(redis).create("someone", Role.USER)
    api = start_api()
    for answer in (
        api.client.get(f"/v1/files/{file_id}", headers={"X-API-Key": key}),
        api.client.delete(f"/v1/files/{file_id}", headers={"X-API-Key": key}),
    ):
        assert answer.status_code == 404
    assert api.client.get("/v1/files", headers={"X-API-Key": key}).json["data"] == []


def test_a_file_beyond_the_keys_quota_is_refused(start_api: StartApi, redis: Redis) -> None:
    store = ApiKeyStore(redis)
    headers = {"X-API-Key": store.create("someone", Role.USER, Limits(files=2, file_bytes=100))}
    api = start_api()

    def put(size: int) -> TestResponse:
        form = {"purpose": "batch", "file": (BytesIO(b"x" * size), "a.jsonl")}
        return api.client.post("/v1/files", data=form, headers=headers)

    assert put(60).status_code == 200
    refused = put(41)
    assert (refused.status_code, refused.json["error"]["code"]) == (429, "quota_exceeded")
    assert (refused.headers["X-Should-Retry"], refused.headers["Retry-After"]) == ("false", "3600")
    assert put(40).status_code == 200
    assert "2 files" in put(0).json["error"]["message"]


def test_a_file_beyond_the_limit_is_413(start_api: StartApi) -> None:
    api = start_api(max_file_bytes=2000)
    assert upload(api, b"x" * 2000).status_code == 200
    for size in (2001, 200_000):
        answer = upload(api, b"x" * size)
        assert (answer.status_code, answer.json["error"]["code"]) == (413, "body_too_large")


def test_a_file_may_be_larger_than_other_bodies(start_api: StartApi) -> None:
    assert upload(start_api(max_body_bytes=1024), b"x" * 10_000).status_code == 200


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"purpose": "assistants"}, "purpose"),
        ({"purpose": ""}, "purpose"),
        ({"file": "text"}, "file"),
        ({"file": (BytesIO(b"\xff\xfe"), "x")}, "file"),
        ({"expires_after[seconds]": "1"}, "expires_after[seconds]"),
    ],
)
def test_an_unusable_upload_is_refused_by_name(api: Api, form: dict[str, Any], param: str) -> None:
    answer = upload(api, **form)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


def test_a_body_that_is_not_a_form_is_refused(api: Api) -> None:
    assert api.client.post("/v1/files", json={"purpose": "batch"}).status_code == 415


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("limit=x", "limit"), ("purpose=x", "purpose"), ("order=asc", "order")]
)
def test_a_wrong_query_is_refused_by_name(api: Api, query: str, param: str) -> None:
    answer = api.client.get(f"/v1/files?{query}")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)


DATASET = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.mark.parametrize(
    "content",
    [
        DATASET * 2,
        DATASET.replace(b"\n", b"\r") * 2,
        b"\xef\xbb\xbf\r\n" + DATASET,
        b"[\n" + DATASET + b"]",
        b"prompt,completion\na,b\n",
    ],
)
def test_a_dataset_is_kept_as_it_was_sent(api: Api, content: bytes) -> None:
    kept = api.client.post("/v1/files", data={"purpose": "fine-tune", "file": (BytesIO(content), "my.jsonl")}).json
    assert (kept["purpose"], kept["bytes"], kept["status"]) == ("fine-tune", len(content), "processed")
    assert api.client.get(f"/v1/files/{kept['id']}/content").data == content
    assert [one["id"] for one in api.client.get("/v1/files?purpose=fine-tune").json["data"]] == [kept["id"]]
    assert api.client.get("/v1/files?purpose=batch").json["data"] == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "file is empty"),
        (b"\n \n", "file is empty"),
        (b"\n{'a': 1}\n", "line 2 of the file is not valid JSON"),
        (b"Hello\n", "line 1 of the file is neither JSON nor CSV"),
        (b"{" + b'"a":{' * 5000, "line 1 of the file is not valid JSON"),
    ],
)
def test_what_is_no_dataset_is_refused(api: Api, content: bytes, says: str) -> None:
    answer = api.client.post("/v1/files", data={"purpose": "fine-tune", "file": (BytesIO(content), "my.jsonl")})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "file")
    assert answer.json["error"]["message"].startswith(says)


def test_a_dataset_is_no_input_of_a_batch(api: Api) -> None:
    kept = api.client.post("/v1/files", data={"purpose": "fine-tune", "file": (BytesIO(DATASET), "my.jsonl")}).json
    body = {"input_file_id": kept["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    assert api.client.post("/v1/batches", json=body).json["error"]["param"] == "input_file_id"
