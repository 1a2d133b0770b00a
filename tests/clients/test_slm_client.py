"""The httpx client, blocking and asynchronous: every test runs with both."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis
from slm_client import Answer, ApiError, BadAnswer, ConnectionLost, Finished, JobStatus, Queued, RetryPolicy, SLMClient
from slm_client.errors import Cancelled, InvalidRequest, JobNotFound, JobTimeout, ModelNotFound, Unavailable

from common import errors
from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from tests.clients.blocking import BlockingClient
from tests.clients.conftest import Worker
from tests.clients.mortal_api import MortalApi
from tests.clients.scripted_server import Reply, events, refused, scripted_server
from tests.scripted_worker import TIMEOUT_S, Play, answer

EAGER = RetryPolicy(attempts=3, first_s=0.01, most_s=0.02)
NEVER = RetryPolicy(attempts=0)
STATUS = {"status": "Generating response..."}
END = {"status": "Response complete!", "device_used": "cpu"}

Connect = Callable[..., Any]


@pytest.fixture(params=[SLMClient, BlockingClient], ids=["blocking", "async"])
def connect(request: pytest.FixtureRequest) -> Connect:
    return request.param


def piece(text: str, full_text: str, *, is_complete: bool = False) -> dict[str, Any]:
    return {"text": text, "full_text": full_text, "is_complete": is_complete}


def test_it_generates_with_options(connect: Connect, url: str, worker: Worker) -> None:
    with worker(answer("Par", "is.")), connect(url) as slm:
        found: Answer = slm.generate("What is the capital of France?", max_new_tokens=50, seed=7, stop=["\n"])
    assert found.response == "Paris."
    assert found.finish_reason == "stop"
    assert found.completion_tokens == 2
    assert (found.settings["max_new_tokens"], found.settings["seed"], found.settings["stop"]) == (50, 7, ["\n"])


def test_it_names_the_model(connect: Connect, url: str, worker: Worker, real_redis: Redis) -> None:
    AdapterRegistry(real_redis).register("support", VersionFacts("a1", "gpt2"))
    with worker(answer("Paris.")), connect(url) as slm:
        assert slm.generate("Hi", model="support").model == "support@1"
        assert slm.generate("Hi", adapter="gpt2").model == "gpt2"
        assert slm.generate("Hi").model == "gpt2"
        with pytest.raises(ModelNotFound, match="There are: default, gpt2, support"):
            slm.generate("Hi", model="nope")


def test_it_streams_the_events_in_order(connect: Connect, url: str, worker: Worker) -> None:
    with worker(answer("Once ", "upon.")), connect(url) as slm:
        stream = slm.stream("Hi")
        frames = list(stream)
        assert [type(frame).__name__ for frame in frames] == ["Status", "Text", "Text", "Finished"]
        assert frames[2].full_text == "Once upon."
        assert slm.job(stream.job_id).text == "Once upon."
        assert list(slm.follow(stream.job_id)) == frames
        assert list(slm.follow(stream.job_id, last_event_id="1")) == frames[2:]
        assert list(slm.follow(stream.job_id, last_event_id=stream.last_event_id)) == []


def test_it_streams_only_the_text(connect: Connect, url: str, worker: Worker) -> None:
    with worker(answer("line\n", "\u2028 ", 'and "quotes" \N{SNOWMAN}')), connect(url) as slm:
        assert list(slm.stream("Hi").text()) == ["line\n", "\u2028 ", 'and "quotes" \N{SNOWMAN}']


def test_it_submits_lists_and_waits(connect: Connect, url: str, worker: Worker) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        assert go_on.wait(TIMEOUT_S)
        play.end("done")

    with worker(script), connect(url) as slm:
        job = slm.submit("Hi")
        assert not job.is_over
        assert [one.id for one in slm.jobs()] == [job.id]
        assert [one.id for one in slm.jobs(text=job.id)] == [job.id]
        assert slm.jobs(text="nothing & nobody") == []
        with pytest.raises(TimeoutError, match=job.id):
            slm.wait(job.id, timeout_s=0.15)
        go_on.set()
        assert slm.wait(job.id).response == "done"
        assert slm.job(job.id).status is JobStatus.SUCCEEDED


def test_a_queued_job_reports_its_position_and_can_be_cancelled(connect: Connect, url: str, worker: Worker) -> None:
    with worker(answer("never")) as idle, connect(url) as slm:
        idle.stop_looking()
        while (first := slm.submit("Hi")).position < 1:
            """It is dispatched already."""
        stream = slm.stream("Hi")
        frames = iter(stream)
        place = next(frames)
        assert isinstance(place, Queued)
        assert place.position >= 1
        assert slm.cancel(stream.job_id) is JobStatus.CANCELLED
        assert list(frames)[-1] == Finished(was_cancelled=True, device=None)
        slm.cancel(first.id)
        with pytest.raises(Cancelled):
            slm.wait(first.id)


def test_one_key_makes_one_job(connect: Connect, url: str, worker: Worker) -> None:
    with worker(answer("once")), connect(url) as slm:
        jobs = {slm.submit("Hi", idempotency_key="k").id for _ in range(3)}
        assert len(jobs) == 1
        with pytest.raises(InvalidRequest) as refusal:
            slm.submit("Something else", idempotency_key="k")
    assert refusal.value.code == "idempotency_mismatch"


def test_the_model_is_loaded_and_unloaded(connect: Connect, url: str, worker: Worker) -> None:
    with worker(answer("x")), connect(url) as slm:
        slm.unload()
        assert not slm.info()["model_loaded"]
        slm.load()
        assert slm.info()["model_loaded"]


def test_a_refusal_names_the_field(connect: Connect, url: str) -> None:
    with connect(url) as slm:
        with pytest.raises(InvalidRequest, match="max_new_tokens must be") as refusal:
            slm.generate("Hi", max_new_tokens=0)
        with pytest.raises(JobNotFound):
            slm.job("00000000-0000-0000-0000-000000000000")
    assert (refusal.value.param, refusal.value.status) == ("max_new_tokens", 400)
    assert refusal.value.request_id


def test_a_job_that_fails_in_mid_stream_is_not_retried(connect: Connect, url: str, worker: Worker) -> None:
    def fail(play: Play) -> None:
        play.say("half ")
        play.fail(errors.JobTimeout("It took too long."))

    with worker(fail), connect(url) as slm:
        stream = slm.stream("Hi")
        pieces = stream.text()
        assert next(pieces) == "half "
        with pytest.raises(JobTimeout, match=r"It took too long\."):
            next(pieces)
        with pytest.raises(JobTimeout):
            slm.wait(stream.job_id)
        assert len(slm.jobs()) == 1


def test_a_stream_continues_when_the_api_dies_and_comes_back(
    connect: Connect, dying_api: MortalApi, worker: Worker
) -> None:
    """It is killed in mid-stream: after the restart, only new events arrive."""
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.status("Generating response...")
        play.say("one ", "two ")
        assert go_on.wait(TIMEOUT_S)
        play.say("three ")
        play.end("four")

    pieces = []
    with worker(script), connect(dying_api.url) as slm:
        for text in slm.stream("Count").text():
            pieces.append(text)
            if text == "two ":
                dying_api.restart()
                go_on.set()
    assert pieces == ["one ", "two ", "three ", "four"]


def test_a_generation_is_not_made_twice_when_the_api_dies(dying_api: MortalApi, worker: Worker) -> None:
    """The first request gets no answer; the second one, with the same key, finds the job."""
    begun, go_on = threading.Event(), threading.Event()
    plays = []

    def script(play: Play) -> None:
        plays.append(play.prompt)
        begun.set()
        assert go_on.wait(TIMEOUT_S)
        play.end("once")

    with worker(script), SLMClient(dying_api.url) as slm:
        restarting = dying_api.restart_when(begun)
        threading.Timer(0.5, go_on.set).start()
        assert slm.generate("Hi").response == "once"
        restarting.join()
    assert plays == ["Hi"]


def test_a_broken_stream_resumes_after_the_last_complete_event(connect: Connect) -> None:
    """The connection breaks in the middle of an event; the second one repeats a seen event."""
    torn = events((0, STATUS), (1, piece("a ", "a")), tail=b'id: 2\ndata: {"text": "b', breaks_off=True)
    rest = events((1, piece("a ", "a")), (2, piece("b", "a b", is_complete=True)), (3, END))
    with scripted_server(torn, refused(503, "redis_unavailable", Retry_After="0"), rest) as server:
        with connect(server.url, retry=EAGER) as slm:
            assert list(slm.stream("Hi").text()) == ["a ", "b"]
        assert [(one.method, one.path) for one in server.asked] == [
            ("POST", "/slm/stream"),
            ("GET", "/slm/jobs/job-1/stream"),
            ("GET", "/slm/jobs/job-1/stream"),
        ]
        assert [one.headers.get("Last-Event-ID") for one in server.asked] == [None, "1", "1"]


def test_a_stream_that_ends_without_a_final_frame_is_opened_again(connect: Connect) -> None:
    """A server that stops normally closes its connections properly."""
    with (
        scripted_server(events((0, piece("a", "a"))), Reply(204)) as server,
        connect(server.url, retry=EAGER) as slm,
    ):
        assert list(slm.stream("Hi").text()) == ["a"]


def test_queue_positions_and_heartbeats_do_not_count_as_seen_events(connect: Connect) -> None:
    line = b'data: {"status": "Queued", "position": 1, "estimated_wait_s": 2.5}\n\n: heartbeat\n\n'
    first = events((0, {"status": "Queued", "position": 2}), tail=line + line)
    rest = events((1, piece("a", "a", is_complete=True)), (2, END))
    with scripted_server(first, rest) as server:
        with connect(server.url, retry=EAGER) as slm:
            frames = list(slm.stream("Hi"))
        assert frames[:3] == [Queued(2, None), Queued(1, 2.5), Queued(1, 2.5)]
        assert server.asked[1].headers["Last-Event-ID"] == "0"


def test_a_post_without_an_answer_is_repeated_under_its_key(connect: Connect) -> None:
    with scripted_server(Reply(0), events((0, piece("a", "a", is_complete=True)), (1, END))) as server:
        with connect(server.url, retry=EAGER) as slm:
            assert list(slm.stream("Hi").text()) == ["a"]
        keys = {one.headers["Idempotency-Key"] for one in server.asked}
        assert [one.path for one in server.asked] == ["/slm/stream"] * 2
        assert len(keys) == 1


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limited"), (503, "queue_full"), (503, "no_worker")])
def test_a_full_server_is_retried(connect: Connect, status: int, code: str) -> None:
    accepted = Reply(202, b'{"success": true, "job_id": "j", "status": "queued", "position": 4}')
    with scripted_server(*[refused(status, code, Retry_After="0")] * 2, accepted) as server:
        with connect(server.url, retry=EAGER) as slm:
            assert slm.submit("Hi").position == 4
        assert len({one.headers["Idempotency-Key"] for one in server.asked}) == 1


def test_a_server_that_stays_full_is_given_up(connect: Connect) -> None:
    with scripted_server(*[refused(503, "queue_full", Retry_After="0")] * 4) as server:
        with connect(server.url, retry=EAGER) as slm, pytest.raises(Unavailable, match="queue_full"):
            slm.generate("Hi")
        assert len(server.asked) == 1 + EAGER.attempts


def test_permanent_failures_are_not_retried(connect: Connect) -> None:
    with scripted_server(refused(503, "model_unavailable")) as server:
        with connect(server.url, retry=EAGER) as slm, pytest.raises(ApiError) as refusal:
            slm.generate("Hi")
        assert refusal.value.code == "model_unavailable"
        assert len(server.asked) == 1


def test_a_missing_server_is_given_up(connect: Connect, unused_url: str) -> None:
    with connect(unused_url, retry=EAGER) as slm, pytest.raises(ConnectionLost):
        list(slm.stream("Hi"))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"])
def test_an_answer_of_another_server_is_refused(connect: Connect, body: bytes) -> None:
    with scripted_server(Reply(200, body), Reply(200, body)) as server, connect(server.url, retry=EAGER) as slm:
        with pytest.raises(BadAnswer):
            slm.generate("Hi")
        with pytest.raises(BadAnswer):
            list(slm.stream("Hi"))


def test_the_api_key_is_sent_with_every_request(connect: Connect) -> None:
    with scripted_server(events((0, STATUS)), Reply(204), Reply()) as server:
        with connect(server.url, retry=EAGER, api_key="secret") as slm:
            list(slm.stream("Hi"))
            slm.info()
        assert [one.headers["Authorization"] for one in server.asked] == ["Bearer secret"] * 3
