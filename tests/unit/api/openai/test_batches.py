"""Batches, round by round of their driver: submitting, collecting, writing, and crashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter
from redis import Redis
from werkzeug.test import TestResponse

from api.openai.batches.driver import WINDOW, BatchDriver
from api.openai.batches.line_routes import line_routes
from api.schemas.openai.batches import BatchObject
from common.embedding.task import KEPT_S
from common.errors import PromptTooLong
from common.owners.api_keys import ApiKeyStore, Role
from common.redis import keys
from tests.api_in_process import MODEL, Api
from tests.processes import wait_for
from tests.scripted_worker import ENCODER, Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import MESSAGES
from tests.unit.api.openai.test_files import upload

Json = dict[str, Any]
CHAT = "/v1/chat/completions"


def line(custom_id: str, **body: Any) -> Json:
    fields = {"model": MODEL, "messages": MESSAGES} | body
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": fields}


def begin(api: Api, *lines: Json, endpoint: str = CHAT, **more: Any) -> TestResponse:
    content = "".join(json.dumps(one) + "\n" for one in lines).encode()
    body = {"input_file_id": upload(api, content).json["id"], "endpoint": endpoint, "completion_window": "24h"}
    return api.client.post("/v1/batches", json=body | more)


def driver_of(api: Api) -> BatchDriver:
    services = api.client.application.extensions["slm"]
    routes = line_routes(services.jobs, services.fingerprints, services.embedding, services.settings)
    return BatchDriver(services.batches, services.files, services.jobs, services.registry, routes)


def batch(api: Api, batch_id: str) -> Json:
    return dict(api.client.get(f"/v1/batches/{batch_id}").json)


def drive_until(api: Api, batch_id: str, is_reached: Callable[[Json], bool], driver: BatchDriver | None = None) -> Json:
    driver = driver or driver_of(api)
    api.redis.delete(keys.BATCH_DRIVER)

    def look() -> Json | None:
        driver.drive()
        now = batch(api, batch_id)
        return now if is_reached(now) else None

    return wait_for("the batch", look, 60)


def drive_to_the_end(api: Api, batch_id: str) -> Json:
    ended = ("completed", "failed", "cancelled", "expired")
    return drive_until(api, batch_id, lambda now: now["status"] in ended)


def read(api: Api, file_id: str) -> list[Json]:
    text = api.client.get(f"/v1/files/{file_id}/content").get_data(as_text=True)
    return [json.loads(one) for one in text.split("\n")]


def jobs(api: Api) -> list[Json]:
    return list(api.client.get("/slm/jobs?limit=1000").json["jobs"])


def test_a_batch_has_an_answer_for_each_line_in_order(start_api: StartApi) -> None:
    api = start_api(lambda play: play.end(f"seed {play.params.sampling.seed}"))
    begun = begin(api, *(line(f"r{number}", seed=number) for number in range(5)), metadata={"a": "b"}).json
    assert (begun["status"], begun["metadata"]) == ("validating", {"a": "b"})
    ended = drive_to_the_end(api, begun["id"])
    assert ended["status"] == "completed"
    assert ended["request_counts"] == {"total": 5, "completed": 5, "failed": 0}
    assert ended["error_file_id"] is None
    results = read(api, ended["output_file_id"])
    assert [one["custom_id"] for one in results] == ["r0", "r1", "r2", "r3", "r4"]
    for number, one in enumerate(results):
        assert one["response"]["status_code"] == 200
        assert one["response"]["body"]["choices"][0]["message"]["content"] == f"seed {number}"
        assert one["response"]["body"]["id"] == f"chatcmpl-{one['response']['request_id']}"


def test_the_batch_has_the_time_of_every_status(api: Api) -> None:
    ended = drive_to_the_end(api, begin(api, line("a")).json["id"])
    for status in ("in_progress", "finalizing", "completed"):
        assert ended[f"{status}_at"] >= ended["created_at"]
    assert ended["expires_at"] - ended["created_at"] == 86_400
    assert ended["failed_at"] is ended["cancelled_at"] is None


def test_the_jobs_of_a_batch_let_others_go_first(api: Api) -> None:
    drive_to_the_end(api, begin(api, line("a")).json["id"])
    (job,) = jobs(api)
    assert api.redis.hget(keys.job(job["job_id"]), "bulk") == "1"


def test_texts_and_several_choices_work_too(api: Api) -> None:
    wanted = {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/completions",
        "body": {"model": MODEL, "prompt": ["x", "y"], "n": 2},
    }
    ended = drive_to_the_end(api, begin(api, wanted, endpoint="/v1/completions").json["id"])
    (result,) = read(api, ended["output_file_id"])
    assert [choice["index"] for choice in result["response"]["body"]["choices"]] == [0, 1, 2, 3]


def embedding_line(custom_id: str, **body: Any) -> Json:
    fields = {"model": ENCODER.model, "input": "abc"} | body
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/embeddings", "body": fields}


def test_embeddings_have_the_same_answers_as_without_a_batch(api: Api) -> None:
    api.worker.serve_embeddings()
    lines = [
        embedding_line("one"),
        embedding_line("many", input=["a", "bc"], dimensions=2),
        embedding_line("base64", encoding_format="base64"),
        embedding_line("long", input="b" * 33),
        embedding_line("unnamed", model=""),
        embedding_line("chat", model=MODEL),
    ]
    ended = drive_to_the_end(api, begin(api, *lines, endpoint="/v1/embeddings").json["id"])
    assert ended["request_counts"] == {"total": 6, "completed": 4, "failed": 2}
    for result, asked in zip(read(api, ended["output_file_id"]), [*lines[:3], lines[4]], strict=True):
        alone = api.client.post("/v1/embeddings", json=asked["body"]).json
        assert (result["custom_id"], result["response"]["body"]) == (asked["custom_id"], alone)
    failed = {one["custom_id"]: one["response"]["body"]["error"] for one in read(api, ended["error_file_id"])}
    assert (failed["long"]["code"], failed["long"]["param"]) == ("context_length_exceeded", "input[0]")
    assert "generates text" in failed["chat"]["message"]


def test_a_batch_has_a_limit_of_inputs(api: Api) -> None:
    lines = [embedding_line(str(number), input=["a"] * 2048) for number in range(25)]
    ended = drive_to_the_end(api, begin(api, *lines, endpoint="/v1/embeddings").json["id"])
    assert (ended["status"], ended["errors"]["data"][0]["code"]) == ("failed", "too_many_inputs")


def test_an_input_in_a_batch_is_as_short_as_without_one(start_api: StartApi) -> None:
    api = start_api(max_prompt_chars=1024)
    api.worker.serve_embeddings()
    ended = drive_to_the_end(
        api, begin(api, embedding_line("long", input="a" * 1025), endpoint="/v1/embeddings").json["id"]
    )
    (failed,) = read(api, ended["error_file_id"])
    assert "the limit is 1024" in failed["response"]["body"]["error"]["message"]


def test_the_vectors_of_a_batch_are_not_kept_twice(api: Api) -> None:
    api.worker.serve_embeddings()
    drive_to_the_end(api, begin(api, embedding_line("one"), endpoint="/v1/embeddings").json["id"])
    (job,) = jobs(api)
    assert 0 < api.redis.ttl(keys.job(job["job_id"])) <= KEPT_S


def test_failed_lines_are_in_their_own_file(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        if play.params.sampling.seed == 1:
            play.fail(PromptTooLong("too long", param="prompt"))
        else:
            play.end("ok")

    api = start_api(script)
    lines = [line("good", seed=0), line("long", seed=1), line("bad", temperature=9), line("who", model="gpt-5")]
    lines.append(line("streamed", stream=True))
    ended = drive_to_the_end(api, begin(api, *lines).json["id"])
    assert ended["status"] == "completed"
    assert ended["request_counts"] == {"total": 5, "completed": 1, "failed": 4}
    failed = {one["custom_id"]: one["response"] for one in read(api, ended["error_file_id"])}
    assert {name: response["status_code"] for name, response in failed.items()} == {
        "long": 400,
        "bad": 400,
        "who": 404,
        "streamed": 400,
    }
    assert failed["long"]["body"]["error"]["code"] == "context_length_exceeded"
    assert failed["long"]["body"]["error"]["param"] == "messages"
    assert failed["bad"]["body"]["error"]["param"] == "temperature"


def test_a_limited_number_of_lines_is_in_flight(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    batch_id = begin(api, *(line(str(number)) for number in range(WINDOW + 20))).json["id"]
    driver = driver_of(api)
    for _ in range(5):
        driver.drive()
    assert len(jobs(api)) == WINDOW
    api.client.post(f"/v1/batches/{batch_id}/cancel")
    drive_until(api, batch_id, lambda now: now["status"] == "cancelled", driver)


def test_a_line_waits_if_the_queue_is_full(start_api: StartApi) -> None:
    gate: list[bool] = []

    def script(play: Play) -> None:
        wait_for("the gate", lambda: gate, 60)
        play.end("ok")

    api = start_api(script, max_queue=1)
    batch_id = begin(api, *(line(str(number)) for number in range(8))).json["id"]
    driver = driver_of(api)
    for _ in range(4):
        driver.drive()
    assert 0 < len(jobs(api)) < 8
    assert batch(api, batch_id)["request_counts"]["failed"] == 0
    gate.append(True)
    assert (
        drive_until(api, batch_id, lambda now: now["status"] == "completed", driver)["request_counts"]["completed"] == 8
    )


def test_a_cancelled_batch_keeps_its_results(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        if play.params.sampling.seed == 0:
            play.end("ok")
        else:
            play.run_until_cancelled()

    api = start_api(script)
    batch_id = begin(api, line("done", seed=0), line("endless", seed=1)).json["id"]
    driver = driver_of(api)
    drive_until(api, batch_id, lambda now: now["request_counts"]["completed"] == 1, driver)
    assert api.client.post(f"/v1/batches/{batch_id}/cancel").json["status"] == "cancelling"
    assert api.client.post(f"/v1/batches/{batch_id}/cancel").json["status"] == "cancelling"
    ended = drive_until(api, batch_id, lambda now: now["status"] == "cancelled", driver)
    assert [one["custom_id"] for one in read(api, ended["output_file_id"])] == ["done"]
    assert [one["custom_id"] for one in read(api, ended["error_file_id"])] == ["endless"]
    again = api.client.post(f"/v1/batches/{batch_id}/cancel")
    assert (again.status_code, again.headers["X-Should-Retry"]) == (409, "false")


def test_an_expired_batch_keeps_its_results(start_api: StartApi, redis: Redis) -> None:
    api = start_api(Play.run_until_cancelled)
    batch_id = begin(api, *(line(str(number)) for number in range(WINDOW + 3))).json["id"]
    driver = driver_of(api)
    driver.drive()
    driver.drive()
    redis.hset(keys.batch(batch_id), "expires_at", 1)
    ended = drive_until(api, batch_id, lambda now: now["status"] == "expired", driver)
    assert ended["request_counts"] == {"total": WINDOW + 3, "completed": 0, "failed": WINDOW + 3}
    assert [one["error"] and one["error"]["code"] for one in read(api, ended["error_file_id"])] == [
        *[None] * WINDOW,
        *["batch_expired"] * 3,
    ]


def test_a_driver_that_dies_is_followed_by_another_and_no_line_runs_twice(start_api: StartApi, redis: Redis) -> None:
    api = start_api(lambda play: play.end("ok"))
    batch_id = begin(api, *(line(str(number)) for number in range(3))).json["id"]
    first = driver_of(api)
    first.drive()
    first.drive()  # has submitted the lines...
    redis.delete(keys.batch_part(batch_id, "jobs"))
    redis.hset(keys.batch(batch_id), "cursor", 0)  # ...and died before it could record them
    assert drive_to_the_end(api, batch_id)["request_counts"]["completed"] == 3
    assert len(jobs(api)) == 3


def test_a_line_whose_job_has_expired_is_submitted_again(start_api: StartApi, redis: Redis) -> None:
    api = start_api(lambda play: play.end("ok"))
    batch_id = begin(api, line("a")).json["id"]
    driver = driver_of(api)
    driver.drive()
    driver.drive()
    (job,) = jobs(api)
    wait_for("its end", lambda: jobs(api)[0]["status"] == "succeeded", 20)
    redis.delete(keys.job(job["job_id"]), keys.log(job["job_id"]))
    ended = drive_until(api, batch_id, lambda now: now["status"] == "completed", driver)
    assert ended["request_counts"]["completed"] == 1


def test_one_process_drives_at_a_time(api: Api, redis: Redis) -> None:
    begin(api, line("a"))
    first, second = driver_of(api), driver_of(api)
    assert first.drive()
    assert not second.drive()
    redis.delete(keys.BATCH_DRIVER)
    assert second.drive()


def test_the_driver_that_ends_the_batch_writes_its_files_again(start_api: StartApi, redis: Redis) -> None:
    api = start_api(lambda play: play.end("ok"))
    batch_id = begin(api, line("a")).json["id"]
    driver = driver_of(api)
    drive_until(api, batch_id, lambda now: now["status"] == "finalizing", driver)
    redis.rpush(keys.file_lines(f"file-{batch_id.removeprefix('batch_')}-output"), "half a li")
    ended = drive_until(api, batch_id, lambda now: now["status"] == "completed", driver)
    assert [one["custom_id"] for one in read(api, ended["output_file_id"])] == ["a"]


def test_nothing_is_left_of_an_ended_batch_but_its_record_and_its_files(api: Api, redis: Redis) -> None:
    batch_id = begin(api, line("a")).json["id"]
    drive_to_the_end(api, batch_id)
    assert redis.keys(f"slm:batch:{batch_id}*") == [keys.batch(batch_id)]
    assert redis.ttl(keys.batch(batch_id)) > 0
    assert redis.zcard(keys.OPEN_BATCHES) == 0


def test_a_batch_continues_after_its_file_is_deleted(api: Api) -> None:
    begun = begin(api, line("a")).json
    api.client.delete(f"/v1/files/{begun['input_file_id']}")
    assert drive_to_the_end(api, begun["id"])["request_counts"]["completed"] == 1


@pytest.mark.parametrize(
    ("content", "code", "number", "param"),
    [
        (b"", "empty_file", None, None),
        (b"\n \n", "empty_file", None, None),
        (b"\n{", "invalid_request", 2, None),
        (b"[]", "invalid_request", 1, None),
        (b"{}", "invalid_request", 1, "custom_id"),
        (json.dumps(line("a") | {"url": "/v1/completions"}).encode(), "invalid_request", 1, "url"),
        (json.dumps(line("a") | {"method": "GET"}).encode(), "invalid_request", 1, "method"),
        (b"\n".join([json.dumps(line("a")).encode()] * 2), "invalid_request", 2, "custom_id"),
    ],
)
def test_a_file_that_is_not_a_batch_fails_and_says_where(
    api: Api, content: bytes, code: str, number: int | None, param: str | None
) -> None:
    body = {"input_file_id": upload(api, content).json["id"], "endpoint": CHAT, "completion_window": "24h"}
    ended = drive_to_the_end(api, api.client.post("/v1/batches", json=body).json["id"])
    assert ended["status"] == "failed"
    (error,) = ended["errors"]["data"]
    assert (error["code"], error["line"], error["param"]) == (code, number, param)
    assert jobs(api) == []


def test_a_bug_fails_one_batch_alone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, whole = begin(api, line("a")).json["id"], begin(api, line("b")).json["id"]
    driver = driver_of(api)
    validate = driver._validate
    monkeypatch.setattr(driver, "_validate", lambda one: 1 / 0 if one.id == broken else validate(one))
    assert drive_until(api, whole, lambda now: now["status"] == "completed", driver)
    ended = batch(api, broken)
    assert (ended["status"], ended["errors"]["data"][0]["code"]) == ("failed", "internal_error")
    TypeAdapter(BatchObject).validate_python(ended)


def test_the_newest_batches_come_first(api: Api, redis: Redis) -> None:
    ids = []
    for number in range(3):
        ids.append(begin(api, line("a")).json["id"])
        redis.zadd(keys.batches("anonymous"), {ids[-1]: number})
    page = api.client.get("/v1/batches?limit=2").json
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([ids[2], ids[1]], True)


def test_somebody_else_s_batch_and_file_are_not_found(start_api: StartApi, redis: Redis) -> None:
    begun = begin(start_api(), line("a")).json
    key = {"X-API-Key": ApiKeyStore(redis).create("someone", Role.USER)}
    client = start_api().client
    body = {"input_file_id": begun["input_file_id"], "endpoint": CHAT, "completion_window": "24h"}
    for answer in (
        client.get(f"/v1/batches/{begun['id']}", headers=key),
        client.post(f"/v1/batches/{begun['id']}/cancel", headers=key),
        client.post("/v1/batches", json=body, headers=key),
    ):
        assert answer.status_code == 404
    assert client.get("/v1/batches", headers=key).json["data"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input_file_id": "file-x"}, "input_file_id"),
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"output_expires_after": {}}, "output_expires_after"),
    ],
)
def test_a_wrong_batch_is_refused_by_name(api: Api, body: Json, param: str) -> None:
    answer = begin(api, line("a"), **body)
    assert (answer.status_code, answer.json["error"]["param"]) in ((400, param), (404, param))


def test_a_batch_s_results_cannot_be_used_as_requests(api: Api) -> None:
    ended = drive_to_the_end(api, begin(api, line("a")).json["id"])
    body = {"input_file_id": ended["output_file_id"], "endpoint": CHAT, "completion_window": "24h"}
    answer = api.client.post("/v1/batches", json=body)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "input_file_id")
