"""Every answer and stream under /v1/messages, byte by byte, against the files of this folder; see `tests/golden`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from werkzeug import Response
from werkzeug.test import TestResponse

from common.errors import WorkerLost
from tests.api_in_process import MODEL, Api, api_in_process
from tests.fake_redis import fake_redis
from tests.golden import test_golden
from tests.golden.openai.test_openai_golden import calling
from tests.golden.test_golden import machine_learning
from tests.scripted_worker import Play

FOLDER = Path(__file__).parent
HI = [{"role": "user", "content": "Hi"}]

Start = Callable[..., Api]


@pytest.fixture
def start() -> Iterator[Start]:
    redis = fake_redis()
    with ExitStack() as stack:
        yield lambda script: stack.enter_context(api_in_process(redis, script, report=test_golden.REPORT))


def check(name: str, response: Response) -> None:
    test_golden.check(name, response, folder=FOLDER)


def create(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/v1/messages", json={"model": MODEL, "messages": HI, "max_tokens": 9} | body)


def failing(play: Play) -> None:
    play.say("Machine ")
    play.fail(WorkerLost("The job's workers died 3 times; it will not be tried again."))


def test_messages(start: Start) -> None:
    api = start(machine_learning())
    check("message.json", create(api))
    check("message.sse", create(api, stream=True))
    check("count_tokens.json", api.client.post("/v1/messages/count_tokens", json={"messages": HI}))


def test_messages_with_tools(start: Start) -> None:
    api = start(calling)
    tools = [{"name": "weather", "input_schema": {"type": "object"}}]
    check("message_tools.json", create(api, tools=tools))
    check("message_tools.sse", create(api, tools=tools, stream=True))


def test_errors(start: Start) -> None:
    api = start(failing)
    check("message_failed.sse", create(api, stream=True))
    check("error_bad_field.json", create(api, max_tokens=0))
    check("error_model_not_found.json", create(api, model="gpt-5"))
