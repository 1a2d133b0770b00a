"""Processes die, and a client with an open stream only sees a pause before the next token.

The clients here are outside clients (`benchmarks.chaos.Frames`): they repeat a request under its Idempotency-Key, and
continue after their last frame.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from benchmarks.chaos import Frames, Tally
from benchmarks.chaos import run as run_chaos
from common.settings import ROOT
from models import default_model
from tests.free_port import free_port
from tests.processes import Cluster, Process, is_up, running_cluster, wait_for
from tests.redis_server import RedisServer, running_server

TOKENS = 150


class Site:
    """Redis, an API, and workers with a slow fake model."""

    def __init__(self, redis: RedisServer, cluster: Cluster, port: int) -> None:
        self.redis = redis
        self.cluster = cluster
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.api = self.start_api()

    def start_api(self) -> Process:
        self.api = self.cluster.start_api(self.port, SLM_DRAIN_S="1")
        wait_for("the API", lambda: is_up(self.url))
        return self.api

    def start_worker(self, name: str, app: str = "tests.fake_worker", **env: str) -> Process:
        worker = self.cluster.start_worker(name, app, **env)
        self.cluster.wait_until_taking_jobs(name)
        return worker

    def restart_redis(self) -> None:
        self.redis.kill()
        self.redis.start()


class Stream(threading.Thread):
    """One client with one stream."""

    def __init__(self, site: Site, **body: object) -> None:
        super().__init__(daemon=True)
        self.tally = Tally()
        self.frames: list[tuple[int, dict[str, object]]] = []
        self._frames = Frames(site.port, {"prompt": "endless", "max_new_tokens": TOKENS} | body, self.tally)
        self.start()

    def run(self) -> None:
        for frame in self._frames:
            self.frames.append(frame)

    @property
    def text(self) -> str:
        return "".join(str(data.get("text", "")) for _, data in self.frames)

    def wait_for_text(self) -> None:
        wait_for("the first tokens", lambda: self.text)

    def to_end(self) -> str:
        """Return the whole text; check that the frames' ids rise and one frame is the end."""
        self.join(180)
        assert not self.is_alive(), f"the stream did not end; it has {len(self.frames)} frames"
        ids = [number for number, _ in self.frames]
        assert ids == sorted(set(ids))
        ends = [data for _, data in self.frames if "device_used" in data or "error" in data]
        assert ends == [{"status": "Response complete!", "device_used": "cpu"}]
        return self.text


def whole(tokens: int = TOKENS) -> str:
    return ("abc " * tokens)[:tokens]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "redis").mkdir()
    env = {"SLM_LEASE_S": "2", "SLM_DRAIN_S": "1", "FAKE_STEP_MS": "25"}
    with running_server(tmp_path / "redis") as redis, running_cluster(redis.url, tmp_path, **env) as cluster:
        yield Site(redis, cluster, free_port())


def kill_api(site: Site) -> None:
    site.api.kill()
    site.start_api()


def kill_redis(site: Site) -> None:
    site.restart_redis()


def kill_worker(site: Site) -> None:
    for worker in site.cluster.processes("a"):
        if worker.is_running():
            worker.kill()
    site.start_worker("a")


def kill_worker_and_api(site: Site) -> None:
    site.api.kill()
    kill_worker(site)
    site.start_api()


def kill_worker_and_redis(site: Site) -> None:
    for worker in site.cluster.processes("a"):
        worker.kill()
    site.restart_redis()
    site.start_worker("a")


def kill_api_and_redis(site: Site) -> None:
    site.api.kill()
    site.restart_redis()
    site.start_api()


@pytest.mark.parametrize(
    "blow", [kill_api, kill_redis, kill_worker, kill_worker_and_api, kill_worker_and_redis, kill_api_and_redis]
)
def test_streams_continue_at_their_next_token_whatever_is_killed(site: Site, blow: Callable[[Site], None]) -> None:
    site.start_worker("a")
    streams = [Stream(site) for _ in range(3)]
    for stream in streams:
        stream.wait_for_text()
    blow(site)
    for stream in streams:
        assert stream.to_end() == whole()
        if blow in (kill_worker, kill_redis):
            assert not stream.tally.reconnects, "the same connection continues"


def test_scaling_in_from_three_workers_to_one_and_replacing_that_one_costs_no_stream(site: Site) -> None:
    for name in ("a", "b", "c"):
        site.cluster.start_worker(name)
    for name in ("a", "b", "c"):
        site.cluster.wait_until_taking_jobs(name)
    streams = [Stream(site, max_new_tokens=TOKENS) for _ in range(32)]
    for stream in streams:
        stream.wait_for_text()
    leaving = [worker for name in ("a", "b") for worker in site.cluster.processes(name)]
    for worker in leaving:
        worker.signal(signal.SIGTERM)
    wait_for("both to end", lambda: not any(worker.is_running() for worker in leaving))
    assert [worker.terminate() for worker in leaving] == [0, 0]
    (last,) = site.cluster.processes("c")
    site.start_worker("d")
    assert last.terminate() == 0
    for stream in streams:
        assert stream.to_end() == whole()
        assert not stream.tally.reconnects


