"""When the httpx client retries, and how it reports the server's errors. No server is needed."""

from __future__ import annotations

import re

import httpx
import pytest
from slm_client import RetryPolicy
from slm_client.errors import (
    ApiError,
    BadAnswer,
    ConnectionLost,
    Forbidden,
    JobFailed,
    PromptTooLong,
    RateLimited,
    ServerError,
    Unauthorized,
    Unavailable,
    error_from_response,
)
from slm_client.retry import Retry

from common.settings import ROOT


@pytest.mark.parametrize("luck", [0.0, 0.5, 1.0])
def test_pauses_double_up_to_their_limit(luck: float) -> None:
    policy = RetryPolicy(first_s=1, most_s=5)
    pauses = [policy.pause_s(failures, asked_s=None, luck=luck) for failures in (1, 2, 3, 4, 5)]
    assert pauses == [longest * (1 + luck) / 2 for longest in (1, 2, 4, 5, 5)]


def test_a_pause_is_never_shorter_than_the_server_asked_for() -> None:
    policy = RetryPolicy(first_s=1, most_s=5)
    assert policy.pause_s(1, asked_s=7, luck=0) == 7
    assert 7 < policy.pause_s(1, asked_s=7, luck=0.5) <= 8


def test_retry_after_is_respected_or_the_call_is_given_up() -> None:
    retry = Retry(RetryPolicy(patience_s=60))
    assert retry.pause_s(Unavailable("full", retry_after_s=7)) >= 7
    with pytest.raises(Unavailable):
        retry.pause_s(Unavailable("full", retry_after_s=61))


def test_progress_resets_the_count_of_failures() -> None:
    retry = Retry(RetryPolicy(attempts=2))
    for _ in range(5):
        retry.pause_s(ConnectionLost("gone"))
        retry.pause_s(ConnectionLost("gone"))
        retry.got_on()
    retry.pause_s(ConnectionLost("gone"))
    retry.pause_s(ConnectionLost("gone"))
    with pytest.raises(ConnectionLost):
        retry.pause_s(ConnectionLost("gone"))


@pytest.mark.parametrize(
    "failure", [BadAnswer("?"), JobFailed("lost"), Unauthorized("no"), ServerError("", status=500)]
)
def test_some_failures_are_final_at_once(failure: Exception) -> None:
    with pytest.raises(type(failure)):
        Retry(RetryPolicy()).pause_s(failure)  # type: ignore[arg-type]


def test_httpxs_failures_become_ours() -> None:
    with pytest.raises(ConnectionLost, match="ReadTimeout: slow"):
        Retry(RetryPolicy(attempts=0)).pause_s(httpx.ReadTimeout("slow"))


def test_every_documented_error_except_a_bug_has_its_own_class() -> None:
    """Each code of docs/errors.md, or its status, has its own class."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE)
    answers = [httpx.Response(int(status), json={"error": "x", "code": code}) for code, status in rows]
    assert [error.code for error in map(error_from_response, answers) if type(error) is ServerError] == [
        "internal_error"
    ]


@pytest.mark.parametrize(
    ("status", "kind", "is_worth_repeating"),
    [(401, Unauthorized, False), (403, Forbidden, False), (429, RateLimited, True), (502, ServerError, True)],
)
def test_an_error_without_a_code_is_classified_by_its_status(
    status: int, kind: type[ApiError], is_worth_repeating: bool
) -> None:
    error = error_from_response(httpx.Response(status, html="<h1>no</h1>", headers={"Retry-After": "3"}))
    assert type(error) is kind
    assert error.is_worth_repeating is is_worth_repeating
    assert error.retry_after_s == 3
    assert str(status) in error.message


def test_a_date_in_retry_after_is_ignored() -> None:
    answer = httpx.Response(503, headers={"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"})
    assert error_from_response(answer).retry_after_s is None


def test_an_error_in_openais_form_is_the_same_error() -> None:
    error = {"message": "It is too long.", "type": "t", "param": "messages", "code": "context_length_exceeded"}
    found = error_from_response(httpx.Response(400, json={"error": error}))
    assert isinstance(found, PromptTooLong)
    assert (found.message, found.param) == ("It is too long.", "messages")
