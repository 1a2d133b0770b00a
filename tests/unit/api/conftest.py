"""An API on an emulated Redis, with a scripted worker beside it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NoReturn

import pytest
from redis import Redis

from tests.api_in_process import Api, api_in_process
from tests.fake_redis import fake_redis
from tests.scripted_worker import Script, answer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
STORY = answer("Once ", "upon ", "a time.")

PATIENCE_S = 60.0

StartApi = Callable[..., Api]


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll more often than `wait_for`, for conditions that may hold only briefly."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def redis() -> Iterator[Redis]:
    client = fake_redis()
    yield client
    client.close()


@pytest.fixture
def start_api(redis: Redis) -> Iterator[StartApi]:
    """Start an API with a script for its worker and the test's settings."""
    with ExitStack() as stack:

        def start(script: Script = STORY, **settings: Any) -> Api:
            return stack.enter_context(api_in_process(redis, script, **settings))

        yield start


@pytest.fixture
def api(start_api: StartApi) -> Api:
    """An API whose worker answers everything with `STORY`. Every field can be used: it has a secret for webhooks."""
    return start_api(webhook_secret=SECRET)


@pytest.fixture(scope="module")
def _lasting_api() -> Iterator[Api]:
    redis = fake_redis()
    with pytest.MonkeyPatch.context() as patch, api_in_process(redis, STORY, webhook_secret=SECRET) as api:
        patch.setattr(socket, "getaddrinfo", _find_nobody)
        yield api


def _find_nobody(*_: object, **__: object) -> NoReturn:
    raise socket.gaierror


@pytest.fixture
def shared_api(_lasting_api: Api) -> Api:
    """One API for tests that do not depend on each other's state: creating one takes 20 ms."""
    _lasting_api.worker.keep_alive()  # however long the others took
    return _lasting_api


def frames(text: str) -> list[tuple[int, dict[str, Any]]]:
    """The numbered frames of a stream as (id, data); fails on anything that is neither a frame nor a comment.

    A frame without a number is a queue position.
    """
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        if block.startswith("data: "):
            place = json.loads(block.removeprefix("data: "))
            assert place.keys() == {"status", "position", "estimated_wait_s"}
        elif not block.startswith(":"):
            first, second = block.split("\n")
            assert first.startswith("id: ")
            assert second.startswith("data: ")
            found.append((int(first.removeprefix("id: ")), json.loads(second.removeprefix("data: "))))
    return found


def data_of(text: str) -> list[dict[str, Any]]:
    """The data of a stream's frames."""
    return [data for _, data in frames(text)]
