"""The same request under the same Idempotency-Key is one job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug.test import TestResponse

from api.current import EXTENSION
from common.errors import ModelUnavailable, PromptTooLong
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi, data_of

POSTS: list[tuple[str, dict[str, Any]]] = [
    ("/slm/generate", {"prompt": "Hi"}),
    ("/slm/generate", {"prompt": "Hi", "async": True}),
    ("/slm/stream", {"prompt": "Hi"}),
    ("/slm/stream", {"prompt": "Hi", "async": True}),
    ("/slm/load", {}),
    ("/slm/unload", {"async": True}),
]


def post(api: Api, path: str, body: object, key: str = "k1", **headers: str) -> TestResponse:
    answer = api.client.post(path, json=body, headers={"Idempotency-Key": key} | headers)
    answer.get_data()
    return answer


def jobs(api: Api) -> list[str]:
    return [job["job_id"] for job in api.client.get("/slm/jobs").json["jobs"]]


@pytest.mark.parametrize(("path", "body"), POSTS)
def test_a_repeat_gets_the_first_requests_job(api: Api, path: str, body: dict[str, Any]) -> None:
    first = post(api, path, body)
    assert first.status_code in (200, 202)
    assert "Idempotency-Replayed" not in first.headers
    job_id = first.headers["X-Job-Id"]
    api.finish(job_id)  # even after it has ended
    again = post(api, path, body)
    assert again.status_code == first.status_code
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (again.headers["X-Job-Id"], again.headers["Location"]) == (job_id, first.headers["Location"])
    assert jobs(api) == [job_id]


def test_a_repeated_generate_gets_the_same_answer(api: Api) -> None:
    assert post(api, "/slm/generate", {"prompt": "Hi"}).json == post(api, "/slm/generate", {"prompt": "Hi"}).json


def test_a_repeated_stream_begins_at_the_beginning(api: Api) -> None:
    first, again = (post(api, "/slm/stream", {"prompt": "Hi"}).get_data(as_text=True) for _ in range(2))
    assert data_of(again) == data_of(first)


def test_a_repeat_gets_the_jobs_present_state(api: Api) -> None:
    body = {"prompt": "Hi", "async": True}
    job_id = post(api, "/slm/generate", body).json["job_id"]
    api.finish(job_id)
    again = post(api, "/slm/generate", body)
    assert (again.status_code, again.json["status"], again.json["position"]) == (202, "succeeded", None)


def test_a_repeat_waits_for_a_running_job(start_api: StartApi) -> None:
    """The first client's connection broke, but its request still exists."""
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("so ")
        assert go_on.wait(60)
        play.end("good")

    api = start_api(script)
    answers: list[TestResponse] = []
    clients = [
        threading.Thread(
            target=lambda client: answers.append(
                client.post("/slm/generate", json={"prompt": "Hi"}, headers={"Idempotency-Key": "k"})
            ),
            args=(api.client.application.test_client(),),
        )
        for _ in range(3)
    ]
    for client in clients:
        client.start()
    go_on.set()
    for client in clients:
        client.join(60)
    assert [one.json["response"] for one in answers] == ["so good"] * 3
    assert len(jobs(api)) == 1
    assert sum("Idempotency-Replayed" in one.headers for one in answers) == 2


def test_a_failure_is_replayed_too(start_api: StartApi) -> None:
    api = start_api(lambda play: play.fail(PromptTooLong("Too long.", param="prompt")))
    for path in ("/slm/generate", "/slm/stream"):
        first, again = (post(api, path, {"prompt": "Hi"}, key=path) for _ in range(2))
        assert (
            (first.status_code, first.json["code"])
            == (again.status_code, again.json["code"])
            == (
                400,
                "prompt_too_long",
            )
        )
        assert again.headers["X-Job-Id"] == first.headers["X-Job-Id"]


CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
ALSO_OPENAI: list[tuple[str, dict[str, Any]]] = [
    *POSTS,
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"n": 2}),
    ("/v1/chat/completions", CHAT | {"stream": True}),
    ("/v1/completions", {"model": MODEL, "prompt": "Hi"}),
    ("/v1/responses", {"model": MODEL, "input": "Hi"}),
    ("/v1/responses", {"model": MODEL, "input": "Hi", "background": True}),
]


def no_worker(api: Api) -> None:
    api.worker.leave()


