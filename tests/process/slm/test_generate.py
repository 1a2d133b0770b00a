"""`slm generate` against an API process."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import requests
from redis import Redis
from slm_client import ConnectionLost, RetryPolicy, SLMClient

from common.errors import InternalError
from common.owners.api_keys import ApiKeyStore, Role
from common.settings import ROOT
from slm.answering import Answered
from slm.answering import answer as show_answer
from slm.output import Output
from slm.session import Session
from tests.clients.conftest import Worker
from tests.clients.mortal_api import MortalApi
from tests.clients.scripted_server import Reply, events, refused, scripted_server
from tests.process.slm.conftest import Command, CommandAt, count_through_a_restart
from tests.process.slm.terminal import CTRL_C, terminal
from tests.processes import wait_for
from tests.scripted_worker import Play, answer

HEALTHY = Reply(200, b'{"status": "ok"}')
STATUS = {"status": "Generating response..."}
END = {"status": "Response complete!", "device_used": "cpu"}


def test_the_answer_is_all_that_a_pipe_gets(slm: CommandAt, worker: Worker) -> None:
    with worker(answer("Par", "is.")):
        done = slm("generate", "What is the capital of France?")
    assert (done.out, done.err) == ("Paris.\n", "")


def test_a_program_gets_each_event_and_the_result(slm: CommandAt, worker: Worker) -> None:
    with worker(answer("Par", "is.")):
        done = slm("generate", "Hi", "--json", "-n", "7", "--seed", "3", "-o", 'stop=["x"]')
    kinds = [one["type"] for one in done.events]
    assert kinds == ["status", "text", "text", "finished", "result"]
    result = done.events[-1]
    assert result["response"] == "Paris."
    assert (result["settings"]["max_new_tokens"], result["settings"]["seed"]) == (7, 3)
    assert result["settings"]["stop"] == ["x"]


def test_the_prompt_can_come_from_the_standard_input(
    slm: CommandAt, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    with worker(lambda play: play.end(play.prompt.upper())):
        assert slm("generate", "-").out == "ONE\nTWO\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert slm("generate", "-", status=2).err == "slm: the prompt is empty\n"


def test_a_wrong_field_is_explained_by_the_server(slm: CommandAt) -> None:
    done = slm("generate", "Hi", "-o", "top_k=many", status=1)
    assert done.out == ""
    assert done.err.startswith("slm: top_k must be ")


def test_a_failed_job_is_an_error_after_what_it_had_said(slm: CommandAt, worker: Worker) -> None:
    def script(play: Play) -> None:
        play.say("so far")
        play.fail(InternalError("It broke."))

    with worker(script):
        done = slm("generate", "Hi", status=1)
    assert (done.out, done.err) == ("so far\n", "slm: It broke.\n")


def test_an_answer_that_somebody_cancels_is_not_complete(slm: CommandAt, worker: Worker, url: str) -> None:
    def script(play: Play) -> None:
        play.say("so far")
        threading.Timer(0.1, lambda: play._store.cancel(play.job.id)).start()
        play.run_until_cancelled()

    with worker(script):
        done = slm("generate", "Hi", status=1)
    assert done.out == "so far\n"
    assert "was cancelled" in done.err


def test_a_stream_continues_when_the_api_dies_and_comes_back(
    command: Command, dying_api: MortalApi, worker: Worker
) -> None:
    with worker(count_through_a_restart(dying_api)):
        assert command.at(dying_api.url)("generate", "Count").out == "one two three\n"


def test_a_torn_stream_resumes_after_the_last_event(command: Command) -> None:
    def piece(text: str) -> dict[str, object]:
        return {"text": text, "full_text": text, "is_complete": False}

    torn = events((0, STATUS), (1, piece("a ")), breaks_off=True)
    rest = events((1, piece("a ")), (2, piece("b")), (3, END))
    with scripted_server(HEALTHY, torn, rest) as server:
        assert command.at(server.url)("generate", "Hi").out == "a b\n"
    assert [one.headers.get("Last-Event-ID") for one in server.asked] == [None, None, "1"]


def test_a_server_that_does_not_come_back_is_an_error_with_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    torn = events((0, STATUS), (1, {"text": "a ", "full_text": "a", "is_complete": False}), breaks_off=True)
    with (
        scripted_server(torn) as server,
        Session(server.url, None, RetryPolicy(attempts=0)) as session,
        pytest.raises(ConnectionLost, match=r"did not come back .* 'slm jobs show job-1'"),
    ):
        show_answer(session, Output(as_json=False), session.stream("Hi"), Answered())
    assert capsys.readouterr().out == "a \n"


def test_without_a_server_it_says_how_to_start_one(command: Command, unused_url: str) -> None:
    done = command.at(unused_url)("generate", "Hi", status=1)
    assert f"no server answers at {unused_url}" in done.err
    assert "slm serve" in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("reply", [Reply(404, b"nothing"), Reply(200, b"<html>"), Reply(200, b'{"status": "up"}')])
def test_another_program_at_the_address_is_named(command: Command, reply: Reply) -> None:
    with scripted_server(reply) as server:
        done = command.at(server.url)("generate", "Hi", status=1)
    assert server.url in done.err
    assert len(server.asked) == 1


def test_a_proxy_without_its_server_is_an_error(command: Command) -> None:
    with scripted_server(Reply(502, b"")) as server:
        assert "502" in command.at(server.url)("generate", "Hi", status=1).err


def test_a_long_wait_is_left_to_the_user(command: Command) -> None:
    with scripted_server(HEALTHY, refused(429, "rate_limit_exceeded", Retry_After="50")) as server:
        assert "Try again in 50 s." in command.at(server.url)("generate", "Hi", status=1).err


@pytest.mark.parametrize(
    "options",
    [
        ["--url", "127.0.0.1:5000"],
        ["--url", "http://"],
        ["--url", "http://[::1"],
        ["--api-key", "a b"],
        ["--api-key", "ä"],
        ["-o", "x"],
    ],
)
def test_a_wrong_option_is_a_wrong_command(command: Command, options: list[str]) -> None:
    assert command("generate", "Hi", *options, status=2).out == ""


@pytest.fixture
def secret(url: str, real_redis: Redis) -> Iterator[str]:
    """The only key of the API, which notices it, and its end, within seconds."""

    def needs_key() -> bool:
        return requests.get(f"{url}/slm/info", timeout=30).status_code == 401

    created = ApiKeyStore(real_redis).create("bob", Role.USER)
    wait_for("the API to ask for keys", needs_key)
    yield created
    ApiKeyStore(real_redis).revoke("bob")
    wait_for("the API to ask for none", lambda: not needs_key())


def test_keys_are_passed_and_asked_for(
    slm: CommandAt, worker: Worker, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(answer("Hello.")):
        assert "SLMCLIENT_API_KEY" in slm("generate", "Hi", status=1).err
        assert "--api-key" in slm("generate", "Hi", "--api-key", "wrong", status=1).err
        assert slm("generate", "Hi", "--api-key", secret).out == "Hello.\n"
        monkeypatch.setenv("SLMCLIENT_API_KEY", f"{secret}\n")
        assert slm("generate", "Hi").out == "Hello.\n"


def forever(play: Play) -> None:
    play.say("so far\n")
    play.run_until_cancelled()


def statuses(url: str) -> list[str]:
    with SLMClient(url) as client:
        return [str(job.status) for job in client.jobs()]


def test_ctrl_c_cancels_the_job(url: str, worker: Worker) -> None:
    with worker(forever), terminal("generate", "Hi", "--url", url) as screen:
        screen.wait_for("so far")
        screen.type(CTRL_C)
        assert screen.end() == 130
        assert "Traceback" not in screen.text
        wait_for("the job to be cancelled", lambda: statuses(url) == ["cancelled"])


def test_a_reader_that_goes_away_cancels_the_job(url: str, worker: Worker) -> None:
    def script(play: Play) -> None:
        while not play.is_cancelled:
            play.say("again\n")
            time.sleep(0.02)
        play.end_cancelled()

    line = f"{sys.executable} -m slm generate Hi --url {url} | head -n 2"
    with worker(script):
        done = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
        wait_for("the job to be cancelled", lambda: statuses(url) == ["cancelled"])
    assert (done.stdout, done.stderr) == ("again\nagain\n", "")
