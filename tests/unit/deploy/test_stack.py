from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from common.queue import EMBED_QUEUE, TRAIN_QUEUE
from common.settings import ROOT, Settings
from deploy.processes import stack
from deploy.processes.stack import Stack
from deploy.processes.welcome import base_url, welcome
from deploy.redis.redis_server import EmbeddedRedis

EXTERNAL = "redis://:secret@redis.invalid:6379/0"


def make_stack(tmp_path: Path, *, workers: int = 1, external: bool = False, **settings: object) -> Stack:
    socket, config = tmp_path / "redis.sock", tmp_path / "redis.conf"
    redis = EmbeddedRedis(Path("/bin/valkey-server"), tmp_path / "redis", socket, config, "ann", "pass", "always")
    made = Settings.model_validate({"data_dir": tmp_path, "redis_url": EXTERNAL if external else None, **settings})
    return Stack(made, workers, None if external else redis, lock=3, installation="abc123")


def test_redis_starts_first_and_stops_last(tmp_path: Path) -> None:
    children = make_stack(tmp_path, workers=2).children()
    assert [child.name for child in children] == ["redis", "api", "worker-1", "worker-2", "trainer"]
    assert [child.stop_order for child in children] == [1, 0, 0, 0, 0]


def test_an_external_redis_is_neither_started_nor_renamed(tmp_path: Path) -> None:
    outside = make_stack(tmp_path, external=True)
    assert [child.name for child in outside.children()] == ["api", "worker-1", "trainer"]
    assert {child.env["SLM_REDIS_URL"] for child in outside.children()} == {EXTERNAL}


def test_the_processes_find_the_embedded_redis(tmp_path: Path) -> None:
    environments = [child.env for child in make_stack(tmp_path).children()]
    assert {env["SLM_REDIS_URL"] for env in environments} == {f"unix://ann:pass@{tmp_path}/redis.sock?db=0"}
    assert {env["SLM_DATA_DIR"] for env in environments} == {str(tmp_path)}


def test_redis_listens_on_its_socket_logs_each_write_and_evicts_nothing(tmp_path: Path) -> None:
    command = " ".join(make_stack(tmp_path).children()[0].argv)
    assert f"/bin/valkey-server {tmp_path}/redis.conf --port 0 --unixsocket {tmp_path}/redis.sock" in command
    assert "--appendonly yes --appendfsync always" in command
    assert "--maxmemory-policy noeviction" in command


def memory_of(redis: EmbeddedRedis) -> int:
    command = redis.command()
    return int(command[command.index("--maxmemory") + 1])


def test_redis_respects_its_memory_limit(tmp_path: Path) -> None:
    """Without a limit a few clients could make the machine swap, or the system end the server."""
    usual = make_stack(tmp_path).redis
    assert usual is not None
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert memory_of(usual) == machine // 4
    assert memory_of(replace(usual, memory=100_000_000)) == 100_000_000


def test_the_api_and_the_workers_run_in_the_projects_folder_with_its_python(tmp_path: Path) -> None:
    _, api, worker, _ = make_stack(tmp_path).children()
    assert api.folder == worker.folder == ROOT
    assert api.argv == (sys.executable, "-m", "gunicorn", "--config", "api/gunicorn_conf.py", "api.wsgi:create_app()")
    options = "--hostname slm1-abc123@%h --without-mingle --without-gossip --loglevel INFO"
    assert worker.argv == (sys.executable, *f"-m worker.celery -A worker.app worker {options}".split())


def test_an_embedder_starts_if_there_is_a_model_for_it(tmp_path: Path) -> None:
    *_, embedder = make_stack(tmp_path, embed_model="/models/minilm").children()
    assert embedder.name == "embedder"
    assert embedder.env["SLM_EMBED_MODEL"] == "/models/minilm"
    assert embedder.argv[embedder.argv.index("--queues") + 1] == EMBED_QUEUE
    assert "embedder" not in [child.name for child in make_stack(tmp_path).children()]


def test_a_trainer_can_be_left_out_and_reads_only_its_own_queue(tmp_path: Path) -> None:
    trainer = make_stack(tmp_path).children()[-1]
    assert trainer.argv[trainer.argv.index("--queues") + 1] == TRAIN_QUEUE
    assert trainer.argv[trainer.argv.index("--hostname") + 1] == "trainer1-abc123@%h"
    assert "trainer" not in [child.name for child in make_stack(tmp_path, trainer=False).children()]


def test_every_worker_of_a_host_has_its_own_name_also_among_installations(tmp_path: Path) -> None:
    _, _, *workers = make_stack(tmp_path, workers=3, trainer=False).children()
    hostnames = {child.argv[child.argv.index("--hostname") + 1] for child in workers}
    assert hostnames == {"slm1-abc123@%h", "slm2-abc123@%h", "slm3-abc123@%h"}


