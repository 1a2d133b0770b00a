"""The security headers of every answer, and limits of requests."""

from __future__ import annotations

import pytest

from tests.api_in_process import Api
from tests.unit.api.conftest import StartApi
from tests.unit.api.test_errors import check_shape


@pytest.mark.parametrize("path", ["/slm/info", "/healthz", "/metrics", "/nothing", "/static/docs.js"])
def test_answers_that_are_not_pages_can_load_nothing_and_cannot_be_framed(api: Api, path: str) -> None:
    with api.client.get(path) as answer:
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_the_page_can_only_load_its_own_parts(api: Api) -> None:
    with api.client.get("/") as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_a_stream_has_them_too(api: Api) -> None:
    answer = api.stream()
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.get_data()


@pytest.mark.parametrize("route", ["generate", "stream"])
def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(start_api: StartApi, route: str) -> None:
    api = start_api(max_prompt_chars=10)
    answer = api.client.post(f"/slm/{route}", json={"prompt": "ä" * 11})
    body = check_shape(answer, 400, "prompt_too_long")
    assert body["param"] == "prompt"
    assert body["error"] == "The prompt has 11 characters; the limit is 10."
    assert api.client.get("/slm/jobs").json["jobs"] == []


def test_a_prompt_of_exactly_the_limit_is_accepted(start_api: StartApi) -> None:
    assert start_api(max_prompt_chars=10).generate(prompt="ä" * 10).status_code == 200
