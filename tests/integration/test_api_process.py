"""The API as it runs in production: gunicorn, gevent, a real Redis; only the worker is scripted."""

from __future__ import annotations

import hmac
import json
import socket
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import psutil
import pytest
import requests
from redis import Redis

from api.auth.keyring import CACHE_S
from common.owners.api_keys import ApiKeyStore, Role
from common.redis import keys
from slm.app import run as run_command
from tests.api_process import ApiProcess, running_api
from tests.processes import wait_for
from tests.redis_server import RedisServer, running_server
from tests.scripted_worker import Play, Script, ScriptedWorker, answer

TIMEOUT_S = 90
AT_ONCE_S = 60  # on a busy machine
READER_GRACE_S = 600
NUM_TOKENS = 3000
NUM_REQUESTS = 400


@pytest.fixture
def api(redis_server: RedisServer, real_redis: Redis, tmp_path: Path) -> Iterator[ApiProcess]:
    settings = {"heartbeat_s": 300, "drain_s": 2, "reader_grace_s": READER_GRACE_S}
    with running_api(tmp_path, redis_url=redis_server.url, **settings) as api:
        yield api


@contextmanager
def worker(redis: Redis, script: Script) -> Iterator[ScriptedWorker]:
    with ScriptedWorker(redis, script) as running:
        yield running


def events_of(response: requests.Response) -> Iterator[dict[str, object]]:
    for line in response.iter_lines(chunk_size=None):
        if line.startswith(b"data: "):
            yield json.loads(line.removeprefix(b"data: "))


def stream(api: ApiProcess, prompt: str = "Hi") -> requests.Response:
    return requests.post(f"{api.url}/slm/stream", json={"prompt": prompt}, stream=True, timeout=TIMEOUT_S)


def first_text(frames: Iterator[dict[str, object]]) -> object:
    """Return the first frame with a text; queue positions may precede it."""
    return next(frame["text"] for frame in frames if "text" in frame)


def open_channels(redis: Redis) -> list[str]:
    return list(redis.pubsub_channels(keys.channel("*")))


def test_a_generation_works(api: ApiProcess, real_redis: Redis) -> None:
    with worker(real_redis, answer("a ", "b")):
        done = requests.post(f"{api.url}/slm/generate", json={"prompt": "Hi"}, timeout=TIMEOUT_S)
        assert done.json()["response"] == "a b"


def test_tokens_are_passed_on_as_they_come(api: ApiProcess, real_redis: Redis) -> None:
    seen = threading.Event()

    def script(play: Play) -> None:
        play.say("first ")
        assert seen.wait(TIMEOUT_S)
        play.end("second")

    with worker(real_redis, script), stream(api) as response:
        found = events_of(response)
        assert first_text(found) == "first "
        seen.set()
        assert [data.get("text") for data in found] == ["second", None]


def test_many_streams_at_once_each_get_their_own_text(api: ApiProcess, real_redis: Redis) -> None:
    def script(play: Play) -> None:
        for number in range(50):
            play.say(f"{play.prompt}{number} ")
        play.end("end")

    texts: dict[str, str] = {}

    def read(prompt: str) -> None:
        with stream(api, prompt) as response:
            texts[prompt] = str([data for data in events_of(response) if "full_text" in data][-1]["full_text"])

    with worker(real_redis, script):
        readers = [threading.Thread(target=read, args=(f"p{number}-",)) for number in range(10)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(TIMEOUT_S)
    assert texts == {f"p{n}-": "".join(f"p{n}-{i} " for i in range(50)) + "end" for n in range(10)}


def test_more_requests_at_once_than_connections_to_redis_are_all_served(api: ApiProcess, real_redis: Redis) -> None:
    """redis-py's own pool refuses the 101st."""
    request = b"GET /slm/usage HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    port = int(api.url.rpartition(":")[2])
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(300)]
        for client in clients:
            client.settimeout(TIMEOUT_S)
            client.sendall(request)
        assert {client.recv(100)[:12] for client in clients} == {b"HTTP/1.1 200"}


