"""Every answer and stream under /api, byte by byte, against the files of this folder; see `tests/golden`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug import Response

from tests.api_in_process import MODEL, Api, api_in_process
from tests.fake_redis import fake_redis
from tests.golden import test_golden
from tests.golden.openai.test_openai_golden import calling
from tests.golden.test_golden import machine_learning

FOLDER = Path(__file__).parent
TIME = re.compile(r'("(?:created|modified)_at": )"[^"]+"')
DURATION = re.compile(r'("[a-z_]+_duration": )\d+')
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def api() -> Iterator[Api]:
    redis = fake_redis()
    with api_in_process(redis, machine_learning(), report=test_golden.REPORT) as api:
        yield api


def check(name: str, response: Response) -> None:
    masks = [(TIME, r'\g<1>"2026-01-01T00:00:00.000Z"'), (DURATION, r"\g<1>0")]
    test_golden.check(name, response, folder=FOLDER, more_masks=masks)


def test_models(api: Api) -> None:
    check("tags.json", api.client.get("/api/tags"))
    check("ps.json", api.client.get("/api/ps"))
    check("show.json", api.client.post("/api/show", json={"model": MODEL}))
    check("version.json", api.client.get("/api/version"))


def test_answers(api: Api) -> None:
    for name in ("chat", "generate"):
        body = {"model": MODEL} | ({"messages": HI} if name == "chat" else {"prompt": "Hi"})
        check(f"{name}.json", api.client.post(f"/api/{name}", json=body | {"stream": False}))
        check(f"{name}.ndjson", api.client.post(f"/api/{name}", json=body))


def test_a_chat_with_tools() -> None:
    redis = fake_redis()
    tools = [{"type": "function", "function": {"name": "weather"}}]
    with api_in_process(redis, calling, report=test_golden.REPORT) as api:
        for name, stream in (("chat_tools.json", False), ("chat_tools.ndjson", True)):
            body = {"model": MODEL, "messages": HI, "tools": tools, "stream": stream}
            check(name, api.client.post("/api/chat", json=body))


def test_errors(api: Api) -> None:
    check("error_model_not_found.json", api.client.post("/api/show", json={"model": "gpt-5"}))
    check("error_embed.json", api.client.post("/api/embed", json={"model": MODEL, "input": "x"}))


def test_embeddings(api: Api) -> None:
    api.worker.serve_embeddings()
    check("embed.json", api.client.post("/api/embed", json={"model": "tiny-encoder", "input": ["a", "abc"]}))
    check("embeddings.json", api.client.post("/api/embeddings", json={"model": "tiny-encoder", "prompt": "a"}))
    check("show_encoder.json", api.client.post("/api/show", json={"model": "tiny-encoder"}))