def other_model(api: Api) -> None:
    api.worker.report = api.worker.report.but(base_model="another", lora_path=None)
    api.worker.beat()


def stopping(api: Api) -> None:
    api.client.application.extensions[EXTENSION].jobs.stop_accepting()


@pytest.mark.parametrize("trouble", [no_worker, other_model, stopping])
@pytest.mark.parametrize(("path", "body"), ALSO_OPENAI)
def test_a_repeat_finds_its_job_whatever_else_is_down(
    api: Api, path: str, body: dict[str, Any], trouble: Callable[[Api], None]
) -> None:
    first = post(api, path, body)
    api.finish(first.headers["X-Job-Id"])
    trouble(api)
    again = post(api, path, body)
    assert (again.status_code, again.headers["Idempotency-Replayed"]) == (first.status_code, "true")
    assert again.headers["X-Job-Id"] == first.headers["X-Job-Id"]
    other = post(api, path, body, key="another")
    assert other.status_code in ((200, 202, 404) if trouble is other_model else (503,))


def test_a_refused_request_made_no_job_and_can_be_repeated(api: Api) -> None:
    api.worker.leave()
    assert post(api, "/slm/generate", {"prompt": "Hi"}).json["code"] == "no_worker"
    api.worker.beat()
    again = post(api, "/slm/generate", {"prompt": "Hi"})
    assert again.status_code == 200
    assert "Idempotency-Replayed" not in again.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/slm/generate", {"prompt": "Ho"}),
        ("/slm/generate", {"prompt": "Hi", "seed": 1}),
        ("/slm/generate", {"prompt": "Hi", "async": True}),
        ("/slm/stream", {"prompt": "Hi"}),
        ("/slm/load", {}),
    ],
)
def test_another_request_under_the_same_key_is_refused(api: Api, path: str, body: dict[str, Any]) -> None:
    post(api, "/slm/generate", {"prompt": "Hi"})
    answer = post(api, path, body)
    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_mismatch")
    assert len(jobs(api)) == 1


def test_how_the_request_is_written_makes_no_difference(api: Api) -> None:
    first = post(api, "/slm/generate", {"prompt": "Hi", "temperature": 1, "stop": ["x"]})
    raw = b'{ "stop":["x"],\n"temperature": 1.0, "prompt": "H\\u0069"}'
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k1", "X-Request-Id": "other"}
    again = api.client.post("/slm/generate", data=raw, headers=headers)
    assert again.json["job_id"] == first.json["job_id"]


def test_a_generated_seed_does_not_distinguish_requests(api: Api) -> None:
    seeds = [post(api, "/slm/generate", {"prompt": "Hi"}).json["settings"]["seed"] for _ in range(2)]
    assert seeds[0] == seeds[1]


def test_keys_are_distinguished(api: Api) -> None:
    for key in ("a", "A", "a b", "~" * 255, "slm:job:1", '"', "*"):
        assert "Idempotency-Replayed" not in post(api, "/slm/generate", {"prompt": "Hi"}, key=key).headers
    assert len(jobs(api)) == 7


@pytest.mark.parametrize("key", ["", "x" * 256, "é", "a\tb", "\x7f"])
@pytest.mark.parametrize("path", ["/slm/generate", "/slm/stream", "/slm/load", "/slm/unload"])
def test_an_invalid_idempotency_key_is_refused(api: Api, path: str, key: str) -> None:
    answer = post(api, path, {"prompt": "Hi"} if path in ("/slm/generate", "/slm/stream") else {}, key=key)
    assert (answer.status_code, answer.json["param"]) == (400, "idempotency_key")
    assert jobs(api) == []


def test_a_key_is_free_again_when_its_job_is_forgotten(api: Api) -> None:
    first = post(api, "/slm/generate", {"prompt": "Hi"}).json["job_id"]
    api.redis.delete(f"slm:job:{first}", f"slm:job:{first}:log")
    assert post(api, "/slm/generate", {"prompt": "Ho"}).json["job_id"] != first


def test_a_repeat_finds_an_error_that_came_later_in_the_stream(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.status("Loading SLM model...")
        play.fail(ModelUnavailable("No weights."))

    api = start_api(script)
    for _ in range(2):
        assert data_of(post(api, "/slm/stream", {"prompt": "Hi"}).get_data(as_text=True))[-1]["error"] == "No weights."