def test_a_slow_reader_loses_no_token(api: ApiProcess, real_redis: Redis) -> None:
    """The answer is far larger than sockets and mailboxes."""

    def script(play: Play) -> None:
        for number in range(0, NUM_TOKENS, 10):
            play.say(*(f"{i} " for i in range(number, number + 10)))
        play.end("end")

    with worker(real_redis, script), stream(api) as response:
        time.sleep(1)
        texts = [data["text"] for data in events_of(response) if "text" in data]
    assert texts == [*(f"{i} " for i in range(NUM_TOKENS)), "end"]


def test_a_client_that_goes_is_noticed_without_a_write(api: ApiProcess, real_redis: Redis) -> None:
    """Nothing is sent after the client left: there are no events, and the heartbeat is 300 s away."""
    with worker(real_redis, Play.run_until_cancelled):
        response = stream(api)
        waiter = socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2])))
        body = b'{"prompt": "Hi"}'
        head = f"{post_head('/slm/generate')}Content-Length: {len(body)}\r\n"
        waiter.sendall(head.encode() + b"Idempotency-Key: k\r\n\r\n" + body)  # it can be resumed
        wait_for("both subscriptions", lambda: len(open_channels(real_redis)) == 2, TIMEOUT_S)
        wait_for("both to run", lambda: states_of_all(api) == ["running", "running"], TIMEOUT_S)
        response.close()
        waiter.close()
        wait_for("the end of the subscriptions", lambda: not open_channels(real_redis), TIMEOUT_S)
        assert states_of_all(api) == ["running", "running"]


def test_unread_jobs_are_cancelled_unless_they_are_read_again(
    redis_server: RedisServer, real_redis: Redis, tmp_path: Path
) -> None:
    """Through a real socket; one client returns within the grace."""
    settings = {"redis_url": redis_server.url, "heartbeat_s": 300, "reader_grace_s": 3}
    with running_api(tmp_path, **settings) as api, worker(real_redis, Play.run_until_cancelled):
        left, stayed = stream(api), stream(api)
        left_id, stayed_id = (one.headers["X-Job-Id"] for one in (left, stayed))
        left.close()
        stayed.close()
        with requests.get(f"{api.url}/slm/jobs/{stayed_id}/stream", stream=True, timeout=TIMEOUT_S):
            wait_for("the cancellation", lambda: state_of(real_redis, left_id) == "cancelled", TIMEOUT_S)
            wait_for("the other to run", lambda: state_of(real_redis, stayed_id) == "running", TIMEOUT_S)
        keyed = post_and_hang_up(api, b'{"prompt": "Hi"}', "Idempotency-Key: k")
        wait_for("the cancellation", lambda: state_of(real_redis, keyed) == "cancelled", TIMEOUT_S)
        going_on = post_and_hang_up(api, b'{"prompt": "Hi", "on_disconnect": "continue"}')
        time.sleep(4)
        assert state_of(real_redis, going_on) in ("queued", "running")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/slm/generate", {"prompt": "Hi"}),
        ("/v1/chat/completions", {"model": "gpt2", "messages": [{"role": "user", "content": "Hi"}], "n": 2}),
        ("/v1/completions", {"model": "gpt2", "prompt": "Hi"}),
        ("/v1/responses", {"model": "gpt2", "input": "Hi"}),
    ],
)
def test_jobs_that_nobody_can_resume_end_at_once(
    api: ApiProcess, real_redis: Redis, path: str, body: dict[str, object]
) -> None:
    """They end long before the grace, which is for jobs that can be resumed."""
    with worker(real_redis, Play.run_until_cancelled):
        job_id = post_and_hang_up(api, json.dumps(body).encode(), path=path)
        wait_for("the cancellation", lambda: state_of(real_redis, job_id) == "cancelled", AT_ONCE_S)
        wait_for("that of its other choices", lambda: set(states_of_all(api)) == {"cancelled"}, AT_ONCE_S)


