"""Paths as clients write them."""

from __future__ import annotations

import pytest

from api.http.tidy_path import tidy
from tests.api_in_process import Api


@pytest.mark.parametrize(
    ("path", "tidied"),
    [
        ("", "/"),
        ("//", "/"),
        ("//slm//jobs/", "/slm/jobs"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1//v1/models/", "/v1/models"),
        ("/models", "/v1/models"),
        ("/models/default", "/v1/models/default"),
        ("/responses/resp_1/input_items", "/v1/responses/resp_1/input_items"),
        ("/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/modelsx", "/modelsx"),
        ("/slm/models", "/slm/models"),
        ("/api/embeddings", "/api/embeddings"),
        ("/v1/responses", "/v1/responses"),
    ],
)
def test_a_path_is_tidied(path: str, tidied: str) -> None:
    assert tidy(path) == tidied


@pytest.mark.parametrize("base", ["", "/v1", "/v1/v1"])
def test_a_base_url_may_end_with_v1_or_not(shared_api: Api, base: str) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}]}
    assert shared_api.client.post(f"{base}/chat/completions", json=asked).status_code == 200
    assert shared_api.client.post(f"{base}/messages", json=asked | {"max_tokens": 9}).status_code == 200
    assert shared_api.client.get(f"{base}/models").status_code == 200


def test_every_route_of_openai_answers_without_v1(shared_api: Api) -> None:
    for rule in shared_api.client.application.url_map.iter_rules():
        if rule.rule.startswith("/v1/"):
            assert tidy(rule.rule.removeprefix("/v1")) == tidy(f"/v1{rule.rule}") == rule.rule


def test_no_other_route_is_moved(shared_api: Api) -> None:
    for rule in shared_api.client.application.url_map.iter_rules():
        assert tidy(rule.rule) == rule.rule


def test_an_error_has_openai_s_form_there_too(shared_api: Api) -> None:
    answer = shared_api.client.post("/chat/completions", json={})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "messages")
