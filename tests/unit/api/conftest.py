"""An API on an emulated Redis, with a scripted worker beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import fakeredis
import pytest
from flask.testing import FlaskClient
from redis import Redis
from werkzeug.test import TestResponse

from api.app import create_app
from common.fleet import WorkerReport, WorkerState
from common.settings import Settings
from common.subscriber import Subscriber
from tests.scripted_worker import Script, ScriptedWorker, answer

STORY = ("Once ", "upon ", "a time.")
REPORT = WorkerReport(
    id="slm1@host",
    host="host",
    pid=4711,
    state=WorkerState.READY,
    device="cuda",
    slots=2,
    base_model="gpt2",
    lora_path="../SLMInit/cuda_lora_out",
    cuda_available=True,
)


@dataclass
class Api:
    """The API under test: its client, its worker, what is behind it."""

    client: FlaskClient
    worker: ScriptedWorker
    redis: Redis
    subscriber: Subscriber

    def generate(self, **body: Any) -> TestResponse:
        return self.client.post("/slm/generate", json={"prompt": "Hi"} | body)

    def stream(self, **body: Any) -> TestResponse:
        return self.client.post("/slm/stream", json={"prompt": "Hi"} | body)

    def submit(self, **body: Any) -> str:
        """Enter a job that goes on by itself; returns its id."""
        return str(self.generate(**body | {"async": True}).json["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.client.get(f"/slm/jobs/{job_id}").json)

    def finish(self, job_id: str) -> dict[str, Any]:
        """Wait for a job's end by reading its stream; returns the job."""
        self.client.get(f"/slm/jobs/{job_id}/stream").get_data()
        return self.job(job_id)


StartApi = Callable[..., Api]


@pytest.fixture
def redis() -> Iterator[Redis]:
    client = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)
    yield client
    client.close()


@pytest.fixture
def start_api(redis: Redis) -> Iterator[StartApi]:
    """Start an API with a script for its worker and settings of the test's own."""
    with ExitStack() as stack:

        def start(script: Script = answer(*STORY), *, report: WorkerReport = REPORT, **settings: Any) -> Api:
            worker = stack.enter_context(ScriptedWorker(redis, script, report=report))
            subscriber = Subscriber(redis)
            subscriber.start()
            stack.callback(subscriber.stop)
            app = create_app(Settings(**settings), redis=redis, ring=worker.ring, subscriber=subscriber)
            return Api(app.test_client(), worker, redis, subscriber)

        yield start


@pytest.fixture
def api(start_api: StartApi) -> Api:
    """An API whose worker answers everything with `STORY`."""
    return start_api()


def frames(text: str) -> list[tuple[int, dict[str, Any]]]:
    """The frames of a stream as (id, data); fails on anything that is neither a frame nor a comment."""
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        if not block.startswith(":"):
            first, second = block.split("\n")
            assert first.startswith("id: ")
            assert second.startswith("data: ")
            found.append((int(first.removeprefix("id: ")), json.loads(second.removeprefix("data: "))))
    return found


def data_of(text: str) -> list[dict[str, Any]]:
    """The data of a stream's frames."""
    return [data for _, data in frames(text)]
