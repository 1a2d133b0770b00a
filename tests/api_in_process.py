"""Runs the API inside the test's own process, with a scripted worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from flask.testing import FlaskClient
from redis import Redis
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from api.app import create_app
from common.fleet import WorkerReport, WorkerState
from common.redis.subscriber import Subscriber
from common.settings import Settings
from tests.scripted_worker import Script, ScriptedWorker

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
    base_id="b5a4d58c",
    adapter_id="0c6f1a7e",
)
MODEL = "cuda_lora_out"  # the name of its model in `/v1`


@dataclass
class Api:
    """A client of the API, with the API's settings, worker and Redis."""

    client: FlaskClient
    settings: Settings
    worker: ScriptedWorker
    redis: Redis

    def generate(self, **body: Any) -> TestResponse:
        return self.client.post("/slm/generate", json={"prompt": "Hi"} | body)

    def stream(self, **body: Any) -> TestResponse:
        return self.client.post("/slm/stream", json={"prompt": "Hi"} | body)

    def submit(self, **body: Any) -> str:
        """Submit a job that runs in the background; returns its id."""
        return str(self.generate(**body | {"async": True}).json["job_id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.client.get(f"/slm/jobs/{job_id}").json)

    def finish(self, job_id: str) -> dict[str, Any]:
        """Wait for a job's end by reading its stream; returns the job."""
        self.client.get(f"/slm/jobs/{job_id}/stream").get_data()
        return self.job(job_id)


_compiled: dict[str, dict[str, Any]] = {}
_compile = Rule.compile


def _compile_once(rule: Rule) -> None:
    """Compile each route once for all APIs of this process: it is most of the time that creating an API takes."""
    if rule.rule not in _compiled:
        before = vars(rule).copy()
        _compile(rule)
        _compiled[rule.rule] = {name: value for name, value in vars(rule).items() if before.get(name) is not value}
        _compiled[rule.rule]["arguments"] = rule.arguments
    vars(rule).update(_compiled[rule.rule])


_made: dict[str, Settings] = {}


def _settings(**given: Any) -> Settings:
    """Make each combination once: it reads a hundred variables, and no test sets one."""
    key = repr(sorted(given.items()))
    if key not in _made:
        _made[key] = Settings(**given)
    return _made[key]


@contextmanager
def api_in_process(redis: Redis, script: Script, *, report: WorkerReport = REPORT, **settings: Any) -> Iterator[Api]:
    """Start the API and its worker."""
    made = _settings(**settings)
    with ScriptedWorker(redis, script, report=report, uploads=made.data_dir / "uploads") as worker:
        subscriber = Subscriber(redis)
        subscriber.start()
        with patch.object(Rule, "compile", _compile_once):
            app = create_app(made, redis=redis, dispatch=worker.dispatch, subscriber=subscriber)
        yield Api(app.test_client(), made, worker, redis)
        subscriber.stop()
