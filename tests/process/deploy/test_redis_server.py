"""The embedded Redis: who can reach it, and that two starts never share one."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import AuthenticationError

from common.owners.api_keys import ApiKeyStore
from common.redis.client import connect
from common.settings import ROOT, Settings
from deploy.data_folder import claim_data_dir
from deploy.redis import own_redis, redis_server
from deploy.redis.redis_server import MAX_SOCKET_PATH, find_server, socket_path
from deploy.setup.preflight import PreflightError
from tests.processes import wait_for

PAIRS = 10


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this process."""
    folder = Path(tempfile.mkdtemp(prefix="t"))  # short: a test's own folder would be too long for a socket
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def data_folder(temporary: Path) -> Path:
    folder = temporary / "data"
    claim_data_dir(folder).release()
    return folder


def test_the_redis_program_from_the_wheel_runs() -> None:
    done = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True)
    assert "server v=" in done.stdout


def test_it_listens_in_the_private_folder_and_nowhere_else(data_folder: Path) -> None:
    claim = claim_data_dir(data_folder)
    server = own_redis.embedded(Settings(data_dir=data_folder))
    with own_redis.running(server, claim.inherited) as redis:
        assert server.socket == data_folder / "redis.sock"
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
        assert redis.config_get("dir")["dir"] == str(data_folder / "redis")
        process = psutil.Process(redis.info("server")["process_id"])
        assert process.net_connections("inet") == []
    claim.release()


def test_a_path_too_long_for_a_socket_gets_a_private_folder_elsewhere(temporary: Path) -> None:
    folder = temporary / ("long" * 30)
    claim_data_dir(folder).release()
    path = socket_path(folder)
    assert path.parent.parent == temporary
    assert len(os.fsencode(path)) <= MAX_SOCKET_PATH
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert socket_path(folder) == path, "a later start leaves no second folder behind"
    other = temporary / ("LONG" * 30)
    claim_data_dir(other).release()
    assert socket_path(other) != path


def test_a_data_folder_that_others_can_enter_has_no_socket(data_folder: Path, temporary: Path) -> None:
    data_folder.chmod(0o755)  # as on a file system without permissions
    assert socket_path(data_folder).parent.parent == temporary
    assert socket_path(data_folder).parent != data_folder


