"""`POST /v1/embeddings`: what a request may ask for, its answers and its errors."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from typing import Any

import pytest
from werkzeug.test import TestResponse

from common.embedding.embedders import Embedders
from common.embedding.task import KEPT_S, MAX_INPUTS
from common.redis import keys
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import DIMENSIONS, ENCODER
from tests.unit.api.conftest import StartApi


@pytest.fixture
def encoding(shared_api: Api) -> Api:
    """An API whose worker is an embedder, too."""
    shared_api.worker.serve_embeddings()
    return shared_api


def embed(api: Api, headers: Mapping[str, str] | None = None, **body: Any) -> TestResponse:
    return api.client.post("/v1/embeddings", json={"model": ENCODER.model, "input": "abc"} | body, headers=headers)


def error(answer: TestResponse) -> tuple[int, str, str, str]:
    found = answer.json["error"]
    return answer.status_code, found["param"], found["code"], found["message"]


def test_one_text(encoding: Api) -> None:
    assert embed(encoding).json == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [1.5, 0.100000001, -0.333333343, 0]}],
        "model": ENCODER.model,
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }


@pytest.mark.parametrize(
    ("given", "lengths"),
    [
        pytest.param(["a", "bcd"], [1, 3], id="texts"),
        pytest.param([5, 6, 7], [3], id="tokens"),
        pytest.param([[5], [6, 7]], [1, 2], id="lists of tokens"),
    ],
)
def test_each_form_of_input(encoding: Api, given: object, lengths: list[int]) -> None:
    answer = embed(encoding, input=given).json
    assert [2 * one["embedding"][0] for one in answer["data"]] == lengths
    assert [one["index"] for one in answer["data"]] == list(range(len(lengths)))


def test_base64_has_the_same_numbers(encoding: Api) -> None:
    (one,) = embed(encoding, encoding_format="base64").json["data"]
    numbers = struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(one["embedding"]))
    (plain,) = embed(encoding).json["data"]
    assert struct.pack(f"<{DIMENSIONS}f", *plain["embedding"]) == struct.pack(f"<{DIMENSIONS}f", *numbers)


def test_fewer_dimensions(encoding: Api) -> None:
    assert embed(encoding, dimensions=2).json["data"][0]["embedding"] == [1.5, 0.100000001]


def test_the_model_may_be_missing_or_null(encoding: Api) -> None:
    answer = encoding.client.post("/v1/embeddings", json={"input": "abc", "model": None, "dimensions": None})
    assert answer.json["model"] == ENCODER.model


def test_the_user_is_ignored(encoding: Api) -> None:
    assert embed(encoding, user="ann").headers["X-Ignored-Fields"] == "user"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        pytest.param({"input": ""}, "input", id="empty text"),
        pytest.param({"input": []}, "input", id="no input"),
        pytest.param({"input": ["a", ""]}, "input[1]", id="an empty text among others"),
        pytest.param({"input": [[1], []]}, "input[1]", id="no tokens"),
        pytest.param({"input": ["a", 1]}, "input[1]", id="text and token"),
        pytest.param({"input": [-1]}, "input[0]", id="negative token"),
        pytest.param({"input": None}, "input", id="null"),
        pytest.param({"input": ["a"] * (MAX_INPUTS + 1)}, "input", id="too many"),
        pytest.param({"encoding_format": "int8"}, "encoding_format", id="format"),
        pytest.param({"dimensions": 0}, "dimensions", id="dimensions"),
        pytest.param({"dimensions": "2"}, "dimensions", id="dimensions as text"),
        pytest.param({"texts": "a"}, "texts", id="unknown field"),
    ],
)
def test_wrong_fields_are_named(encoding: Api, body: dict[str, Any], param: str) -> None:
    status, named, code, message = error(embed(encoding, **body))
    assert (status, named.partition("[")[0], code) == (400, param.partition("[")[0], "invalid_request")
    assert message


def test_an_error_of_the_worker_names_the_input(encoding: Api) -> None:
    status, param, code, _ = error(embed(encoding, input=["a", "b" * 33]))
    assert (status, param, code) == (400, "input[1]", "context_length_exceeded")


def test_a_text_over_the_limit_of_prompts_never_becomes_a_job(start_api: StartApi) -> None:
    api = start_api(max_prompt_chars=9)
    api.worker.serve_embeddings()
    status, param, code, message = error(embed(api, input=["a", "b" * 10]))
    assert (status, param, code) == (400, "input[1]", "context_length_exceeded")
    assert "10 characters" in message
    assert api.client.get("/slm/jobs").json["jobs"] == []


def test_without_a_model_the_error_says_how_to_set_one(api: Api) -> None:
    status, param, code, message = error(embed(api))
    assert (status, param, code) == (400, "model", "invalid_request")
    assert "SLM_EMBED_MODEL" in message


def test_with_a_model_but_no_embedder_the_client_can_try_again(start_api: StartApi) -> None:
    answer = embed(start_api(embed_model="/models/tiny-encoder"))
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "no_worker")
    assert "embedder" in answer.json["error"]["message"]


def test_other_models_are_refused(encoding: Api) -> None:
    assert error(embed(encoding, model=MODEL))[:2] == (400, "model")
    assert "generates text" in error(embed(encoding, model=MODEL))[3]
    assert error(embed(encoding, model="text-embedding-3-small"))[:3] == (404, "model", "model_not_found")
    assert ENCODER.model in error(embed(encoding, model="text-embedding-3-small"))[3]


def test_a_chat_cannot_use_the_model(encoding: Api) -> None:
    answer = encoding.client.post("/v1/completions", json={"model": ENCODER.model, "prompt": "Hi"})
    assert error(answer)[:3] == (404, "model", "model_not_found")


def test_the_model_is_listed_last(encoding: Api) -> None:
    listed = encoding.client.get("/v1/models").json["data"]
    assert [one["id"] for one in listed] == ["default", MODEL, "gpt2", ENCODER.model]
    shown = encoding.client.get(f"/v1/models/{ENCODER.model}").json
    assert shown == listed[-1]
    assert (shown["max_model_len"], shown["parent"], shown["root"]) == (32, None, ENCODER.model)


def test_the_job_can_be_seen_and_is_counted(encoding: Api) -> None:
    before = encoding.client.get("/slm/usage").json["prompt_tokens"]
    answer = embed(encoding, input=["a", "bcd"], priority="bulk")
    job = encoding.job(answer.headers["X-Job-Id"])
    assert (job["kind"], job["status"], job["model"], job["base"]) == ("embed", "succeeded", ENCODER.model, None)
    assert job["result"]["dimensions"] == DIMENSIONS
    assert job["result"]["embeddings"][1] == [1.5, 0.100000001, -0.333333343, 0.0]
    assert job["result"]["usage"] == {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}
    assert encoding.client.get("/slm/usage").json["prompt_tokens"] == before + 4
    stream = encoding.client.get(f"/slm/jobs/{job['job_id']}/stream").get_data(as_text=True)
    assert "Embedding complete!" in stream


def test_vectors_are_kept_briefly_unless_they_can_be_asked_for_again(encoding: Api) -> None:
    once = embed(encoding).headers["X-Job-Id"]
    again = embed(encoding, {"Idempotency-Key": "k"}).headers["X-Job-Id"]
    assert encoding.redis.ttl(keys.job(once)) <= KEPT_S < encoding.redis.ttl(keys.job(again))
    repeat = embed(encoding, {"Idempotency-Key": "k"})
    assert (repeat.headers["X-Job-Id"], repeat.json) == (again, embed(encoding).json)


def test_the_server_s_description_has_the_model(api: Api) -> None:
    api.worker.serve_embeddings()
    assert api.client.get("/slm/info").json["embedding"] == {
        "model": ENCODER.model,
        "embedders": 1,
        "waiting": 0,
        "running": 0,
    }
    Embedders(api.redis).leave(ENCODER.id)
    assert "embedding" not in api.client.get("/slm/info").json
