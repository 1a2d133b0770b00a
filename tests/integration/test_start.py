"""The one command, for real: `start_slm_api.py` with the real model, its own Redis, workers and API."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from common.settings import ROOT
from deploy.check.http_client import HttpClient, read_frames
from models import default_model
from tests.compiled_kernels import share_kernels
from tests.free_port import free_port
from tests.processes import wait_for
from tests.redis_server import RedisServer

pytestmark = pytest.mark.timeout(600)

START_S = 300.0  # two workers that load their model on a busy machine
REFUSAL_S = 60.0
# Variables of a shell. Each would break the server, or expose it, if it reached a process.
STEERING = {
    "BROKER_URL": "redis://127.0.0.1:9/0",
    "CELERY_BROKER_URL": "redis://127.0.0.1:9/0",
    "CELERY_CUSTOM_WORKER_POOL": "nowhere:Pool",
    "CELERY_WORKER_CONCURRENCY": "many",
    "FLASK_DEBUG": "1",
    "GUNICORN_CMD_ARGS": "--bind 0.0.0.0:9 --workers 3 --preload",
    "OMP_NUM_THREADS": "7",
    "PROMETHEUS_MULTIPROC_DIR": "/nowhere",
    "PYTHONOPTIMIZE": "2",
    "SCRIPT_NAME": "/nowhere",
    "WEB_CONCURRENCY": "3",
}
GREEDY = {"prompt": "What is Python?", "max_new_tokens": 8, "temperature": 0}


@pytest.fixture(scope="module")
def models() -> Path:
    """The project's own folder of models, with the default one in it."""
    return default_model.install(ROOT / "data" / "models", progress=print).parent


def new_data_dir(folder: Path, models: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "models").symlink_to(models)
    share_kernels(folder)
    return folder


def start(port: int, *arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "start_slm_api.py"), "--port", str(port), *arguments]


