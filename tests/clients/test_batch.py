"""The batch client, as its command is run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from common.errors import JobTimeout
from common.settings import ROOT
from tests.clients.conftest import Worker
from tests.clients.mortal_api import MortalApi
from tests.clients.scripted_server import Reply, refused, scripted_server
from tests.processes import wait_for
from tests.scripted_worker import TIMEOUT_S, Play

SCRIPT = ROOT / "clients" / "batch" / "batch.py"


class Folder:
    """The files of a batch."""

    def __init__(self, path: Path) -> None:
        self.prompts = path / "prompts.jsonl"
        self.answers = path / "answers.jsonl"
        self.batch_lock = path / "answers.jsonl.batch"

    def write(self, *items: Any) -> None:
        self.prompts.write_text("".join(json.dumps(item) + "\n" for item in items))

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.answers.read_text().splitlines()]

    def responses(self) -> dict[str, str]:
        return {line["id"]: line["response"] for line in self.lines() if "response" in line}

    def command(self, url: str, *options: str) -> list[str]:
        return [sys.executable, str(SCRIPT), str(self.prompts), str(self.answers), "--url", url, *options]

    def run(self, url: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | variables
        return subprocess.run(
            self.command(url, *options), env=env, capture_output=True, text=True, timeout=180, check=False
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def json_reply(status: int, fields: dict[str, Any]) -> Reply:
    return Reply(status, json.dumps({"success": True} | fields).encode())


class Counted:
    """A worker's script: answers a prompt with its text in capitals, and counts the prompts."""

    def __init__(self) -> None:
        self.prompts: Counter[str] = Counter()
        self.released = threading.Event()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()

    def __call__(self, play: Play) -> None:
        with self._lock:
            self.prompts[play.prompt] += 1
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        if play.prompt.startswith("wait"):
            assert self.released.wait(TIMEOUT_S)
        with self._lock:
            self._at_once -= 1
        if play.prompt.startswith("fail"):
            play.fail(JobTimeout("It took too long."))
        else:
            play.end(play.prompt.upper())


def test_every_prompt_is_answered_and_a_second_run_has_nothing_to_do(url: str, worker: Worker, folder: Folder) -> None:
    script = Counted()
    folder.write("one", {"prompt": "two", "id": "zwei", "max_new_tokens": 7}, {"prompt": "three", "seed": 3})
    with worker(script):
        done = folder.run(url, "-o", "temperature=0.5", "-o", "stop=END")
        assert done.returncode == 0, done.stderr
        assert folder.responses() == {"1": "ONE", "zwei": "TWO", "3": "THREE"}
        assert "3 of 3 answered, 0 failed" in done.stderr
        assert not folder.batch_lock.exists()
        assert folder.run(url, "-o", "temperature=0.5", "-o", "stop=END").returncode == 0
    assert set(script.prompts.values()) == {1}


def test_a_killed_batch_continues_with_the_missing_answers(url: str, worker: Worker, folder: Folder) -> None:
    """It is killed while two jobs run: the next run fetches their answers, which are generated only once."""
    script = Counted()
    folder.write("one", "wait two", "wait three", "four")
    with worker(script):
        with subprocess.Popen(folder.command(url, "-n", "2"), stderr=subprocess.DEVNULL) as first:
            wait_for("both to run", lambda: len(script.prompts) == 3, TIMEOUT_S)
            first.send_signal(signal.SIGKILL)
        with folder.answers.open("ab") as file:
            file.write(b'{"id": "2", "digest": "torn')  # killed while it wrote
        script.released.set()
        assert folder.run(url).returncode == 0
    assert folder.responses() == {"1": "ONE", "2": "WAIT TWO", "3": "WAIT THREE", "4": "FOUR"}
    assert script.prompts == {"one": 1, "wait two": 1, "wait three": 1, "four": 1}


def test_the_number_of_requests_in_flight_is_limited(url: str, worker: Worker, folder: Folder) -> None:
    script = Counted()
    folder.write(*(f"number {n}" for n in range(12)))
    with worker(script):
        assert folder.run(url, "-n", "3").returncode == 0
    assert len(folder.responses()) == 12
    assert script.most_at_once <= 3


def test_only_a_changed_prompt_is_requested_again(url: str, worker: Worker, folder: Folder) -> None:
    script = Counted()
    with worker(script):
        folder.write("one", "two")
        folder.run(url)
        folder.write("one", "two, please", "three")
        assert folder.run(url).returncode == 0
    assert script.prompts == {"one": 1, "two": 1, "two, please": 1, "three": 1}


