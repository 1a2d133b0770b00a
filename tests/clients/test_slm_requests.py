"""The small client on requests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import requests
from slm_requests import SLM

from common.errors import JobTimeout
from common.settings import ROOT
from tests.clients.conftest import Worker
from tests.clients.scripted_server import events, refused, scripted_server
from tests.scripted_worker import Play, answer


def test_it_generates_and_shows_the_model(url: str, worker: Worker) -> None:
    with worker(answer("Paris", ".")):
        slm = SLM(url)
        assert slm.generate("What is the capital of France?", max_new_tokens=50)["response"] == "Paris."
        assert slm.info()["model_loaded"]
        assert slm.load()["success"]


def test_it_streams_the_pieces(url: str, worker: Worker) -> None:
    with worker(answer("Once ", "upon ", "a time.")):
        assert list(SLM(url).stream("Tell me a story")) == ["Once ", "upon ", "a time."]


def test_it_submits_polls_and_waits(url: str, worker: Worker) -> None:
    with worker(answer("b")):
        slm = SLM(url)
        job_id = slm.submit("Hi")
        assert slm.wait(job_id)["response"] == "b"
        assert slm.poll(job_id)["status"] == "succeeded"


def test_an_answer_that_takes_longer_than_the_server_waits_is_fetched_later(url: str, worker: Worker) -> None:
    with worker(answer("late")):
        assert SLM(url).generate("Hi", **{"async": True})["response"] == "late"


def test_it_cancels(url: str, worker: Worker) -> None:
    with worker(Play.run_until_cancelled):
        slm = SLM(url)
        job_id = slm.submit("Hi")
        slm.cancel(job_id)
        with pytest.raises(RuntimeError, match="cancelled"):
            slm.wait(job_id)


def test_a_failed_job_is_reported_in_the_servers_words(url: str, worker: Worker) -> None:
    def fail(play: Play) -> None:
        play.say("half ")
        play.fail(JobTimeout("It took too long."))

    with worker(fail):
        slm = SLM(url)
        pieces = slm.stream("Hi")
        assert next(pieces) == "half "
        with pytest.raises(RuntimeError, match=r"It took too long\."):
            list(pieces)
        with pytest.raises(RuntimeError, match=r"It took too long\."):
            slm.wait(slm.submit("Hi"))


def test_a_refusal_is_reported_in_the_servers_words(url: str) -> None:
    with pytest.raises(requests.HTTPError, match="temperature must be a number") as refusal:
        SLM(url).generate("Hi", temperature=-1)
    assert refusal.value.response.status_code == 400


def test_a_stream_that_breaks_off_is_not_complete() -> None:
    piece = (0, {"text": "a", "full_text": "a", "is_complete": False})
    with scripted_server(events(piece)) as server:
        pieces = SLM(server.url).stream("Hi")
        assert next(pieces) == "a"
        with pytest.raises(requests.ConnectionError):
            next(pieces)


def test_it_sends_its_api_key_and_an_idempotency_key() -> None:
    with scripted_server(refused(401, "unauthorized")) as server:
        with pytest.raises(requests.HTTPError, match="unauthorized"):
            SLM(server.url, api_key="k").generate("Hi")
        assert server.asked[0].headers["Authorization"] == "Bearer k"
        assert server.asked[0].headers["Idempotency-Key"]


def test_it_runs_from_the_command_line(url: str, worker: Worker) -> None:
    with worker(answer("Ha ", "ha.")):
        script = ROOT / "clients" / "python" / "slm_requests.py"
        env = os.environ | {"SLMCLIENT_URL": url}
        done = subprocess.run(
            [sys.executable, script, "Tell me a joke"], env=env, capture_output=True, text=True, check=True, timeout=180
        )
    assert done.stdout == "Ha ha.\n"
