"""Every failure under /v1 has OpenAI's shape, wherever it is noticed."""

from __future__ import annotations

import pytest
from redis import Redis

from api.openai import errors
from common.errors import (
    Forbidden,
    InvalidRequest,
    JobExpired,
    ModelUnavailable,
    PromptTooLong,
    RateLimitExceeded,
    SLMError,
    Unauthorized,
)
from tests.api_in_process import Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi
from tests.unit.api.openai.conftest import chat


@pytest.mark.parametrize(
    ("err", "kind", "code"),
    [
        (InvalidRequest("x"), "invalid_request_error", "invalid_request"),
        (PromptTooLong("x"), "invalid_request_error", "context_length_exceeded"),
        (Unauthorized("x"), "authentication_error", "invalid_api_key"),
        (Forbidden("x"), "permission_error", "forbidden"),
        (RateLimitExceeded("x"), "rate_limit_error", "rate_limit_exceeded"),
        (JobExpired("x"), "server_error", "job_expired"),
    ],
)
def test_an_error_says_what_kind_it_is(err: SLMError, kind: str, code: str) -> None:
    assert errors.body(err) == {"error": {"message": "x", "type": kind, "param": None, "code": code}}


def test_only_fields_with_another_name_in_the_worker_are_renamed() -> None:
    names = {"prompt": "input"}
    assert PromptTooLong("x", param="prompt").renamed(names).param == "input"
    assert isinstance(PromptTooLong("x", param="prompt").renamed(names), PromptTooLong)
    assert InvalidRequest("x", param="seed").renamed(names).param == "seed"


def test_an_unknown_path_and_a_wrong_method(api: Api) -> None:
    missing, wrong = api.client.get("/v1/nothing"), api.client.get("/v1/chat/completions")
    assert (missing.status_code, missing.json["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json["error"]["code"]) == (405, "method_not_allowed")
    assert wrong.headers["Allow"] == "OPTIONS, POST"


def test_a_huge_body(start_api: StartApi) -> None:
    answer = chat(start_api(max_body_bytes=1024), user="x" * 2000)
    assert (answer.status_code, answer.json["error"]["code"]) == (413, "body_too_large")


def test_a_server_failure_that_would_fail_again_says_so(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.fail(ModelUnavailable("no such file"))

    answer = chat(start_api(script))
    assert (answer.status_code, answer.headers["X-Should-Retry"]) == (503, "false")


def test_a_caller_without_a_key(start_api: StartApi, redis: Redis) -> None:
    from common.owners.api_keys import ApiKeyStore, Role

    ApiKeyStore(redis).create("someone", Role.USER)
    answer = chat(start_api(), user="x")
    assert (answer.status_code, answer.json["error"]["type"]) == (401, "authentication_error")
