from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from common.settings import ROOT, Settings
from deploy import stack
from deploy.redis_server import EmbeddedRedis
from deploy.stack import Stack
from deploy.welcome import base_url, welcome

EXTERNAL = "redis://:secret@redis.invalid:6379/0"


def make_stack(tmp_path: Path, *, workers: int = 1, external: bool = False, **settings: object) -> Stack:
    redis = EmbeddedRedis(Path("/bin/valkey-server"), tmp_path / "redis", 16379, "always")
    made = Settings.model_validate({"data_dir": tmp_path, "redis_url": EXTERNAL, **settings})
    return Stack(made, workers, None if external else redis, lock=3)


def test_redis_starts_first_and_stops_last(tmp_path: Path) -> None:
    children = make_stack(tmp_path, workers=2).children()
    assert [child.name for child in children] == ["redis", "api", "worker-1", "worker-2"]
    assert [child.stop_order for child in children] == [1, 0, 0, 0]


def test_a_redis_that_is_not_ours_is_neither_started_nor_renamed(tmp_path: Path) -> None:
    outside = make_stack(tmp_path, external=True)
    assert [child.name for child in outside.children()] == ["api", "worker-1"]
    assert {child.env["SLM_REDIS_URL"] for child in outside.children()} == {EXTERNAL}


def test_the_processes_find_the_embedded_redis(tmp_path: Path) -> None:
    environments = [child.env for child in make_stack(tmp_path).children()]
    assert {env["SLM_REDIS_URL"] for env in environments} == {"redis://127.0.0.1:16379/0"}
    assert {env["SLM_DATA_DIR"] for env in environments} == {str(tmp_path)}


def test_redis_listens_on_loopback_logs_each_write_and_evicts_nothing(tmp_path: Path) -> None:
    command = " ".join(make_stack(tmp_path).children()[0].argv)
    assert "--bind 127.0.0.1 --port 16379" in command
    assert "--appendonly yes --appendfsync always" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_api_and_the_workers_run_in_the_projects_folder_with_its_python(tmp_path: Path) -> None:
    _, api, worker = make_stack(tmp_path).children()
    assert api.folder == worker.folder == ROOT
    assert api.argv == (sys.executable, "-m", "gunicorn", "--config", "api/gunicorn_conf.py", "api.wsgi:create_app()")
    celery = "-m celery -A worker.app worker --hostname slm1@%h --without-mingle --without-gossip --loglevel INFO"
    assert worker.argv == (sys.executable, *celery.split())


def test_every_worker_of_a_host_has_its_own_name(tmp_path: Path) -> None:
    hostnames = {
        child.argv[child.argv.index("--hostname") + 1] for child in make_stack(tmp_path, workers=3).children()[2:]
    }
    assert hostnames == {"slm1@%h", "slm2@%h", "slm3@%h"}


def test_the_grace_covers_draining_and_handing_over(tmp_path: Path) -> None:
    _, api, worker = make_stack(tmp_path, drain_s=60, lease_s=10).children()
    assert worker.stop_grace_s > 70
    assert api.stop_grace_s > 60


def test_a_worker_that_lost_its_supervisor_is_killed_and_redis_writes_its_log_out(tmp_path: Path) -> None:
    redis, api, worker = make_stack(tmp_path).children()
    assert worker.orphan_signal == signal.SIGKILL
    assert redis.orphan_signal == api.orphan_signal == signal.SIGTERM


def test_every_process_holds_the_lock_of_the_data_folder(tmp_path: Path) -> None:
    assert {child.inherited_fds for child in make_stack(tmp_path).children()} == {(3,)}


@pytest.mark.parametrize(("workers", "cores", "threads"), [(2, 8, "4"), (3, 8, "2"), (4, 2, "1")])
def test_workers_share_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, cores: int, threads: str
) -> None:
    monkeypatch.setattr(stack, "usable_cores", lambda: cores)
    assert make_stack(tmp_path, workers=workers).environment({})["SLM_THREADS"] == threads


def test_threads_that_were_set_stay_and_one_worker_decides_for_itself(tmp_path: Path) -> None:
    assert make_stack(tmp_path, workers=2).environment({"SLM_THREADS": "7"})["SLM_THREADS"] == "7"
    assert "SLM_THREADS" not in make_stack(tmp_path).environment({})


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
    assert "celery --broker=redis://127.0.0.1:16379/0 flower" in text
    assert str(tmp_path / "logs") in text


def test_the_welcome_does_not_show_the_password_of_a_redis_that_is_not_ours(tmp_path: Path) -> None:
    text = welcome(make_stack(tmp_path, external=True))
    assert "secret" not in text
    assert '--broker="$SLM_REDIS_URL" flower' in text