def test_waiting_jobs_that_nobody_can_resume_leave_the_queue_at_once(api: ApiProcess, real_redis: Redis) -> None:
    with worker(real_redis, Play.run_until_cancelled):
        for _ in range(6):
            requests.post(f"{api.url}/slm/generate", json={"prompt": "Hi", "async": True}, timeout=TIMEOUT_S)
        job_id = post_and_hang_up(api, b'{"prompt": "Hi"}')
        wait_for("the cancellation", lambda: state_of(real_redis, job_id) == "cancelled", AT_ONCE_S)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/slm/generate", {"prompt": "Hi"}),
        ("/slm/stream", {"prompt": "Hi"}),
        ("/slm/tokenize", {"prompt": "Hi"}),
        ("/v1/completions", {"model": "gpt2", "prompt": "Hi"}),
        ("/v1/responses", {"model": "gpt2", "input": "Hi"}),
    ],
)
def test_a_request_whose_client_left_before_it_was_read_creates_no_job(
    api: ApiProcess, real_redis: Redis, path: str, body: dict[str, object]
) -> None:
    content = json.dumps(body).encode()
    with worker(real_redis, Play.run_until_cancelled):
        (serving,) = psutil.Process(api.process.pid).children()
        serving.suspend()
        for head_lines in ([], [], ["Idempotency-Key: k"]):
            with socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2]))) as client:
                head = "\r\n".join([f"{post_head(path)}Content-Length: {len(content)}", *head_lines, "", ""])
                client.sendall(head.encode() + content)
        serving.resume()

        wait_for("the one that can come back", lambda: real_redis.exists(keys.JOB_INDEX), TIMEOUT_S)
        time.sleep(0.5)
        assert len(requests.get(f"{api.url}/slm/jobs", timeout=TIMEOUT_S).json()["jobs"]) == 1


def states_of_all(api: ApiProcess) -> list[str]:
    """Return the states of all jobs, which does not count as reading them."""
    return [job["status"] for job in requests.get(f"{api.url}/slm/jobs", timeout=TIMEOUT_S).json()["jobs"]]


def state_of(redis: Redis, job_id: str) -> str | None:
    """Return the job's state from its record, which does not count as reading the job."""
    return redis.hget(keys.job(job_id), "state")


def post_head(path: str) -> str:
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def post_and_hang_up(api: ApiProcess, body: bytes, *head_lines: str, path: str = "/slm/generate") -> str:
    """Send a request and leave before the answer; returns the id of its job."""
    jobs = f"{api.url}/slm/jobs"
    before = {job["job_id"] for job in requests.get(jobs, timeout=TIMEOUT_S).json()["jobs"]}
    with socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2]))) as client:
        head = "\r\n".join([f"{post_head(path)}Content-Length: {len(body)}", *head_lines, "", ""])
        client.sendall(head.encode() + body)
        while True:
            now = {job["job_id"] for job in requests.get(jobs, timeout=TIMEOUT_S).json()["jobs"]}
            if now - before:
                return str((now - before).pop())


def test_a_repeated_request_finds_its_job_in_another_process(
    redis_server: RedisServer, api: ApiProcess, real_redis: Redis, tmp_path: Path
) -> None:
    """The first process dies in mid-stream; its client repeats the request to the other one."""
    go_on = threading.Event()

    def script(play: Play) -> None:
        play.say("once ")
        assert go_on.wait(TIMEOUT_S)
        play.end("only")

    wanted = {"json": {"prompt": "Hi"}, "headers": {"Idempotency-Key": "k"}, "stream": True, "timeout": TIMEOUT_S}
    with running_api(tmp_path, redis_url=redis_server.url) as other, worker(real_redis, script):
        first = requests.post(f"{api.url}/slm/stream", **wanted)
        assert first_text(events_of(first)) == "once "
        api.process.kill()
        again = requests.post(f"{other.url}/slm/stream", **wanted)
        go_on.set()
        assert [data.get("full_text") for data in events_of(again)] == ["once", "once only", None]
        assert again.headers["X-Job-Id"] == first.headers["X-Job-Id"]
        assert again.headers["Idempotency-Replayed"] == "true"
        first.close()


