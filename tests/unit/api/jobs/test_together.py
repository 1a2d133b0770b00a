"""Pieces of text that are there at the same time, in the streams of all APIs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api_in_process import MODEL
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi

MESSAGES = [{"role": "user", "content": "Hi"}]
STREAMS: dict[str, dict[str, Any]] = {
    "/slm/stream": {"prompt": "Hi"},
    "/v1/chat/completions": {"messages": MESSAGES, "stream": True},
    "/v1/completions": {"prompt": "Hi", "stream": True},
    "/v1/responses": {"input": "Hi", "stream": True},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 9, "stream": True},
    "/api/chat": {"messages": MESSAGES},
    "/api/generate": {"prompt": "Hi"},
}


@pytest.mark.parametrize("path", STREAMS)
def test_they_are_sent_together(start_api: StartApi, path: str) -> None:
    def script(play: Play) -> None:
        play.say("Once ", "upon ", "a ")
        play.end("time")

    answer = start_api(script).client.post(path, json={"model": MODEL} | STREAMS[path])

    chunks = list(answer.response)
    assert any(all(piece in chunk for piece in (b"Once ", b"upon ", b"a ")) for chunk in chunks)  # type: ignore[operator]