def test_redis_may_be_away_for_a_while(site: Site) -> None:
    site.start_worker("a", FAKE_STEP_MS="50")
    stream = Stream(site)
    stream.wait_for_text()
    site.redis.kill()
    wait_for("the API to notice", lambda: requests.get(f"{site.url}/slm/info", timeout=30).status_code == 503)
    refused = requests.post(f"{site.url}/slm/generate", json={"prompt": "Hi"}, timeout=30)
    assert refused.status_code == 503
    assert refused.json()["code"] == "redis_unavailable"
    assert refused.headers["Retry-After"]
    site.redis.start()
    assert stream.to_end() == whole()
    assert not stream.tally.reconnects


def test_a_full_redis_gives_clear_errors_and_breaks_no_job(site: Site) -> None:
    site.start_worker("a", FAKE_STEP_MS="50")
    stream = Stream(site)
    stream.wait_for_text()
    site.cluster.redis.config_set("maxmemory", "1mb")
    wait_for(
        "a refusal",
        lambda: requests.post(f"{site.url}/slm/generate", json={"prompt": "x"}, timeout=60).status_code == 503,
    )
    site.cluster.redis.config_set("maxmemory", "0")
    assert stream.to_end() == whole()
    assert requests.post(f"{site.url}/slm/generate", json={"prompt": "again"}, timeout=60).json()["response"] == "again"


def test_a_finished_job_uses_a_bounded_amount_of_memory_and_expires(site: Site) -> None:
    site.start_worker("a", FAKE_STEP_MS="1", SLM_JOB_TTL_S="2")
    body = {"prompt": "endless", "max_new_tokens": 1000}
    job_id = requests.post(f"{site.url}/slm/generate", json=body, timeout=120).json()["job_id"]
    keys = list(site.cluster.redis.scan_iter(f"slm:job:{job_id}*"))
    assert sum(site.cluster.redis.memory_usage(key) or 0 for key in keys) < 200 * 1024
    wait_for("the record to expire", lambda: not list(site.cluster.redis.scan_iter(f"slm:job:{job_id}*")))
    assert requests.get(f"{site.url}/slm/jobs/{job_id}", timeout=60).status_code == 404
    wait_for("the index to forget it", lambda: not requests.get(f"{site.url}/slm/jobs", timeout=60).json()["jobs"])


def test_the_real_model_gives_the_same_answer_after_a_kill(site: Site) -> None:
    """Greedy and seeded, in fp32."""
    default_model.install(ROOT / "data" / "models", progress=print)
    env = {"SLM_DTYPE": "float32", "SLM_DATA_DIR": str(ROOT / "data")}
    asked: list[dict[str, object]] = [
        {"prompt": "Tell me a story about a robot.", "max_new_tokens": 60, "temperature": 0},
        {"prompt": "Tell me a story about a river.", "max_new_tokens": 60, "temperature": 0.9, "seed": 7},
    ]
    worker = site.start_worker("a", "worker.app", **env)
    undisturbed = [Stream(site, **body).to_end() for body in asked]
    streams = [Stream(site, **body) for body in asked]
    for stream in streams:
        stream.wait_for_text()
    worker.signal(signal.SIGKILL)
    site.start_worker("b", "worker.app", **env)
    assert [stream.to_end() for stream in streams] == undisturbed


def test_a_call_of_a_tool_is_the_same_after_a_kill_inside_it(site: Site) -> None:
    env = {"SLM_DTYPE": "float32", "SLM_DATA_DIR": str(ROOT / "data")}
    worker = site.start_worker("a", "worker.app", **env)
    undisturbed = "".join(arguments(site))
    pieces = arguments(site)
    begin = [next(pieces) for _ in range(8)]
    worker.signal(signal.SIGKILL)
    site.start_worker("b", "worker.app", **env)
    assert "".join([*begin, *pieces]) == undisturbed
    assert json.loads(undisturbed)["text"]


def arguments(site: Site) -> Iterator[str]:
    """Stream the pieces of a call's arguments."""
    text = {"type": "string", "minLength": 60, "maxLength": 90}
    parameters = {"type": "object", "properties": {"text": text}, "required": ["text"]}
    body = {
        "model": "default",
        "messages": [{"role": "user", "content": "Write Ada a letter about the sea."}],
        "tools": [{"type": "function", "function": {"name": "write", "parameters": parameters}}],
        "tool_choice": {"type": "function", "function": {"name": "write"}},
        "seed": 7,
        "stream": True,
    }
    with requests.post(f"{site.url}/v1/chat/completions", json=body, stream=True, timeout=120) as answer:
        for line in answer.iter_lines():
            if line.startswith(b"data: {"):
                (choice,) = json.loads(line[6:])["choices"]
                yield from (call["function"]["arguments"] for call in choice["delta"].get("tool_calls", ()))
    assert choice["finish_reason"] == "tool_calls"


def test_streams_survive_random_kills() -> None:
    """The short form of `benchmarks/chaos.py`."""
    tally = run_chaos(minutes=0.75, clients=4, every_s=8, worker_app="tests.fake_worker")
    assert sum(tally.blows.values()) >= 3
    assert tally.wrong == []
    assert tally.begun == tally.ended > 0