@pytest.mark.parametrize("external", [True, False])
def test_no_command_line_contains_a_password(tmp_path: Path, external: bool) -> None:
    stack = make_stack(tmp_path, external=external)
    words = " ".join(word for child in stack.children() for word in child.argv) + welcome(stack)
    assert "secret" not in words
    assert "pass" not in words


def test_the_grace_covers_draining_and_releasing(tmp_path: Path) -> None:
    _, api, worker, _ = make_stack(tmp_path, drain_s=60, lease_s=10).children()
    assert worker.stop_grace_s > 70
    assert api.stop_grace_s > 60


def test_processes_without_a_supervisor_are_killed_after_redis_has_written_its_log(tmp_path: Path) -> None:
    redis, api, worker, _ = make_stack(tmp_path).children()
    assert api.orphan_signal == worker.orphan_signal == signal.SIGKILL
    assert redis.orphan_signal == signal.SIGTERM


def test_every_process_holds_the_lock_of_the_data_folder(tmp_path: Path) -> None:
    assert {child.inherited_fds for child in make_stack(tmp_path).children()} == {(3,)}


@pytest.mark.parametrize(("workers", "cores", "threads"), [(2, 8, "4"), (3, 8, "2"), (4, 2, "1")])
def test_workers_share_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, cores: int, threads: str
) -> None:
    monkeypatch.setattr(stack, "usable_cores", lambda: cores)
    assert make_stack(tmp_path, workers=workers).environment({})["SLM_THREADS"] == threads


def test_a_set_number_of_threads_is_kept_and_one_worker_decides_for_itself(tmp_path: Path) -> None:
    assert make_stack(tmp_path, workers=2).environment({"SLM_THREADS": "7"})["SLM_THREADS"] == "7"
    assert "SLM_THREADS" not in make_stack(tmp_path).environment({})


def test_the_processes_see_the_settings_and_no_variables_of_libraries(tmp_path: Path) -> None:
    shell = {
        "SLM_MAX_NUM_SEQS": "4",
        "PATH": "/bin",
        "CELERY_BROKER_URL": "redis://stranger",
        "GUNICORN_CMD_ARGS": "-b :80",
    }
    environment = make_stack(tmp_path).environment(shell)
    assert {name for name in environment if not name.startswith("SLM_")} == {"PATH", "PYTHONUNBUFFERED"}
    assert environment["SLM_MAX_NUM_SEQS"] == "4"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),
        ("::", "http://[::1]:8080"),
        ("slm.example", "http://slm.example:8080"),
    ],
)
def test_the_address_shown_is_one_that_can_be_opened(host: str, url: str) -> None:
    assert base_url(Settings(host=host, port=8080)) == url


def test_the_welcome_shows_what_to_try_next(tmp_path: Path) -> None:
    text = welcome(make_stack(tmp_path, port=8080))
    for path in ("/", "/slm/generate", "/slm/stream", "/slm/info"):
        assert f"http://127.0.0.1:8080{path}" in text
    assert f'CELERY_BROKER_URL="$(cat {tmp_path}/broker.url)" {sys.executable} -m celery flower' in text
    assert str(tmp_path / "logs") in text


BASES = "smol=SmolLM2-135M-Instruct; chat=/models/qwen,workers=2"


def test_each_base_model_gets_its_workers(tmp_path: Path) -> None:
    made = make_stack(tmp_path, models=BASES)
    workers = {child.name: child for child in made.children() if child.name.startswith("worker")}
    assert {name: child.env["SLM_WORKER_BASE"] for name, child in workers.items()} == {
        "worker-smol-1": "smol",
        "worker-chat-1": "chat",
        "worker-chat-2": "chat",
    }
    hosts = [child.argv[child.argv.index("--hostname") + 1] for child in workers.values()]
    assert hosts == ["slm-smol-1-abc123@%h", "slm-chat-2-abc123@%h", "slm-chat-3-abc123@%h"]
    assert {child.env["SLM_MODELS"] for child in workers.values()} == {BASES}
    assert "SLM_WORKER_BASE" not in made.children()[1].env, "the API serves all"


def test_the_number_of_workers_counts_for_bases_without_one_of_their_own(tmp_path: Path) -> None:
    assert make_stack(tmp_path, workers=2, models=BASES).worker_names == [
        "worker-smol-1",
        "worker-smol-2",
        "worker-chat-1",
        "worker-chat-2",
    ]


def test_one_base_model_is_started_as_ever(tmp_path: Path) -> None:
    worker = make_stack(tmp_path, trainer=False).children()[-1]
    assert worker.name == "worker-1"
    assert worker.argv[worker.argv.index("--hostname") + 1] == "slm1-abc123@%h"
    assert "SLM_WORKER_BASE" not in worker.env