def test_a_file_system_without_sockets_gets_one_elsewhere(
    data_folder: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    can_listen = redis_server._can_listen
    monkeypatch.setattr(redis_server, "_can_listen", lambda path: path.parent != data_folder and can_listen(path))
    assert socket_path(data_folder).parent.parent == temporary


@pytest.mark.parametrize(
    "squat", [lambda path: path.mkdir(0o777) or path.chmod(0o777), lambda path: path.symlink_to("/tmp")]
)
def test_a_folder_that_somebody_else_made_there_is_refused_with_a_reason(temporary: Path, squat: object) -> None:
    folder = temporary / ("long" * 30)
    claim_data_dir(folder).release()
    place = socket_path(folder).parent
    place.rmdir()
    squat(place)  # type: ignore[operator]
    with pytest.raises(PreflightError, match=f"{place} belongs to another user or is open to others"):
        socket_path(folder)


def test_a_socket_left_by_a_killed_server_does_no_harm(data_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(data_folder / "redis.sock"))
    assert socket_path(data_folder) == data_folder / "redis.sock"
    assert not (data_folder / "redis.sock").exists()


@contextmanager
def create_key(data_dir: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """The command that creates a key, and starts the data folder's Redis for it."""
    command = [sys.executable, "-m", "slm", "keys", "create", "--name", name]
    env = os.environ | {"SLM_DATA_DIR": str(data_dir)}
    yield subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def keys(data_dir: Path) -> list[str]:
    """The names of the keys in the data folder's Redis."""
    claim = claim_data_dir(data_dir)
    with own_redis.running(own_redis.embedded(Settings(data_dir=data_dir)), claim.inherited) as redis:
        names = [key.name for key in ApiKeyStore(redis).all()]
    claim.release()
    return names


@pytest.mark.timeout(600)
def test_ten_pairs_of_simultaneous_starts_never_share_a_redis(tmp_path: Path) -> None:
    for pair in range(PAIRS):
        folders = [tmp_path / f"{pair}{side}" for side in "ab"]
        with ExitStack() as both:
            started = [both.enter_context(create_key(folder, f"only-{folder.name}")) for folder in folders]
            for process in started:
                _, complaint = process.communicate(timeout=240)
                assert process.returncode == 0, complaint
        assert [keys(folder) for folder in folders] == [[f"only-{folder.name}"] for folder in folders]


@contextmanager
def strangers_redis(path: Path, folder: Path) -> Iterator[int]:
    """Start a Redis without a password at that socket; yields its process id."""
    folder.mkdir()
    where = ("--port", "0", "--unixsocket", path, "--dir", folder, "--save", "")
    with subprocess.Popen([find_server(), *where], stdout=subprocess.DEVNULL) as process:
        try:
            wait_for("the stranger's socket", path.exists)
            yield process.pid
        finally:
            process.kill()


def test_another_redis_at_our_address_is_replaced(data_folder: Path, tmp_path: Path) -> None:
    claim = claim_data_dir(data_folder)
    with strangers_redis(data_folder / "redis.sock", tmp_path / "strange") as stranger:
        server = own_redis.embedded(Settings(data_dir=data_folder))
        with own_redis.running(server, claim.inherited) as redis:
            assert redis.info("server")["process_id"] != stranger
            assert redis.config_get("dir")["dir"] == str(data_folder / "redis")
    claim.release()


def test_another_redis_that_takes_over_our_address_is_refused_with_a_reason(data_folder: Path, tmp_path: Path) -> None:
    claim = claim_data_dir(data_folder)
    late = tmp_path / "late"
    late.write_text("#!/bin/sh\nexec sleep 600\n")
    late.chmod(0o755)
    server = replace(own_redis.embedded(Settings(data_dir=data_folder)), program=late)  # ours has not bound yet
    with strangers_redis(server.socket, tmp_path / "strange"):
        with connect(server.url, retries=0) as redis, pytest.raises(AuthenticationError, match="invalid username"):
            redis.set("prompt", "secret")
        starting = own_redis.running(server, claim.inherited)
        with pytest.raises(PreflightError, match="Another server answers instead of this data folder's"), starting:
            pass
    claim.release()


def test_a_client_without_the_password_is_refused(data_folder: Path) -> None:
    claim = claim_data_dir(data_folder)
    server = own_redis.embedded(Settings(data_dir=data_folder))
    with own_redis.running(server, claim.inherited):
        for login in ("", ":draft token@", f"{server.user}:draft token@"):
            with Redis.from_url(f"unix://{login}{server.socket}") as stranger, pytest.raises(AuthenticationError):
                stranger.ping()
    claim.release()


def test_no_command_line_and_no_readable_file_contains_the_password(data_folder: Path) -> None:
    claim = claim_data_dir(data_folder)
    server = own_redis.embedded(Settings(data_dir=data_folder))
    assert server.password not in " ".join(server.command())
    assert stat.S_IMODE(server.config.stat().st_mode) == 0o600
    claim.release()
    claim = claim_data_dir(data_folder)
    assert own_redis.embedded(Settings(data_dir=data_folder)) == server, "a later start has the same"
    claim.release()


def test_a_damaged_log_is_mended_as_the_guide_says(temporary: Path) -> None:
    guide = (ROOT / "docs" / "operations.md").read_text("utf-8").partition("### A damaged log of Redis")[2]
    commands = guide.partition("```bash\n")[2].partition("```")[0].replace(".venv/bin/python", sys.executable)
    settings = Settings(data_dir=temporary / "data")
    with own_redis.reach(settings) as redis:
        for number in range(100):
            redis.set(f"key{number}", "x" * 100)
    [log] = (settings.data_dir / "redis" / "appendonlydir").glob("*.incr.aof")
    text = log.read_bytes()
    log.write_bytes(text[: len(text) // 2] + b"!" * 500 + text[len(text) // 2 :])
    with pytest.raises(PreflightError, match="does not start"), own_redis.reach(settings):
        pass
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", "-ec", commands], cwd=temporary, env=env, input=b"y\n", check=True, capture_output=True)
    with own_redis.reach(settings) as redis:
        assert 40 < redis.dbsize() < 60
