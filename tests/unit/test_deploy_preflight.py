from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest

from common.api_keys import ApiKeyStore, Role
from common.network import is_loopback
from common.settings import Settings
from deploy.preflight import (
    PreflightError,
    announced_redis,
    check_access,
    check_port_free,
    check_redis,
    claim_data_dir,
)
from deploy.redis_server import find_server, free_port

LOOPBACK = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server


def test_a_port_that_nobody_uses_is_free() -> None:
    check_port_free(LOOPBACK, free_port(0))


def test_a_busy_port_is_one_line_that_names_it(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(PreflightError, match=f"port {port} .*in use.*--port"):
        check_port_free(LOOPBACK, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(PreflightError, match=host):
        check_port_free(host, 5000)


def test_the_data_folder_is_made_and_taken_and_free_again_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    claim_data_dir(folder).release()
    claim_data_dir(folder).release()
    assert (folder / "start.lock").read_text() == str(os.getpid())


def test_a_data_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PreflightError, match=r"Cannot write to the data folder .*SLM_DATA_DIR"):
        claim_data_dir(tmp_path / "file" / "data")


def test_a_data_folder_in_use_names_the_process_that_has_it(tmp_path: Path) -> None:
    claim = claim_data_dir(tmp_path)
    with pytest.raises(PreflightError, match=f"process {os.getpid()}.*{tmp_path}"):
        claim_data_dir(tmp_path, leftovers_s=3600)
    claim.release()


def test_the_processes_of_a_killed_start_are_given_time_to_end(tmp_path: Path) -> None:
    killed = claim_data_dir(tmp_path)
    os.close(killed.own)
    threading.Timer(0.3, os.close, [killed.inherited]).start()
    claim_data_dir(tmp_path).release()


def test_processes_of_a_killed_start_that_do_not_end_keep_the_folder(tmp_path: Path) -> None:
    killed = claim_data_dir(tmp_path)
    os.close(killed.own)
    with pytest.raises(PreflightError, match="Another start"):
        claim_data_dir(tmp_path, leftovers_s=0.2)
    os.close(killed.inherited)


def test_an_unreachable_redis_is_one_line_that_says_what_to_do() -> None:
    with pytest.raises(PreflightError, match="SLM_REDIS_URL") as caught:
        check_redis(f"redis://{LOOPBACK}:{free_port(0)}/0")
    assert "\n" not in str(caught.value)


def test_an_address_that_is_no_redis_url_is_refused() -> None:
    with pytest.raises(PreflightError, match="SLM_REDIS_URL"):
        check_redis("http://127.0.0.1:6379")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("127.example.org", False),
        ("localhost.example.org", False),
    ],
)
def test_only_addresses_of_loopback_are_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("settings", "has_key", "may_start"),
    [
        (Settings(), False, True),
        (Settings(host="0.0.0.0"), False, False),
        (Settings(host="0.0.0.0"), True, True),
        (Settings(host="0.0.0.0", insecure=True), False, True),
        (Settings(host="0.0.0.0", published_host="127.0.0.1"), False, True),
        (Settings(host="0.0.0.0", published_host="192.0.2.7"), False, False),
    ],
)
def test_other_machines_are_served_with_keys_or_on_the_operators_word(
    settings: Settings, has_key: bool, may_start: bool
) -> None:
    redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(), decode_responses=True)
    if has_key:
        ApiKeyStore(redis).create("ann", Role.USER)
    if may_start:
        check_access(settings, redis)
    else:
        with pytest.raises(PreflightError, match=r"no API keys.*deploy\.keys create.*--insecure"):
            check_access(settings, redis)


def test_a_running_server_tells_where_its_redis_is(tmp_path: Path) -> None:
    assert announced_redis(tmp_path) is None
    claim = claim_data_dir(tmp_path)
    with pytest.raises(PreflightError, match="try again"):
        announced_redis(tmp_path)
    claim.announce("redis://127.0.0.1:7/0")
    assert announced_redis(tmp_path) == "redis://127.0.0.1:7/0"
    with pytest.raises(PreflightError, match=f"process {os.getpid()}\\)"):
        claim_data_dir(tmp_path)
    claim.release()
    assert announced_redis(tmp_path) is None
    claim_data_dir(tmp_path).release()
    assert announced_redis(tmp_path) is None  # what the last server said is no address of this one


def test_the_preferred_port_is_taken_when_free_and_another_when_not(listener: socket.socket) -> None:
    busy = listener.getsockname()[1]
    assert free_port(busy) != busy
    preferred = free_port(0)
    assert free_port(preferred) == preferred


def test_the_redis_program_of_the_wheel_runs() -> None:
    done = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True)
    assert "server v=" in done.stdout
