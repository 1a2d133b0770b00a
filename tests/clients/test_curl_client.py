"""The curl script, run by bash."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from common.errors import JobTimeout
from common.settings import ROOT
from tests.clients.conftest import Worker
from tests.clients.mortal_api import MortalApi
from tests.clients.scripted_server import Reply, events, refused, scripted_server
from tests.scripted_worker import TIMEOUT_S, Play, answer

SCRIPT = ROOT / "clients" / "curl" / "slm.sh"
NASTY = '"quotes" and \\backslashes\\ \\n,\ttabs,\nlines, & $(touch pwned) `x` {}[],: \x01\x1f\x7f ä€\N{GRINNING FACE}'
END = {"status": "Response complete!", "device_used": "cpu"}
PIECE = {"text": "a ", "full_text": "a", "is_complete": False}
LAST = {"text": "b", "full_text": "a b", "is_complete": True}


def environment(url: str, **variables: str) -> dict[str, str]:
    return os.environ | {"SLMCLIENT_URL": url, "SLMCLIENT_RETRIES": "2"} | variables


def slm(url: str, *arguments: str, stdin: str = "", **variables: str) -> str:
    done = run(url, *arguments, stdin=stdin, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(url: str, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPT), *arguments]
    env = environment(url, **variables)
    return subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=180, check=False)


def test_it_generates_submits_waits_and_cancels(url: str, worker: Worker) -> None:
    with worker(answer("a ", "joke")):
        assert slm(url, "generate", "Tell me a joke", "-o", "max_new_tokens=5") == "a joke\n"
        job = slm(url, "submit", "-o", "stop=END", "-o", 'stop=["x", "y"]', "Tell me a joke").strip()
        assert slm(url, "wait", job) == "a joke\n"
        assert slm(url, "follow", job) == "a joke\n"
        assert slm(url, "cancel", job) == "succeeded\n"
        assert json.loads(slm(url, "info"))["model_loaded"]


def test_an_answer_that_takes_longer_than_the_server_waits_is_fetched_later(url: str, worker: Worker) -> None:
    with worker(answer("late")):
        assert slm(url, "generate", "Hi", "-o", "async=true") == "late\n"


def test_any_text_is_sent_and_returned_unchanged(url: str, worker: Worker) -> None:
    prompts = []

    def echo(play: Play) -> None:
        prompts.append(play.prompt)
        play.end(play.prompt)

    with worker(echo):
        assert slm(url, "generate", NASTY) == NASTY + "\n"
        assert slm(url, "stream", "-", stdin=NASTY) == NASTY + "\n"
    assert prompts == [NASTY, NASTY]


def test_it_streams_the_pieces_with_their_line_ends(url: str, worker: Worker) -> None:
    with worker(answer("one\n", "\n", 'two "2" \\', " three")):
        assert slm(url, "stream", "Count", "-o", "seed=1") == 'one\n\ntwo "2" \\ three\n'


def test_a_stream_continues_when_the_api_dies_and_comes_back(dying_api: MortalApi, worker: Worker) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("one\n", "two\n")
        assert go_on.wait(TIMEOUT_S)
        play.say("three\n")
        play.end("four")

    ask = ["bash", str(SCRIPT), "stream", "Count"]
    env = environment(dying_api.url, SLMCLIENT_RETRIES="9")
    with worker(script), subprocess.Popen(ask, env=env, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        begin = [asking.stdout.readline(), asking.stdout.readline()]
        dying_api.restart()
        go_on.set()
        assert [*begin, *asking.stdout] == ["one\n", "two\n", "three\n", "four\n"]
    assert asking.returncode == 0


def test_a_broken_stream_resumes_after_the_last_complete_event() -> None:
    torn = events((0, {"status": "x"}), (1, PIECE), tail=b'id: 2\ndata: {"text": "b', breaks_off=True)
    full = refused(503, "redis_unavailable", Retry_After="0")
    with scripted_server(full, torn, full, events((1, PIECE), (2, LAST), (3, END))) as server:
        assert slm(server.url, "stream", "Hi", SLMCLIENT_API_KEY="secret") == "a b\n"
        assert [one.headers.get("Last-Event-ID") for one in server.asked] == [None, None, "1", "1"]
        assert len({one.headers["Idempotency-Key"] for one in server.asked[:2]}) == 1
        assert {one.headers["Authorization"] for one in server.asked} == {"Bearer secret"}


def test_a_full_server_is_retried_and_finally_given_up() -> None:
    full = refused(429, "rate_limit_exceeded", Retry_After="1")
    accepted = Reply(202, b'{"success": true, "job_id": "j", "status": "queued"}')
    with scripted_server(full, accepted) as server:
        assert slm(server.url, "submit", "Hi") == "j\n"
        assert len({one.headers["Idempotency-Key"] for one in server.asked}) == 1
    for command in ("submit", "stream"):
        with scripted_server(full, full) as server:
            given_up = run(server.url, command, "Hi", SLMCLIENT_RETRIES="1")
            assert (given_up.returncode, len(server.asked)) == (1, 2)
            assert "It is rate_limit_exceeded." in given_up.stderr


def test_refusals_and_failures_are_reported_in_the_servers_words(url: str, worker: Worker) -> None:
    def fail(play: Play) -> None:
        play.say("half ")
        play.fail(JobTimeout("It took too long."))

    for command in ("generate", "stream"):
        refusal = run(url, command, "Hi", "-o", "temperature=hot")
        assert (refusal.returncode, refusal.stdout) == (1, "")
        assert "temperature must be a number" in refusal.stderr
    with worker(fail):
        streamed = run(url, "stream", "Hi")
        waited = run(url, "wait", slm(url, "submit", "Hi").strip())
    assert (streamed.returncode, streamed.stdout) == (1, "half ")
    assert waited.returncode == 1
    assert streamed.stderr == waited.stderr == "slm.sh: It took too long.\n"


def test_an_id_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    """Bash executes commands in an array's index."""
    trap = tmp_path / "pwned"
    body = f'id: LAST_ID[$(touch {trap})]\ndata: {{"text": "a"}}\n\n'.encode()
    with scripted_server(Reply(200, body, {"Content-Type": "text/event-stream", "X-Job-Id": "j"})) as server:
        assert run(server.url, "stream", "Hi").returncode == 1
    assert not trap.exists()


@pytest.mark.parametrize("arguments", [(), ("generate",), ("dance", "x"), ("generate", "Hi", "-o"), ("wait", "a", "b")])
def test_a_wrong_command_exits_with_2(arguments: tuple[str, ...], unused_url: str) -> None:
    assert run(unused_url, *arguments).returncode == 2
