"""Ollama's routes for embeddings, the present and the older one."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import TestResponse

from tests.api_in_process import MODEL, Api
from tests.scripted_worker import DIMENSIONS, ENCODER
from tests.unit.api.conftest import StartApi

LONG = "x" * (ENCODER.max_tokens + 1)


@pytest.fixture
def encoding(shared_api: Api) -> Api:
    """An API whose worker is an embedder, too."""
    shared_api.worker.serve_embeddings()
    return shared_api


def embed(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/api/embed", json={"model": ENCODER.model} | body)


def embed_one(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/api/embeddings", json={"model": ENCODER.model} | body)


def test_several_texts(encoding: Api) -> None:
    answer = embed(encoding, input=["a", "abc"], options={"num_ctx": 8}, keep_alive="5m")
    assert answer.json["embeddings"] == [[0.5, 0.100000001, -0.333333343, 0.0], [1.5, 0.100000001, -0.333333343, 0.0]]
    assert (answer.json["model"], answer.json["prompt_eval_count"]) == (ENCODER.model, 4)
    assert answer.json["total_duration"] >= answer.json["load_duration"] >= 0
    assert answer.headers["X-Ignored-Fields"] == "keep_alive, options"


def test_one_text_with_fewer_dimensions_and_the_tag(encoding: Api) -> None:
    answer = embed(encoding, model=f"{ENCODER.model}:latest", input="abc", dimensions=1)
    assert answer.json["embeddings"] == [[1.5]]


@pytest.mark.parametrize("body", [{}, {"input": ""}, {"input": []}], ids=["missing", "empty", "none"])
def test_without_input_nothing_is_computed(encoding: Api, body: dict[str, Any]) -> None:
    answer = embed(encoding, **body)
    assert (answer.status_code, answer.json["embeddings"]) == (200, [])
    assert "X-Job-Id" not in answer.headers


def test_a_long_text_is_cut_unless_the_client_minds(encoding: Api) -> None:
    assert embed(encoding, input=LONG).json["prompt_eval_count"] == ENCODER.max_tokens
    refused = embed(encoding, input=["a", LONG], truncate=False)
    assert (refused.status_code, refused.json) == (400, {"error": "input[1] has 33 tokens."})


def test_the_older_route(encoding: Api) -> None:
    assert embed_one(encoding, prompt="abc").json == {"embedding": [1.5, 0.100000001, -0.333333343, 0.0]}
    assert embed_one(encoding, prompt="").json == {"embedding": []}
    assert embed_one(encoding, prompt=["abc"]).status_code == 400
    assert len(embed_one(encoding, prompt=LONG).json["embedding"]) == DIMENSIONS


def test_wrong_models(encoding: Api, start_api: StartApi) -> None:
    for call in (embed, embed_one):
        assert call(encoding, model="nothing").status_code == 404
        assert call(encoding, model=MODEL).status_code == 400
        assert "SLM_EMBED_MODEL" in call(start_api()).json["error"]


def test_the_model_is_shown(encoding: Api) -> None:
    shown = encoding.client.post("/api/show", json={"model": ENCODER.model}).json
    assert shown["capabilities"] == ["embedding"]
    assert (shown["model_info"]["slm.embedding_length"], shown["model_info"]["slm.context_length"]) == (4, 32)
    (listed,) = [one for one in encoding.client.get("/api/tags").json["models"] if one["name"].startswith("tiny")]
    assert (listed["size"], listed["digest"]) == (ENCODER.size, ENCODER.digest)
    loaded = encoding.client.get("/api/ps").json["models"]
    assert [one["name"] for one in loaded] == ["gpt2:latest", "tiny-encoder:latest"]