class Receiver(BaseHTTPRequestHandler):
    """Receives webhooks; answers with the given statuses, then with 204."""

    statuses: ClassVar[list[int]] = []
    taken: ClassVar[list[tuple[dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.statuses.pop(0) if self.statuses else 204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def receiver() -> Iterator[str]:
    """Its URL."""
    Receiver.statuses, Receiver.taken = [], []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_webhook_arrives_signed_although_its_first_attempt_failed(
    redis_server: RedisServer, real_redis: Redis, tmp_path: Path, receiver: str
) -> None:
    Receiver.statuses = [500]
    key = bytes(range(32))
    secret = f"whsec_{b64encode(key).decode()}"
    settings = {"redis_url": redis_server.url, "webhook_secret": secret, "webhook_allow_private": True}
    with running_api(tmp_path, **settings) as api, worker(real_redis, answer("a ", "b")):
        wanted = {"prompt": "Hi", "webhook_url": receiver}
        job = f"{api.url}/slm/jobs/" + requests.post(f"{api.url}/slm/generate", json=wanted).json()["job_id"]

        def webhook() -> dict[str, object]:
            return dict(requests.get(job, timeout=TIMEOUT_S).json()["webhook"])

        wait_for("the first attempt", lambda: webhook()["attempts"] == 1 and webhook()["last_error"], TIMEOUT_S)
        assert webhook() == {"state": "pending", "attempts": 1, "last_error": "answered with status 500"}
        wait_for("the delivery", lambda: webhook()["state"] == "delivered", TIMEOUT_S)
        assert webhook() == {"state": "delivered", "attempts": 2, "last_error": None}
    (first, _), (headers, body) = Receiver.taken
    assert first["webhook-id"] == headers["webhook-id"] == f"msg_{job.rpartition('/')[2]}"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert headers["webhook-signature"] == f"v1,{b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
    message = json.loads(body)
    assert (message["type"], message["data"]["text"]) == ("job.succeeded", "a b")


def test_a_webhook_is_never_sent_to_a_private_address(
    redis_server: RedisServer, real_redis: Redis, tmp_path: Path
) -> None:
    settings = {"redis_url": redis_server.url, "webhook_secret": f"whsec_{b64encode(bytes(32)).decode()}"}
    with running_api(tmp_path, **settings) as api, worker(real_redis, answer("x")):
        wanted = {"prompt": "Hi", "webhook_url": "http://localhost:1/"}
        job = f"{api.url}/slm/jobs/" + requests.post(f"{api.url}/slm/generate", json=wanted).json()["job_id"]
        wait_for(
            "the webhook to be given up", lambda: requests.get(job).json()["webhook"]["state"] == "failed", TIMEOUT_S
        )
        assert requests.get(job).json()["webhook"]["last_error"] == "localhost has a private address"


def test_a_body_that_is_too_large_gets_its_answer(api: ApiProcess) -> None:
    answer = requests.post(f"{api.url}/slm/generate", data=b"x" * 8_000_000, timeout=TIMEOUT_S)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_body_of_unknown_length_is_limited_too(api: ApiProcess) -> None:
    answer = requests.post(f"{api.url}/slm/generate", data=(b"x" * 10_000 for _ in range(300)), timeout=TIMEOUT_S)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_a_stream_survives_a_restart_of_redis(tmp_path: Path) -> None:
    back = threading.Event()

    def script(play: Play) -> None:
        play.say("before ")
        assert back.wait(TIMEOUT_S)
        play.end("after")

    with running_server(tmp_path) as server, running_api(tmp_path, redis_url=server.url) as api:
        redis = Redis.from_url(server.url, decode_responses=True)
        with worker(redis, script) as scripted, stream(api) as response:
            found = events_of(response)
            assert first_text(found) == "before "
            scripted.stop_looking()
            server.kill()
            gone = requests.get(f"{api.url}/slm/info", timeout=TIMEOUT_S)
            assert (gone.status_code, gone.json()["code"]) == (503, "redis_unavailable")
            server.start()
            back.set()
            assert [data.get("full_text") for data in found] == ["before after", None]
        redis.close()


def test_a_stream_ends_with_an_error_frame_when_redis_comes_back_without_its_data(tmp_path: Path) -> None:
    def script(play: Play) -> None:
        play.say("so far")

    with running_server(tmp_path) as server, running_api(tmp_path, redis_url=server.url, heartbeat_s=300) as api:
        redis = Redis.from_url(server.url, decode_responses=True)
        with worker(redis, script) as scripted, stream(api) as response:
            found = events_of(response)
            assert first_text(found) == "so far"
            scripted.stop_looking()
            server.kill()
            server.lose_data()
            server.start()
            assert [data["code"] for data in found] == ["job_lost"]
        redis.close()


def test_an_api_without_enough_cpu_time_does_not_blame_redis(api: ApiProcess, real_redis: Redis) -> None:
    is_over, asking, sent = threading.Event(), threading.Barrier(NUM_REQUESTS + 1), threading.Barrier(NUM_REQUESTS + 1)
    chat = {"model": "gpt2", "messages": [{"role": "user", "content": "hello " * 2000}]}
    address = api.url.removeprefix("http://")

    def starve() -> None:
        children = psutil.Process(api.process.pid).children()
        for child in children:
            child.suspend()
        asking.wait(TIMEOUT_S)
        sent.wait(TIMEOUT_S)
        while not is_over.is_set():
            for child in children:
                child.suspend()
            time.sleep(0.95)
            for child in children:
                child.resume()
            is_over.wait(0.05)

    def ask(_: int) -> str:
        asking.wait(TIMEOUT_S)
        with closing(HTTPConnection(address, timeout=180)) as client:
            client.request("POST", "/v1/chat/completions", json.dumps(chat), {"Content-Type": "application/json"})
            sent.wait(TIMEOUT_S)
            answer = client.getresponse()
            body = json.load(answer)
        return "ok" if answer.status == 200 else str(body["error"]["code"])

    starving = threading.Thread(target=starve)
    with worker(real_redis, answer("x")), ThreadPoolExecutor(NUM_REQUESTS) as pool:
        starving.start()
        outcomes = Counter(pool.map(ask, range(NUM_REQUESTS)))
        is_over.set()
        starving.join()
    assert outcomes["overloaded"] > 0
    assert outcomes.keys() <= {"ok", "overloaded"}
    assert requests.get(f"{api.url}/slm/info", timeout=TIMEOUT_S).ok


def test_a_revoked_key_ends_its_streams_and_jobs_within_seconds(
    redis_server: RedisServer, api: ApiProcess, real_redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ApiKeyStore(real_redis)
    secrets = {"bob": store.create("bob", Role.USER), "root": store.create("root", Role.ADMIN)}
    headers = {who: {"X-API-Key": secret} for who, secret in secrets.items()}
    time.sleep(CACHE_S)

    def read(url: str, who: str) -> requests.Response:
        return requests.get(url, headers=headers[who], stream=True, timeout=TIMEOUT_S)

    def script(play: Play) -> None:
        play.say("so far")
        play.run_until_cancelled()

    body = {"prompt": "Hi", "async": True}
    with worker(real_redis, script):
        entered = [
            requests.post(f"{api.url}/slm/generate", json=body, headers=headers["bob"], timeout=TIMEOUT_S)
            for _ in range(2)
        ]
        urls = [f"{api.url}{one.headers['Location']}/stream" for one in entered]
        with read(urls[0], "bob") as bobs, read(urls[0], "root") as admins, read(urls[1], "root") as others:
            found = {"bob": events_of(bobs), "root": events_of(admins), "other": events_of(others)}
            assert {name: first_text(frames) for name, frames in found.items()} == dict.fromkeys(found, "so far")
            monkeypatch.setenv("SLM_REDIS_URL", redis_server.url)
            begun = time.monotonic()
            assert run_command(["keys", "revoke", "--name", "root"]) == 0
            assert [frame["code"] for frame in found["other"]] == ["invalid_api_key"]
            assert run_command(["keys", "revoke", "--name", "bob"]) == 0
            assert [frame["status"] for frame in found["bob"] if "status" in frame] == ["Cancelled"]
            assert time.monotonic() - begun < AT_ONCE_S
        wait_for("the jobs to end", lambda: not real_redis.exists(keys.open_jobs("bob")), TIMEOUT_S)


def test_a_stopping_api_ends_its_open_streams_within_the_grace(api: ApiProcess, real_redis: Redis) -> None:
    with worker(real_redis, Play.run_until_cancelled), stream(api) as response:
        job_url = response.headers["Location"]
        assert api.stop() == 0
        assert state_of(real_redis, job_url.rpartition("/")[2]) == "running"
        assert list(events_of(response)) == [], "no last frame, but the proper end of an answer that can be resumed"


def refusal(session: requests.Session, api: ApiProcess) -> list[requests.Response]:
    """Send new work, and return the response if it is a 503: a stop is noticed only after a moment."""
    late = session.post(f"{api.url}/slm/generate", json={"prompt": "Hi", "async": True}, timeout=TIMEOUT_S)
    return [late] if late.status_code == 503 else []


def test_a_stopping_api_refuses_new_work_and_says_how_to_resume(api: ApiProcess, real_redis: Redis) -> None:
    chat = {"model": "gpt2", "messages": [{"role": "user", "content": "Hi"}]}
    asked = {
        "plain": ("/slm/generate", {"prompt": "Hi"}, {}),
        "chat": ("/v1/chat/completions", chat, {}),
        "keyed chat": ("/v1/chat/completions", chat, {"Idempotency-Key": "k"}),
        "chat stream": ("/v1/chat/completions", chat | {"stream": True}, {}),
    }
    answers: dict[str, requests.Response] = {}

    def ask(name: str) -> None:
        path, body, headers = asked[name]
        answers[name] = requests.post(f"{api.url}{path}", json=body, headers=headers, timeout=TIMEOUT_S)

    with worker(real_redis, Play.run_until_cancelled), requests.Session() as session:
        threads = [threading.Thread(target=ask, args=(name,)) for name in asked]
        for thread in threads:
            thread.start()
        wait_for("the jobs", lambda: len(list(real_redis.scan_iter("slm:job:*:reader"))) == len(asked), TIMEOUT_S)
        wait_for("them to run", lambda: states_of_all(api) == ["running"] * len(asked), TIMEOUT_S)
        assert session.get(f"{api.url}/healthz", timeout=TIMEOUT_S).ok  # a connection that stays open
        api.process.terminate()
        [late] = wait_for("a refusal", lambda: refusal(session, api), TIMEOUT_S)
        assert late.json()["code"] == "server_stopping"
        assert late.headers["Retry-After"]
        for thread in threads:
            thread.join(TIMEOUT_S)
        assert api.process.wait(TIMEOUT_S) == 0
        states = {name: real_redis.hget(keys.job(one.headers["X-Job-Id"]), "cancel") for name, one in answers.items()}
    assert answers["plain"].status_code == 202
    for name in ("chat", "keyed chat"):
        assert (answers[name].status_code, answers[name].json()["error"]["code"]) == (503, "server_stopping")
    assert '"server_stopping"' in answers["chat stream"].text
    assert states == {"plain": None, "chat": "1", "keyed chat": None, "chat stream": "1"}


def test_every_client_sees_the_same_job_ids_and_positions(api: ApiProcess, real_redis: Redis) -> None:
    with worker(real_redis, answer("x")):
        ids = [
            requests.post(f"{api.url}/slm/generate", json={"prompt": "Hi", "async": True}, timeout=TIMEOUT_S).json()
            for _ in range(3)
        ]
        listed = requests.get(f"{api.url}/slm/jobs", timeout=TIMEOUT_S).json()["jobs"]
    assert {job["job_id"] for job in listed} == {job["job_id"] for job in ids}
    assert all(new["created_at"] >= old["created_at"] for new, old in pairwise(listed))
