"""Tokens: what the model sees of a prompt, and what tokens say."""

from __future__ import annotations

from typing import Any

import pytest

from common.errors import InvalidRequest
from common.jobs.job import JobKind
from tests.api_in_process import Api
from tests.unit.api.conftest import StartApi, data_of

MODEL_USED = {"model": "cuda_lora_out@1", "base": "gpt2", "adapter_id": "0c6f1a7e"}
WHOLE = MODEL_USED | {
    "success": True,
    "text": "Hi",
    "tokens": ["H", "i"],
    "ids": [72, 105],
    "count": 2,
    "context_length": 2048,
}


@pytest.mark.parametrize("body", [{"prompt": "Hi"}, {"raw_text": "Hi"}])
def test_a_text_is_shown_token_by_token(api: Api, body: dict[str, Any]) -> None:
    answer = api.client.post("/slm/tokenize", json=body)
    assert answer.json == WHOLE | {"job_id": answer.headers["X-Job-Id"]}


def test_messages_are_shown_as_the_model_sees_them(api: Api) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert api.client.post("/slm/tokenize", json={"messages": messages}).json["text"] == str(messages)


def test_tokens_are_returned_as_text(api: Api) -> None:
    answer = api.client.post("/slm/detokenize", json={"ids": [72, 105]})
    assert answer.json == WHOLE | {"job_id": answer.headers["X-Job-Id"]}


def test_it_is_a_job_like_others(api: Api) -> None:
    answer = api.client.post("/slm/tokenize", json={"raw_text": "Hi", "async": True})
    assert answer.status_code == 202
    job = api.finish(answer.json["job_id"])
    assert (job["kind"], job["result"]["ids"]) == (JobKind.TOKENIZE, [72, 105])
    stream = api.client.get(f"/slm/jobs/{answer.json['job_id']}/stream")
    assert data_of(stream.get_data(as_text=True))[-1]["status"] == "Tokenize complete!"


def test_it_does_not_wait_in_the_queue_of_generations() -> None:
    assert len({JobKind.TOKENIZE.lane, JobKind.LOAD.lane, JobKind.GENERATE.lane}) == 3


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tokenize", {}, "prompt"),
        ("tokenize", {"prompt": "a", "raw_text": "b"}, "raw_text"),
        ("tokenize", {"prompt": " "}, "prompt"),
        ("tokenize", {"prompt": 1}, "prompt"),
        ("tokenize", {"raw_text": ""}, "raw_text"),
        ("tokenize", {"messages": []}, "messages"),
        ("tokenize", {"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ("tokenize", {"ids": [1]}, "ids"),
        ("detokenize", {}, "ids"),
        ("detokenize", {"ids": []}, "ids"),
        ("detokenize", {"ids": [-1]}, "ids"),
        ("detokenize", {"ids": [True]}, "ids"),
        ("detokenize", {"ids": "72"}, "ids"),
    ],
)
def test_a_wrong_body_is_refused_by_the_name_of_its_field(
    api: Api, path: str, body: dict[str, Any], param: str
) -> None:
    answer = api.client.post(f"/slm/{path}", json=body)
    assert (answer.status_code, answer.json["code"], answer.json["param"]) == (400, "invalid_request", param)


def test_a_prompt_beyond_the_limit_is_refused(start_api: StartApi) -> None:
    answer = start_api(max_prompt_chars=10).client.post("/slm/tokenize", json={"raw_text": "x" * 11})
    assert (answer.status_code, answer.json["code"]) == (400, "prompt_too_long")


def test_a_refusal_of_the_worker_is_returned(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = InvalidRequest("The prompt's token ids must be from 0 to 9; got 10.", param="prompt")
    monkeypatch.setattr(api.worker, "_tokenize", lambda play: play.fail(refusal))
    answer = api.client.post("/slm/detokenize", json={"ids": [10]})
    assert (answer.status_code, answer.json["error"], answer.json["param"]) == (400, refusal.message, "ids")
