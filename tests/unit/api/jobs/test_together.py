"""How the streams of all APIs get and send events: from the messages alone, and together those that are there."""

from __future__ import annotations

from typing import Any

import pytest

from common.jobs.event_log import EventLog
from common.jobs.events import Event
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


@pytest.mark.parametrize("path", [path for path in STREAMS if path != "/v1/messages"])  # it counts tokens at the end
def test_the_log_of_a_new_job_is_not_read(start_api: StartApi, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    def read(_log: EventLog, job_id: str, *_: Any) -> list[Event]:
        reads.append(job_id)
        return []

    def script(play: Play) -> None:
        play.say("Once ", "upon ")
        play.end("a time")

    api = start_api(script)
    monkeypatch.setattr(EventLog, "read", read)
    answer = api.client.post(path, json={"model": MODEL} | STREAMS[path])
    assert b"a time" in answer.get_data()
    assert reads == []
