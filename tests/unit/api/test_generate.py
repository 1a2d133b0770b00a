"""POST /slm/generate."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from common.errors import ModelUnavailable, PromptTooLong
from common.jobs.job import GenerateParams
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi


def test_the_answer_is_complete_with_its_timings(api: Api) -> None:
    answer = api.generate(prompt="Hello there", seed=7)
    assert answer.status_code == 200
    body = answer.json
    assert body["success"] is True
    assert body["prompt"] == "Hello there"
    assert body["response"] == "Once upon a time."
    assert body["full_response"] == "### Instruction:\nHello there\n\n### Response:\nOnce upon a time."
    assert body["device"] == "cuda"
    assert body["finish_reason"] == "stop"
    assert body["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert body["settings"]["seed"] == 7
    assert answer.headers["X-Job-Id"] == body["job_id"]


def test_documented_keys_come_first_and_in_order(api: Api) -> None:
    body = api.generate().json
    documented = ["success", "prompt", "response", "full_response", "device", "settings"]
    assert list(body)[: len(documented)] == documented
    assert list(body["settings"])[:3] == ["max_new_tokens", "temperature", "do_sample"]


def test_settings_left_out_have_the_documented_values(api: Api) -> None:
    settings = api.generate().json["settings"]
    assert (settings["max_new_tokens"], settings["temperature"], settings["do_sample"]) == (100, 0.7, True)


def test_without_a_seed_one_is_drawn_and_returned(api: Api) -> None:
    seeds = {api.generate().json["settings"]["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_sampling_reaches_the_worker_as_sent(start_api: StartApi) -> None:
    seen = []

    def script(play: Play) -> None:
        seen.append(play.job.params)
        play.end("x")

    start_api(script).generate(
        prompt="p",
        max_new_tokens=5,
        temperature=0,
        do_sample=False,
        top_p=0.5,
        top_k=9,
        repetition_penalty=1.2,
        stop="END",
        seed=3,
    )
    assert seen == [
        {
            "prompt": "p",
            "sampling": {
                "seed": 3,
                "max_new_tokens": 5,
                "temperature": 0.0,
                "do_sample": False,
                "top_p": 0.5,
                "top_k": 9,
                "repetition_penalty": 1.2,
                "stop": ["END"],
            },
        }
    ]


SENT: dict[str, Any] = {
    "min_new_tokens": 2,
    "min_p": 0.05,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "logit_bias": {"7": -100.0, "50256": 2.5},
    "logprobs": 0,
    "stop_token_ids": [3, 4],
    "ignore_eos": True,
}


def test_every_sampling_field_reaches_the_worker_and_the_answer(start_api: StartApi) -> None:
    seen = []

    def script(play: Play) -> None:
        seen.append(GenerateParams.from_dict(play.job.params).sampling)
        play.end("x")

    answer = start_api(script).generate(**SENT)

    (sampling,) = seen
    assert {name: answer.json["settings"][name] for name in SENT} == SENT
    assert sampling.logit_bias == {7: -100.0, 50256: 2.5}
    assert sampling.stop_token_ids == (3, 4)
    assert (sampling.min_new_tokens, sampling.min_p, sampling.ignore_eos, sampling.logprobs) == (2, 0.05, True, 0)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)


def test_the_answer_only_has_the_sampling_fields_that_were_used(api: Api) -> None:
    off = {"min_new_tokens": 0, "min_p": 0, "presence_penalty": 0.0, "logit_bias": {}, "stop_token_ids": []}

    assert not SENT.keys() & api.generate().json["settings"].keys()
    assert not SENT.keys() & api.generate(**off, ignore_eos=False).json["settings"].keys()


@pytest.mark.parametrize("text", ["\u2028 \x00 é 漢字 😀", '</script><b>"'])
def test_any_text_comes_back_unchanged(api: Api, text: str) -> None:
    assert api.generate(prompt=text).json["prompt"] == text


def test_a_failed_job_is_answered_with_its_own_status(start_api: StartApi) -> None:
    api = start_api(lambda play: play.fail(PromptTooLong("The prompt has 9 tokens too many.", param="prompt")))
    answer = api.generate()
    assert answer.status_code == 400
    assert answer.json["code"] == "prompt_too_long"
    assert answer.json["param"] == "prompt"
    assert answer.headers["X-Job-Id"]


def test_a_model_that_cannot_be_loaded_is_503(start_api: StartApi) -> None:
    answer = start_api(lambda play: play.fail(ModelUnavailable("No such model."))).generate()
    assert (answer.status_code, answer.json["error"]) == (503, "No such model.")


def test_an_answer_that_takes_too_long_is_202_and_its_result_is_kept(start_api: StartApi) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("late ")
        assert go_on.wait(60)
        play.end("but here")

    api = start_api(script, sync_timeout_s=0.2)
    answer = api.generate()
    job_id = answer.json["job_id"]
    assert answer.status_code == 202
    assert answer.json.keys() == {"success", "job_id", "status", "position", "estimated_wait_s"}
    assert answer.json["status"] in ("queued", "running")  # the worker may not have claimed it yet
    assert answer.headers["Location"] == f"/slm/jobs/{job_id}"
    go_on.set()
    assert api.finish(job_id)["result"]["response"] == "late but here"


def test_with_a_timeout_of_0_the_answer_is_202_at_once(start_api: StartApi) -> None:
    assert start_api(Play.run_until_cancelled, sync_timeout_s=0).generate().status_code == 202


@pytest.mark.parametrize("prefer", ["respond-async", "wait=10, Respond-Async", "respond-async; foo=1"])
def test_a_client_can_ask_not_to_wait(api: Api, prefer: str) -> None:
    answer = api.client.post("/slm/generate", json={"prompt": "Hi"}, headers={"Prefer": prefer})
    assert answer.status_code == 202
    job_id = answer.json["job_id"]
    place = {"position": 0, "estimated_wait_s": None}
    assert answer.json == {"success": True, "job_id": job_id, "status": "queued"} | place
    assert answer.headers["Location"] == f"/slm/jobs/{job_id}"
    assert api.finish(job_id)["status"] == "succeeded"


@pytest.mark.parametrize("path", ["/slm/generate", "/slm/stream"])
def test_the_body_can_ask_not_to_wait_too(api: Api, path: str) -> None:
    answer = api.client.post(path, json={"prompt": "Hi", "async": True})
    assert answer.status_code == 202
    assert api.finish(answer.json["job_id"])["status"] == "succeeded"


def test_a_job_cancelled_by_another_client_is_409(start_api: StartApi) -> None:
    api = start_api()

    def script(play: Play) -> None:
        api.client.application.test_client().delete(f"/slm/jobs/{play.job.id}")
        play.run_until_cancelled()

    api.worker.script = script
    answer = api.generate()
    assert (answer.status_code, answer.json["code"]) == (409, "cancelled")


def test_the_job_options_reach_the_store(api: Api) -> None:
    job_id = api.generate(priority="bulk", ttl=60, timeout=1.5).json["job_id"]
    record = api.worker.store.get(job_id)
    assert (record.bulk, record.ttl_ms, record.timeout_ms) == (True, 60_000, 1500)
    plain = api.worker.store.get(api.generate().json["job_id"])
    assert (plain.bulk, plain.ttl_ms, plain.timeout_ms) == (False, None, None)


def test_bulk_jobs_wait_for_interactive_ones(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    for _ in range(3):  # two run, and one wake-up message is ahead
        api.submit()
    bulk, interactive = api.submit(priority="bulk"), api.submit()
    assert [api.job(job_id)["position"] for job_id in (interactive, bulk)] == [1, 2]


def test_without_a_worker_the_refusal_comes_at_once(api: Api) -> None:
    api.worker.leave()
    answer = api.generate()
    assert (answer.status_code, answer.json["code"]) == (503, "no_worker")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_full_queue_refuses(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled, max_queue=1)
    for _ in range(4):  # two run, one wake-up message is ahead, one in the queue
        api.submit()
    answer = api.generate()
    assert (answer.status_code, answer.json["code"]) == (503, "queue_full")
    assert int(answer.headers["Retry-After"]) > 0
