"""POST /slm/stream, and GET /slm/jobs/<id>/stream."""

from __future__ import annotations

import threading
import time

import pytest

from common.errors import ModelUnavailable, PromptTooLong
from common.redis import keys
from tests.api_in_process import MODEL, Api
from tests.scripted_worker import Play
from tests.unit.api.conftest import StartApi, data_of, frames, wait_until

NUM_TOKENS = 5000


def tokens(num: int) -> list[str]:
    return [f"t{i} " for i in range(num)]


def test_the_frames_are_the_documented_ones_in_their_order(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.status("Loading SLM model...")
        play.status("Model loaded on cuda")
        play.status("Generating response...")
        play.say("Once ")
        play.end("upon ")

    answer = start_api(script).stream()
    assert answer.status_code == 200
    assert answer.get_data(as_text=True) == (
        'id: 0\ndata: {"status": "Loading SLM model..."}\n\n'
        'id: 1\ndata: {"status": "Model loaded on cuda"}\n\n'
        'id: 2\ndata: {"status": "Generating response..."}\n\n'
        'id: 3\ndata: {"text": "Once ", "full_text": "Once", "is_complete": false}\n\n'
        'id: 4\ndata: {"text": "upon ", "full_text": "Once upon", "is_complete": true}\n\n'
        'id: 5\ndata: {"status": "Response complete!", "device_used": "cuda"}\n\n'
    )


def test_the_headers_keep_proxies_from_buffering(api: Api) -> None:
    answer = api.stream()
    assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-cache, no-transform"
    assert answer.headers["X-Accel-Buffering"] == "no"
    assert answer.headers["Location"] == f"/slm/jobs/{answer.headers['X-Job-Id']}"
    assert "Content-Length" not in answer.headers


def test_text_is_ascii_on_the_wire_and_unchanged_when_parsed(start_api: StartApi) -> None:
    text = 'é\u2028\n\r\x0c\x85"😀'
    answer = start_api(lambda play: play.end(text)).stream().get_data()
    assert answer.isascii()
    assert data_of(answer.decode())[0]["text"] == text


def test_a_token_without_text_gives_no_frame_but_keeps_its_number(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.say("a", "", "", "b")
        play.end("")

    found = frames(start_api(script).stream().get_data(as_text=True))
    assert [(seq, data["text"]) for seq, data in found[:-1]] == [(0, "a"), (3, "b"), (4, "")]
    assert found[-2][1] == {"text": "", "full_text": "ab", "is_complete": True}


def test_frames_that_are_there_at_the_same_time_are_sent_together(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.say("Once ", "upon ", "a ")
        play.end("time")

    api = start_api(script)
    whole = api.stream().get_data()
    (job,) = api.client.get("/slm/jobs").json["jobs"]
    answer = api.client.get(f"/slm/jobs/{job['job_id']}/stream")
    assert list(answer.response) == [b": heartbeat\n\n", whole]  # type: ignore[call-overload]


def test_a_job_that_fails_at_once_is_a_plain_error_and_no_stream(start_api: StartApi) -> None:
    api = start_api(lambda play: play.fail(PromptTooLong("Too long by 9 tokens.", param="prompt")))
    answer = api.stream()
    assert (answer.status_code, answer.json["code"], answer.json["param"]) == (400, "prompt_too_long", "prompt")
    assert answer.content_type == "application/json"
    assert answer.headers["X-Job-Id"]


def test_a_job_that_fails_later_ends_its_stream_with_an_error_frame(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.status("Loading SLM model...")
        play.fail(ModelUnavailable('No "weights".'))

    answer = start_api(script).client.post("/slm/stream", json={"prompt": "Hi"}, headers={"X-Request-Id": "my-request"})
    assert answer.status_code == 200
    assert data_of(answer.get_data(as_text=True))[-1] == {
        "error": 'No "weights".',
        "code": "model_unavailable",
        "request_id": "my-request",
    }


def test_a_waiting_client_gets_its_position(start_api: StartApi) -> None:
    api = start_api(Play.run_until_cancelled)
    busy = [api.submit() for _ in range(3)]  # two run, and one wake-up message is ahead
    waiting = api.stream()
    first = next(iter(waiting.response))
    assert first == b'id: 0\ndata: {"status": "Queued", "position": 1}\n\n'
    for job_id in [waiting.headers["X-Job-Id"], *busy]:
        api.client.delete(f"/slm/jobs/{job_id}")
    waiting.close()


def test_a_cancelled_stream_reports_it_and_ends(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        play.say("so far")
        play.run_until_cancelled()

    api = start_api(script)
    answer = api.stream()
    api.client.delete(answer.headers["Location"])
    assert data_of(answer.get_data(as_text=True)) == [
        {"text": "so far", "full_text": "so far", "is_complete": False},
        {"text": "", "full_text": "so far", "is_complete": True},
        {"status": "Cancelled", "device_used": "cuda"},
    ]


def test_silence_is_broken_by_comments(start_api: StartApi) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.status("Generating response...")
        assert go_on.wait(60)
        play.end("x")

    stream = iter(start_api(script, heartbeat_s=0.01).stream().response)
    assert next(stream).startswith(b"id: 0\n")
    assert [next(stream) for _ in range(3)] == [b": heartbeat\n\n"] * 3
    go_on.set()
    rest = b"".join(stream).decode()
    assert data_of(rest)[-1] == {"status": "Response complete!", "device_used": "cuda"}


def test_a_job_without_events_delays_its_stream_only_briefly(
    start_api: StartApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.jobs.sse.FIRST_EVENT_WAIT_S", 0.01)
    api = start_api(Play.run_until_cancelled)
    answer = api.stream()
    stream = iter(answer.response)
    assert next(stream) == b": heartbeat\n\n"
    api.client.delete(answer.headers["Location"])
    assert b"Cancelled" in b"".join(stream)


def test_a_slow_reader_gets_thousands_of_tokens_once_each(start_api: StartApi) -> None:
    def script(play: Play) -> None:
        for start in range(0, NUM_TOKENS, 50):
            play.say(*tokens(NUM_TOKENS)[start : start + 50])
        play.end("end")

    read = []
    for number, chunk in enumerate(start_api(script).stream().response):
        if number < 500 and number % 25 == 0:
            time.sleep(0.02)  # the writer gets far ahead of the mailbox
        read.append(chunk.decode())
    found = data_of("".join(read))
    assert [data["text"] for data in found[:-1]] == [*tokens(NUM_TOKENS), "end"]
    assert found[-2]["full_text"] == "".join(tokens(NUM_TOKENS)) + "end"


def test_a_client_that_leaves_ends_its_subscription_but_not_the_job(start_api: StartApi) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("a ")
        assert go_on.wait(60)
        play.end("b")

    api = start_api(script)
    answer = api.stream()
    next(iter(answer.response))
    job_id = answer.headers["X-Job-Id"]
    assert keys.channel(job_id) in api.redis.pubsub_channels()
    answer.close()
    wait_until_unsubscribed(api, job_id)
    go_on.set()
    assert api.finish(job_id)["text"] == "a b"


def test_a_stream_that_is_never_read_is_unsubscribed_too(api: Api) -> None:
    answer = api.stream()
    answer.close()
    wait_until_unsubscribed(api, answer.headers["X-Job-Id"])


def test_a_head_request_leaves_no_subscription(api: Api) -> None:
    job_id = api.submit()
    with api.client.head(f"/slm/jobs/{job_id}/stream") as answer:
        assert answer.status_code == 200
    wait_until_unsubscribed(api, job_id)


def wait_until_unsubscribed(api: Api, job_id: str) -> None:
    wait_until(lambda: keys.channel(job_id) not in api.redis.pubsub_channels())


# -- attaching by the job's id -----------------------------------------------------------------------------------------


def test_a_finished_job_can_be_streamed_again_frame_by_frame(api: Api) -> None:
    first = api.stream()
    text = first.get_data(as_text=True)
    again = api.client.get(f"/slm/jobs/{first.headers['X-Job-Id']}/stream").get_data(as_text=True)
    assert again == ": heartbeat\n\n" + text


def test_several_clients_can_read_one_running_job(start_api: StartApi) -> None:
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("a ")
        assert go_on.wait(60)
        play.end("b")

    api = start_api(script)
    first = api.stream()
    others = [api.client.get(f"{first.headers['Location']}/stream") for _ in range(2)]
    go_on.set()
    texts = [data_of(one.get_data(as_text=True)) for one in (first, *others)]
    assert texts[0] == texts[1] == texts[2]
    assert texts[0][-2]["full_text"] == "a b"


@pytest.mark.parametrize("seen", range(5))
def test_a_client_that_resumes_gets_only_new_events_and_the_right_full_text(api: Api, seen: int) -> None:
    first = api.stream()
    everything = frames(first.get_data(as_text=True))
    url = f"{first.headers['Location']}/stream"
    by_header = api.client.get(url, headers={"Last-Event-ID": str(seen)}).get_data(as_text=True)
    by_query = api.client.get(f"{url}?last_event_id={seen}").get_data(as_text=True)
    assert by_header == by_query
    expected = [frame for frame in everything if frame[0] > seen]
    assert (frames(by_header) if expected else []) == expected


def test_the_header_of_a_reconnecting_browser_beats_the_query_it_began_with(api: Api) -> None:
    first = api.stream()
    first.get_data()
    url = f"{first.headers['Location']}/stream?last_event_id=0"
    assert frames(api.client.get(url, headers={"Last-Event-ID": "2"}).get_data(as_text=True))[0][0] == 3


def test_a_client_that_has_seen_everything_gets_204(api: Api) -> None:
    first = api.stream()
    last = frames(first.get_data(as_text=True))[-1][0]
    answer = api.client.get(f"{first.headers['Location']}/stream", headers={"Last-Event-ID": str(last)})
    assert (answer.status_code, answer.data) == (204, b"")


@pytest.mark.parametrize("given", ["", "x", "-1", "1.5", " 1", "+1", "1e3", "5", "99", "9" * 30, "٣", "null"])
def test_a_last_event_id_that_is_not_the_streams_is_refused(api: Api, given: str) -> None:
    job_id = api.submit()
    api.finish(job_id)  # events 0 to 4
    answer = api.client.get(f"/slm/jobs/{job_id}/stream", query_string={"last_event_id": given})
    assert (answer.status_code, answer.json["param"]) == (400, "last_event_id")
    assert "Last-Event-ID" in answer.json["error"]


def test_a_malformed_header_is_refused_as_well(api: Api) -> None:
    job_id = api.submit()
    answer = api.client.get(f"/slm/jobs/{job_id}/stream", headers={"Last-Event-ID": "abc"})
    assert answer.status_code == 400


def test_a_client_ahead_of_the_log_waits_and_gets_the_right_full_text(start_api: StartApi) -> None:
    is_attached = threading.Event()

    def script(play: Play) -> None:
        play.say("one ")  # event 0
        assert is_attached.wait(60)
        play.say("two ", "three ")
        play.end("four")  # event 3

    api = start_api(script)
    job_id = api.submit()
    while not api.job(job_id)["text"]:
        time.sleep(0.01)
    stream = api.client.get(f"/slm/jobs/{job_id}/stream", headers={"Last-Event-ID": "2"})
    assert stream.status_code == 200
    is_attached.set()
    assert frames(stream.get_data(as_text=True)) == [
        (3, {"text": "four", "full_text": "one two three four", "is_complete": True}),
        (4, {"status": "Response complete!", "device_used": "cuda"}),
    ]


def test_a_client_ahead_of_a_recomputed_answer_gets_its_end(api: Api) -> None:
    job_id = api.submit()
    api.finish(job_id)  # events 0 to 4
    api.redis.hset(keys.job(job_id), "attempt", 2)
    answer = api.client.get(f"/slm/jobs/{job_id}/stream", headers={"Last-Event-ID": "9"})
    assert frames(answer.get_data(as_text=True)) == [(10, {"status": "Response complete!", "device_used": "cuda"})]


@pytest.mark.parametrize("path", ["/slm/stream", "/v1/chat/completions", "/v1/responses"])
def test_a_stream_whose_job_is_lost_ends_with_an_error_frame(start_api: StartApi, path: str) -> None:
    is_lost = threading.Event()

    def script(play: Play) -> None:
        play.say("so far")
        assert is_lost.wait(60)

    api = start_api(script, heartbeat_s=0.05)
    body = {
        "/slm/stream": {"prompt": "Hi"},
        "/v1/responses": {"model": MODEL, "input": "Hi", "stream": True},
        "/v1/chat/completions": {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": True},
    }[path]
    answer = api.client.post(path, json=body, buffered=False)
    assert answer.status_code == 200
    parts = iter(answer.response)
    assert any(b"so far" in part for part in parts)
    api.redis.flushall()
    last = [part for part in parts if part.startswith((b"data: ", b"event: "))][-1]
    is_lost.set()
    assert b'"job_lost"' in last
    assert b"send the request again" in last


def test_a_wait_for_a_job_that_is_lost_ends_with_an_error(start_api: StartApi) -> None:
    api = start_api(lambda play: play.status("Generating response..."))
    losing = threading.Timer(0.5, api.redis.flushall)
    losing.start()
    answer = api.generate()
    assert (answer.status_code, answer.json["code"]) == (503, "job_lost")


@pytest.mark.parametrize("path", ["/slm/load", "/slm/unload"])
def test_loading_and_unloading_can_be_followed(api: Api, path: str) -> None:
    job_id = api.client.post(path, json={"async": True}).json["job_id"]
    lines = [data["status"] for data in data_of(api.client.get(f"/slm/jobs/{job_id}/stream").get_data(as_text=True))]
    assert lines == (
        ["Loading SLM model...", "Model loaded successfully on cuda", "Load complete!"]
        if path == "/slm/load"
        else ["Unloading SLM model...", "Model unloaded successfully", "Unload complete!"]
    )


def test_the_stream_of_an_unknown_job_is_404(api: Api) -> None:
    assert api.client.get("/slm/jobs/00000000-0000-4000-8000-000000000000/stream").json["code"] == "job_not_found"
