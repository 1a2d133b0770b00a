"""The Node clients, run by node: axios, and fetch for streams."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from common.errors import JobTimeout
from common.settings import ROOT
from tests import node_packages
from tests.clients.conftest import Worker
from tests.clients.mortal_api import MortalApi
from tests.clients.scripted_server import Reply, events, refused, scripted_server
from tests.scripted_worker import TIMEOUT_S, Play, answer

CLIENT = ROOT / "clients" / "node"
AXIOS = ROOT / "tests" / "node"
EAGER = "{attempts: 3, firstMs: 10, mostMs: 20}"
STATUS = {"status": "Generating response..."}
END = {"status": "Response complete!", "device_used": "cpu"}


@pytest.fixture(scope="module", autouse=True)
def _node_and_axios() -> None:
    """The clients find the axios that the tests have installed."""
    node_packages.install(AXIOS)


def environment(url: str, **variables: str) -> dict[str, str]:
    return os.environ | {"NODE_PATH": str(AXIOS / "node_modules"), "SLMCLIENT_URL": url} | variables


def node(url: str, body: str) -> list[Any]:
    """Return the values that the body passed to `out`."""
    program = f"""
        const {{SLM, stream, text}} = require({json.dumps(str(CLIENT))});
        const url = process.env.SLMCLIENT_URL;
        const slm = new SLM(url, {{retry: {EAGER}}});
        const out = (value) => console.log(JSON.stringify(value));
        (async () => {{ {body} }})().catch(({{message, code}}) => out({{message, code}}));
    """
    done = subprocess.run(
        ["node", "-e", program], env=environment(url), capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.split("\n")[:-1]]


def test_its_own_tests_pass() -> None:
    folder = Path(__file__).parent / "node"
    files = sorted(folder.glob("*.test.js"))
    assert files
    done = subprocess.run(["node", "--test", *files], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout


def test_its_axios_is_the_one_that_is_tested() -> None:
    wanted, tested = (json.loads((folder / "package.json").read_text()) for folder in (CLIENT, AXIOS))
    assert wanted["dependencies"] == tested["dependencies"]


def test_it_generates_submits_waits_and_cancels(url: str, worker: Worker) -> None:
    body = """
        await slm.load();
        out((await slm.info()).model_loaded);
        out((await slm.generate('Hi', {max_new_tokens: 9})).settings.max_new_tokens);
        out((await slm.generate('Hi', {async: true})).response);
        const job = await slm.submit('Hi');
        out((await slm.wait(job)).response);
        out((await slm.poll(job)).status);
        out(await slm.cancel(job));
        await slm.generate('Hi', {temperature: -1});
    """
    with worker(answer("a ", "joke")):
        *found, refusal = node(url, body)
    assert found == [True, 9, "a joke", "a joke", "succeeded", "succeeded"]
    assert refusal["code"] == "invalid_request"
    assert "temperature must be" in refusal["message"]


def test_it_streams_the_events_in_order(url: str, worker: Worker) -> None:
    with worker(answer("Once ", "\u2028\N{GRINNING FACE} ", "upon.")):
        frames = node(url, "for await (const frame of stream(url, {prompt: 'Hi'})) out(frame);")
    assert [frame.get("text") for frame in frames] == [None, "Once ", "\u2028\N{GRINNING FACE} ", "upon.", None]
    assert frames[-1]["status"] == "Response complete!"


def test_leaving_a_stream_early_lets_the_program_end(url: str, worker: Worker) -> None:
    body = """
        let job;
        for await (const piece of text(url, {prompt: 'Hi'}, {onJob: (id) => { job = id; }})) {
          out(piece);
          break;
        }
        await slm.cancel(job);
    """

    def script(play: Play) -> None:
        play.say("first ")
        play.run_until_cancelled()

    with worker(script):
        assert node(url, body) == ["first "]


def test_a_failed_job_is_reported_in_the_servers_words(url: str, worker: Worker) -> None:
    def fail(play: Play) -> None:
        play.say("half ")
        play.fail(JobTimeout("It took too long."))

    error = {"message": "It took too long.", "code": "job_timeout"}
    body = """
        const streaming = (async () => { for await (const piece of text(url, {prompt: 'Hi'})) out(piece); })();
        await streaming.catch(({message, code}) => out({message, code}));
        await slm.generate('Hi', {async: true});
    """
    with worker(fail):
        assert node(url, body) == ["half ", error, error]


def test_a_stream_continues_when_the_api_dies_and_comes_back(dying_api: MortalApi, worker: Worker) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("one\n", "two\n")
        assert go_on.wait(TIMEOUT_S)
        play.say("three\n")
        play.end("four")

    ask = ["node", str(CLIENT / "ask.js"), "Count"]
    with (
        worker(script),
        subprocess.Popen(ask, env=environment(dying_api.url), stdout=subprocess.PIPE, text=True) as asking,
    ):
        assert asking.stdout is not None
        begin = [asking.stdout.readline(), asking.stdout.readline()]
        dying_api.restart()
        go_on.set()
        assert [*begin, *asking.stdout] == ["one\n", "two\n", "three\n", "four\n"]
    assert asking.returncode == 0


def test_a_broken_stream_resumes_after_the_last_complete_event() -> None:
    first = {"text": "a ", "full_text": "a", "is_complete": False}
    last = {"text": "b", "full_text": "a b", "is_complete": True}
    line = b'data: {"status": "Queued", "position": 1, "estimated_wait_s": 2.5}\n\n'
    torn = events((0, STATUS), (1, first), tail=line + b'id: 2\ndata: {"text": "b', breaks_off=True)
    full = refused(503, "redis_unavailable", Retry_After="0")
    with scripted_server(Reply(0), torn, full, events((1, first), (2, last)), Reply(204)) as server:
        body = f"for await (const p of text(url, {{prompt: 'Hi'}}, {{apiKey: 'k', retry: {EAGER}}})) out(p);"
        assert node(server.url, body) == ["a ", "b"]
        assert [one.headers.get("Last-Event-ID", one.headers.get("last-event-id")) for one in server.asked] == [
            *[None] * 2,
            *["1"] * 2,
            "2",
        ]
        assert len({one.headers["Idempotency-Key"] for one in server.asked[:2]}) == 1
        assert {one.headers.get("authorization", one.headers.get("Authorization")) for one in server.asked} == {
            "Bearer k"
        }


def test_a_full_server_is_retried_and_finally_given_up() -> None:
    full = refused(429, "rate_limit_exceeded", Retry_After="0")
    accepted = Reply(202, b'{"success": true, "job_id": "j", "status": "queued"}')
    with scripted_server(Reply(0), full, accepted) as server:
        assert node(server.url, "out(await slm.submit('Hi'));") == ["j"]
        assert len({one.headers["Idempotency-Key"] for one in server.asked}) == 1
    with scripted_server(*[full] * 4) as server:
        assert node(server.url, "await slm.submit('Hi');")[0]["code"] == "rate_limit_exceeded"
        assert len(server.asked) == 4


def test_another_servers_answer_is_refused() -> None:
    page = Reply(200, b"<html>", {"Content-Type": "text/html"})
    with scripted_server(page, page) as server:
        body = f"for await (const frame of stream(url, {{prompt: 'Hi'}}, {{retry: {EAGER}}})) out(frame);"
        assert node(server.url, "await slm.generate('Hi');")[0]["code"] == "bad_answer"
        assert node(server.url, body)[0]["code"] == "bad_answer"
