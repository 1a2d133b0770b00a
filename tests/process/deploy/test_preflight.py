from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from common.network import is_loopback
from common.owners.api_keys import ApiKeyStore, Role
from common.settings import Settings
from deploy.setup.preflight import PreflightError, check_access, check_port_free, check_redis
from tests.fake_redis import fake_redis
from tests.free_port import free_port

LOOPBACK = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server


def test_a_port_that_nobody_uses_is_free() -> None:
    check_port_free(LOOPBACK, free_port())


def test_a_busy_port_gives_one_line_that_names_it(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(PreflightError, match=f"port {port} .*in use.*--port"):
        check_port_free(LOOPBACK, port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours_is_named(host: str) -> None:
    with pytest.raises(PreflightError, match=host):
        check_port_free(host, 5000)


def test_an_unreachable_redis_gives_one_line_that_says_what_to_do() -> None:
    with pytest.raises(PreflightError, match="SLM_REDIS_URL") as caught:
        check_redis(f"redis://{LOOPBACK}:{free_port()}/0")
    assert "\n" not in str(caught.value)


def test_an_address_that_is_not_a_redis_url_is_refused() -> None:
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
def test_only_loopback_addresses_count_as_loopback(host: str, expected: bool) -> None:
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
def test_other_machines_are_served_only_with_keys_or_if_the_operator_says_so(
    settings: Settings, has_key: bool, may_start: bool
) -> None:
    redis = fake_redis()
    if has_key:
        ApiKeyStore(redis).create("ann", Role.USER)
    if may_start:
        check_access(settings, redis)
    else:
        with pytest.raises(PreflightError, match=r"no API keys.*slm keys create.*--insecure"):
            check_access(settings, redis)
