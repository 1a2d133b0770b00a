"""`slm jobs` against an API process."""

from __future__ import annotations

import threading

from slm_client import SLMClient

from common.errors import InternalError
from tests.clients.conftest import Worker
from tests.process.slm.conftest import CommandAt
from tests.process.slm.terminal import CTRL_C, terminal
from tests.processes import wait_for
from tests.scripted_worker import TIMEOUT_S, Play, answer


def submit(url: str, prompt: str = "Hi") -> str:
    with SLMClient(url) as client:
        return client.submit(prompt).id


def state(url: str, job_id: str) -> str:
    with SLMClient(url) as client:
        return client.job(job_id).status


def test_jobs_are_listed_and_shown(slm: CommandAt, url: str, worker: Worker) -> None:
    with worker(answer("Hel", "lo.")):
        first = submit(url)
        wait_for("the job", lambda: state(url, first) == "succeeded")
        second = submit(url)
        wait_for("the job", lambda: state(url, second) == "succeeded")
    rows = slm("jobs", "list").rows
    assert [row[0] for row in rows] == ["JOB", second, first]
    assert rows[1][1:3] == ["generate", "succeeded"]
    assert [one["job_id"] for one in slm("jobs", "list", "--limit", "1", "--json").document["jobs"]] == [second]
    assert [one["job_id"] for one in slm("jobs", "list", "--search", first, "--json").document["jobs"]] == [first]
    assert slm("jobs", "list", "--search", "a+b & c", "--json").document["jobs"] == []
    shown = slm("jobs", "show", first).out
    assert "succeeded" in shown
    assert "2 tokens in" in shown
    assert shown.endswith("\n\nHello.\n")
    assert slm("jobs", "show", first, "--json").document["result"]["response"] == "Hello."


def test_a_failed_job_shows_its_error(slm: CommandAt, url: str, worker: Worker) -> None:
    with worker(lambda play: play.fail(InternalError("It broke."))):
        job_id = submit(url)
        wait_for("the job", lambda: state(url, job_id) == "failed")
        assert "It broke." in slm("jobs", "show", job_id).out
        assert slm("jobs", "watch", job_id, status=1).err == "slm: It broke.\n"


def test_an_unknown_job_is_an_error_with_a_hint(slm: CommandAt) -> None:
    for what in ("show", "watch", "cancel"):
        done = slm("jobs", what, "nope", status=1)
        assert "There is no job 'nope'" in done.err
        assert "slm jobs list" in done.err
        assert done.out == ""


def test_a_job_is_cancelled(slm: CommandAt, url: str, worker: Worker) -> None:
    with worker(lambda play: play.run_until_cancelled()):
        job_id = submit(url)
        wait_for("the job", lambda: state(url, job_id) == "running")
        assert slm("jobs", "cancel", job_id).out == "It will stop soon.\n"
        wait_for("the job", lambda: state(url, job_id) == "cancelled")
        assert slm("jobs", "cancel", job_id, "--json").document["status"] == "cancelled"
        assert "was cancelled" in slm("jobs", "watch", job_id, status=1).err


def test_a_watcher_in_a_pipe_gets_a_line_for_each_change(slm: CommandAt, url: str, worker: Worker) -> None:
    with worker(answer("Hel", "l", "o.")):
        job_id = submit(url)
        lines = slm("jobs", "watch", job_id).out.splitlines()
        events = slm("jobs", "watch", job_id, "--json").events
    assert lines[-3:-1] == ["Generating response...", "Running"]
    assert lines[-1].startswith("succeeded 3 tokens in ")
    assert [one["type"] for one in events][-5:] == ["text", "text", "text", "finished", "job"]


def test_a_watcher_on_a_terminal_sees_the_position_and_the_speed(url: str, worker: Worker) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        while not go_on.wait(0.05):  # until somebody has seen the speed
            play.say("again ")
        play.end(".")

    with worker(script):
        job_id = submit(url)
        with terminal("jobs", "watch", job_id, "--url", url) as screen:
            screen.wait_for(" tokens/s")
            go_on.set()
            screen.wait_for("succeeded ")
            screen.wait_for(" tokens in ")
            assert screen.end() == 0


def test_ctrl_c_ends_the_watching_and_not_the_job(url: str, worker: Worker) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("so far")
        assert go_on.wait(TIMEOUT_S)
        play.end(".")

    with worker(script):
        job_id = submit(url)
        with terminal("jobs", "watch", job_id, "--url", url) as screen:
            screen.wait_for("Running")
            screen.type(CTRL_C)
            assert screen.end() == 130
        go_on.set()
        wait_for("the job", lambda: state(url, job_id) == "succeeded")
