"""A chat client of the API, and readers of its answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from werkzeug.test import TestResponse

from common.jobs.job import GenerateParams
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import Play

MESSAGES = [{"role": "user", "content": "Hi"}]


def chat(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/v1/chat/completions", json={"model": MODEL, "messages": MESSAGES} | body)


def complete(api: Api, **body: Any) -> TestResponse:
    return api.client.post("/v1/completions", json={"model": MODEL, "prompt": "Hi"} | body)


def data_of(stream: TestResponse) -> list[Any]:
    """The data of a stream's frames, without `[DONE]`, which must end it."""
    *frames, last = frames_of(stream)
    assert last == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def frames_of(stream: TestResponse) -> list[str]:
    """A stream's frames without its comments."""
    return [frame for frame in blocks_of(stream) if not frame.startswith(":")]


def blocks_of(stream: TestResponse) -> list[str]:
    text = stream.get_data(as_text=True)
    assert text.endswith("\n\n")
    return text.removesuffix("\n\n").split("\n\n")


class Seen:
    """A script that answers and keeps its prompts."""

    def __init__(self) -> None:
        self.params: list[GenerateParams] = []

    def __call__(self, play: Play) -> None:
        self.params.append(play.params)
        play.end("ok")


@pytest.fixture
def seen() -> Seen:
    return Seen()