class Started:
    """A running `start_slm_api.py` and its output."""

    def __init__(
        self,
        data_dir: Path,
        *arguments: str,
        env: dict[str, str] | None = None,
        port: int | None = None,
        command: list[str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = HttpClient(self.url)
        self._output = data_dir.with_suffix(".out")
        with self._output.open("wb") as out:
            self.process = subprocess.Popen(
                command or start(self.port, *arguments),
                cwd=ROOT,
                env=os.environ | {"SLM_DATA_DIR": str(data_dir)} | (env or {}),
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def wait_until(self, is_ready: Callable[[Started], bool]) -> None:
        wait_for("the server to be ready", lambda: is_ready(self) or self._has_ended(), START_S)
        assert not self._has_ended(), self.said

    def is_up(self) -> bool:
        """Whether it has printed that everything runs."""
        return "The server is up." in self.said

    def answers(self) -> bool:
        """Whether the API answers."""
        try:
            return self.client.get("/healthz").status == 200
        except OSError:
            return False

    def _has_ended(self) -> bool:
        return self.process.poll() is not None

    def processes(self) -> list[psutil.Process]:
        """All its descendants."""
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def child(self, program: str) -> psutil.Process:
        """The direct child with that word in its command line."""
        children = psutil.Process(self.process.pid).children()
        (found,) = [child for child in children if any(program in word for word in child.cmdline())]
        return found

    def has_other(self, program: str, than: psutil.Process) -> bool:
        """Whether another process has replaced `than`."""
        children = psutil.Process(self.process.pid).children()
        return any(child.pid != than.pid and any(program in word for word in child.cmdline()) for child in children)

    def is_loaded(self) -> bool:
        """Whether the API answers, and a worker has loaded the model."""
        try:
            info = self.client.get("/slm/info")
        except OSError:
            return False
        return info.status == 200 and bool(info.json["model_loaded"])

    def generate(self, **more: Any) -> dict[str, Any]:
        answer = self.client.post("/slm/generate", GREEDY | more)
        assert answer.status == 200, answer
        generated: dict[str, Any] = answer.json
        return generated

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(START_S)


class RunningStream:
    """A stream that has started, read to its end on a thread."""

    def __init__(self, server: Started, **more: Any) -> None:
        self._frames: list[Any] = []
        self._body = GREEDY | {"max_new_tokens": 60} | more
        self._thread = threading.Thread(target=self._read, args=(server.client,))
        self._thread.start()
        wait_for("the stream to run", lambda: server.client.get("/slm/info").json["queue"]["running"])

    def _read(self, client: HttpClient) -> None:
        self._frames += client.stream("/slm/stream", self._body)[1]

    def frames(self) -> list[Any]:
        self._thread.join(START_S)
        return self._frames


@contextmanager
def started(
    data_dir: Path, *arguments: str, is_ready: Callable[[Started], bool] = Started.is_up, **how: Any
) -> Iterator[Started]:
    """A start that is ready; its remaining processes are killed at the end."""
    server = Started(data_dir, *arguments, **how)
    try:
        server.wait_until(is_ready)
        yield server
    finally:
        if server.process.poll() is None:
            server.stop(signal.SIGTERM)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Started]:
    """One start, with many variables of other programs, shared by all tests that leave it healthy."""
    data_dir = new_data_dir(tmp_path_factory.mktemp("start") / "data", models)
    poison = data_dir.with_name("poison")
    poison.mkdir()
    for name in ("celery", "flask", "redis", "torch"):
        (poison / f"{name}.py").write_text("raise SystemExit('taken from PYTHONPATH')")
    with started(data_dir, env=STEERING | {"PYTHONPATH": str(poison)}) as server:
        yield server


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def test_a_started_server_does_everything_documented(server: Started) -> None:
    checked = subprocess.run(
        [sys.executable, "test_slm_api.py", "--url", server.url, "--prompt", "Tell me about artificial intelligence"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "9 of 9 checks ok" in checked.stdout


def test_the_console_shows_what_to_try_and_where_the_logs_are(server: Started) -> None:
    assert f"api answers at {server.url}" in server.said
    assert "worker-1 has the model loaded on cpu" in server.said
    assert f"curl {server.url}/slm/info" in server.said
    for name in ("redis", "api", "worker-1"):
        assert (server.data_dir / "logs" / f"{name}.log").stat().st_size > 0


def test_no_variable_except_the_settings_configures_a_process(server: Started) -> None:
    for process in [psutil.Process(server.process.pid), *server.processes()]:
        environment = process.environ()
        assert "PYTHONPATH" not in environment
        assert not STEERING.items() & environment.items(), process.cmdline()  # the server sets some of them itself
    listening = [
        one.laddr for process in server.processes() for one in process.net_connections("inet") if not one.raddr
    ]
    assert {(address.ip, address.port) for address in listening} == {("127.0.0.1", server.port)}


def test_other_users_can_read_nothing_in_the_data_folder(server: Started) -> None:
    server.generate()
    assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
    files = [path for name in ("redis", "logs") for path in (server.data_dir / name).rglob("*")]
    assert any(path.suffix == ".aof" for path in files)
    for path in [*files, *server.data_dir.glob("*.*")]:
        assert not path.stat().st_mode & 0o077, path


def test_a_killed_api_is_restarted_and_answers(server: Started) -> None:
    api = server.child("gunicorn")
    api.kill()
    wait_for("another API", lambda: server.has_other("gunicorn", api) and server.is_loaded(), START_S)
    assert server.generate()["success"]


def test_a_killed_worker_is_restarted_and_generates(server: Started) -> None:
    worker = server.child("worker.app")
    worker.kill()
    wait_for("another worker", lambda: server.has_other("worker.app", worker) and server.is_loaded(), START_S)
    assert server.generate()["success"]


def test_a_killed_redis_is_restarted_with_its_jobs(server: Started) -> None:
    job_id = server.generate()["job_id"]
    redis = server.child("valkey-server")
    redis.kill()
    wait_for("another Redis", lambda: server.has_other("valkey-server", redis) and server.is_loaded(), START_S)
    assert server.client.get(f"/slm/jobs/{job_id}").json["status"] == "succeeded"
    assert server.generate()["success"]


def test_a_second_start_on_the_same_data_folder_is_refused(server: Started) -> None:
    refused = refusal(free_port(), {"SLM_DATA_DIR": str(server.data_dir)})
    assert f"process {server.process.pid}" in refused
    assert server.is_loaded()


@pytest.mark.timeout(3 * START_S)
def test_jobs_outlive_a_stop_and_a_kill_and_every_start_loads_the_model(tmp_path: Path, models: Path) -> None:
    data_dir = new_data_dir(tmp_path / "data", models)
    with started(data_dir) as first:
        job_id = first.generate()["job_id"]
        processes, stream = first.processes(), RunningStream(first)
        assert first.stop(signal.SIGTERM) == 0
        assert first.said.endswith("Stopped.\n")
        assert are_gone(processes)
        assert stream.frames()[-1]["status"] == "Response complete!", "running jobs were finished first"
    with started(data_dir) as second:
        assert second.client.get(f"/slm/jobs/{job_id}").json["status"] == "succeeded"
        assert second.client.post("/slm/unload").status == 200
        processes = second.processes()
        second.process.kill()
        second.process.wait()
        if sys.platform == "linux":
            wait_for("every process to end", lambda: are_gone(processes))
    with started(data_dir) as third:
        assert third.is_loaded(), "although it had been unloaded"
        assert third.client.get(f"/slm/jobs/{job_id}").json["status"] == "succeeded"
        processes = third.processes()
        assert third.stop(signal.SIGINT) == 0
        assert are_gone(processes)


@pytest.mark.timeout(2 * START_S)
def test_a_killed_start_leaves_no_process_and_the_next_one_works_at_once(tmp_path: Path, models: Path) -> None:
    """Even with open streams, which a stopping API would serve to their end."""
    data_dir = new_data_dir(tmp_path / "data", models)
    body = GREEDY | {"max_new_tokens": 1500, "ignore_eos": True}
    with (
        started(data_dir, env={"SLM_DRAIN_S": "600"}) as first,
        requests.post(f"{first.url}/slm/stream", json=body, stream=True, timeout=START_S) as stream,
    ):
        assert next(stream.iter_lines())
        processes = first.processes()
        first.process.kill()
        first.process.wait()
        with started(data_dir, env={"SLM_DRAIN_S": "0"}, port=first.port) as second:
            assert are_gone(processes)
            assert second.generate()["success"]


@pytest.mark.timeout(3 * START_S)
def test_a_stop_respects_its_grace_and_streams_continue_after_it(tmp_path: Path, models: Path) -> None:
    """Even if the server is away for longer than its readers' grace."""
    data_dir, drain_s, grace_s = new_data_dir(tmp_path / "data", models), 1, 3
    env = {"SLM_DRAIN_S": str(drain_s), "SLM_READER_GRACE_S": str(grace_s)}
    with started(data_dir, env=env) as first:
        stream = RunningStream(first, max_new_tokens=900, ignore_eos=True)
        begun = time.monotonic()
        assert first.stop(signal.SIGTERM) == 0
        took_s = time.monotonic() - begun
        assert "killing it" not in first.said
        frames = stream.frames()
    assert took_s < drain_s + 2 + 60, "60 s for a busy machine"
    assert "device_used" not in frames[-1], "the answer was too long to be finished"
    time.sleep(grace_s + 1)
    with started(data_dir, env=env, is_ready=Started.answers) as second:
        (job,) = second.client.get("/slm/jobs").json["jobs"]
        assert job["status"] == "queued"
        seen = {"Last-Event-ID": str(len(frames) - 1)}
        with requests.get(f"{second.url}/slm/jobs/{job['job_id']}/stream", headers=seen, stream=True) as resumed:
            rest = list(read_frames(resumed.iter_lines()))
    texts = [frame for frame in rest if "full_text" in frame]
    assert texts[0]["full_text"].startswith(frames[-1]["full_text"])
    assert rest[-1]["status"] == "Response complete!"


def test_two_workers_share_a_redis_that_is_not_ours(tmp_path: Path, models: Path, redis_server: RedisServer) -> None:
    env = {"SLM_REDIS_URL": redis_server.url}
    with started(new_data_dir(tmp_path / "data", models), "--workers", "2", env=env) as server:
        workers = server.client.get("/slm/info").json["workers"]
        assert len({worker["pid"] for worker in workers}) == 2
        assert not any("valkey-server" in word for child in server.processes() for word in child.cmdline())
        assert server.generate()["success"]


def gunicorn(address: str) -> list[str]:
    """As in the user's document, on port 5000."""
    return [sys.executable, "-m", "gunicorn", "-w", "2", "-b", address, "app:app"]


def test_gunicorn_serves_the_network_as_documented_if_there_are_keys(tmp_path: Path, models: Path) -> None:
    data_dir = new_data_dir(tmp_path / "data", models)
    port, env = free_port(), {"SLM_DATA_DIR": str(data_dir)}
    command = gunicorn(f"0.0.0.0:{port}")
    assert "there are no API keys" in refusal(port, env, command=command)
    create = [sys.executable, "-m", "slm", "keys", "create", "--name", "me", "--role", "admin"]
    key = subprocess.run(create, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=True).stdout
    with started(data_dir, command=command, port=port) as server:
        server.client = HttpClient(server.url, api_key=key.split()[-1])
        assert server.generate()["success"]
        assert HttpClient(server.url).get("/slm/info").status == 401
        assert len(server.child("app:app").children()) == 2
        processes = server.processes()
        assert server.stop(signal.SIGTERM) == 0
        assert are_gone(processes)


def refusal(port: int, env: dict[str, str], *arguments: str, command: list[str] | None = None) -> str:
    """Return the single line with which a start is refused."""
    done = subprocess.run(
        command or start(port, *arguments),
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=REFUSAL_S,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout == "", "nothing starts before it is clear that it can end"
    assert done.stderr.startswith("Cannot start: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_start_on_a_busy_port_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"port {port}" in refusal(port, {"SLM_DATA_DIR": str(tmp_path)})


def test_a_start_with_an_unwritable_data_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Cannot write to the data folder" in refusal(free_port(), {"SLM_DATA_DIR": str(tmp_path / "file" / "data")})


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("SLM_PROT", "5000", "SLM_PROT is not a setting"),
        ("SLM_MAX_NUM_SEQS", "many", "SLM_MAX_NUM_SEQS has the value 'many'"),
        ("SLM_REDIS_URL", "redis://127.0.0.1:9/0", "SLM_REDIS_URL"),
        ("SLM_BASE_MODEL", "./no/such/folder", "Base model './no/such/folder'"),
    ],
)
def test_a_start_with_a_wrong_setting_is_refused_with_its_name(
    tmp_path: Path, name: str, value: str, named: str
) -> None:
    assert named in refusal(free_port(), {"SLM_DATA_DIR": str(tmp_path), name: value})