def test_a_new_file_of_answers_is_a_new_batch(url: str, worker: Worker, folder: Folder) -> None:
    """It gets new answers, not those that the server remembers."""
    script = Counted()
    with worker(script):
        folder.write("one")
        folder.run(url)
        folder.answers.unlink()
        folder.run(url)
    assert script.prompts == {"one": 2}


def test_failures_are_recorded_and_retried_only_on_request(url: str, worker: Worker, folder: Folder) -> None:
    script = Counted()
    folder.write("one", "fail two", {"prompt": "three", "temperature": -1})
    with worker(script):
        for options in ((), (), ("--retry-failed",)):
            assert folder.run(url, *options).returncode == 1
    errors = [(line["id"], line["error"]["code"]) for line in folder.lines() if "error" in line]
    assert sorted(errors) == [*[("2", "job_timeout")] * 2, *[("3", "invalid_request")] * 2]
    assert script.prompts == {"one": 1, "fail two": 2}


def test_a_batch_survives_a_restart_of_the_api(dying_api: MortalApi, worker: Worker, folder: Folder) -> None:
    script = Counted()
    folder.write("one", "wait two", "three")
    with worker(script), subprocess.Popen(folder.command(dying_api.url, "-n", "2")) as batch:
        wait_for("the second to run", lambda: "wait two" in script.prompts, TIMEOUT_S)
        dying_api.restart()
        script.released.set()
        assert batch.wait(60) == 0
    assert folder.responses() == {"1": "ONE", "2": "WAIT TWO", "3": "THREE"}
    assert set(script.prompts.values()) == {1}


def test_a_job_that_the_server_has_lost_is_submitted_again_under_its_key(folder: Folder) -> None:
    folder.write("one")
    result = {"prompt": "one", "response": "ONE", "full_response": "ONE", "device": "cpu", "finish_reason": "stop"}
    result |= {"job_id": "j2", "settings": {}, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    with scripted_server(
        json_reply(202, {"job_id": "j1", "status": "queued"}),
        refused(404, "job_not_found"),
        json_reply(202, {"job_id": "j2", "status": "queued"}),
        json_reply(200, {"job_id": "j2", "status": "succeeded", "result": result, "error": None}),
    ) as server:
        assert folder.run(server.url).returncode == 0
        assert len({one.headers["Idempotency-Key"] for one in server.asked if one.method == "POST"}) == 1
    assert folder.responses() == {"1": "ONE"}


@pytest.mark.parametrize(
    "reply", [refused(401, "invalid_api_key"), refused(503, "queue_full", Retry_After="0"), Reply(200, b"<html>")]
)
def test_a_failing_server_leaves_the_batch_unfinished(reply: Reply, folder: Folder) -> None:
    folder.write("one", "two")
    with scripted_server(*[reply] * 4) as server:
        done = folder.run(server.url, "-n", "1", "--retries", "1", SLMCLIENT_API_KEY="k")
        assert {one.headers["Authorization"] for one in server.asked} == {"Bearer k"}
        assert {one.body["prompt"] for one in server.asked} == {"one"}
    assert done.returncode == 3
    assert "run the same command again" in done.stderr
    assert folder.lines() == []
    assert folder.batch_lock.exists()


def test_an_interrupted_batch_says_so(url: str, worker: Worker, folder: Folder) -> None:
    script = Counted()
    folder.write("wait one")
    with worker(script):
        with subprocess.Popen(folder.command(url), stderr=subprocess.PIPE, text=True) as batch:
            wait_for("it to run", lambda: script.prompts, TIMEOUT_S)
            busy = folder.run(url)
            batch.send_signal(signal.SIGINT)
            assert "interrupted; run the same command again" in batch.communicate(timeout=180)[1]
        script.released.set()
    assert batch.returncode == 130
    assert busy.returncode == 2
    assert "another process writes to" in busy.stderr


def test_a_text_file_has_a_prompt_on_each_line(url: str, worker: Worker, folder: Folder) -> None:
    folder.prompts = folder.prompts.with_suffix(".txt")
    folder.prompts.write_text('one\n\n  {"two"}\n', encoding="utf-8")
    with worker(Counted()):
        assert folder.run(url).returncode == 0
    assert folder.responses() == {"1": "ONE", "3": '{"TWO"}'}
