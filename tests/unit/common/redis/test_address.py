"""One URL leads both libraries to the same database, or is refused without showing the password."""

from __future__ import annotations

import re

import pytest
from celery import Celery
from kombu import Connection
from kombu.utils.url import url_to_parts
from redis import ConnectionPool
from redis.connection import SSLConnection, UnixDomainSocketConnection

from common.queue import configure
from common.redis.address import RedisAddress, SentinelService
from common.redis.client import connect
from common.redis.sentinel import broker_options
from common.settings import Settings, SettingsError

GOOD = [
    "redis://127.0.0.1:6379/0",
    "redis://redis.example",
    "redis://:p%40s%2Fs;w%23rd@redis.example:7/3",
    "redis://ann:secret@[::1]:7?db=4",
    "rediss://:secret@redis.example/2",
    "rediss://redis.example?ssl_ca_certs=/etc/my%20ca.pem&ssl_check_hostname=false",
    "unix:///run/redis.sock",
    "unix://ann:se%40cret@/run/my%20folder/redis.sock?db=5",
    "redis+socket:///run/redis.sock?virtual_host=6",
]


SENTINELS = [
    "sentinel://one:1,two,[::1]:3/4?master=jobs",
    "sentinel://ann:se%40cret@one/0?master=jobs&sentinel_user=bo&sentinel_password=a%26b",
    "sentinels://:secret@one:1,two:2?master=jobs&ssl_ca_certs=/etc/my%20ca.pem",
]


def of_client(url: str) -> dict[str, object]:
    """Return where redis-py connects."""
    pool = ConnectionPool.from_url(RedisAddress.parse(url).client_url)
    found = pool.connection_kwargs
    place = found.get("path") or (found["host"], found["port"])
    is_tls = pool.connection_class is SSLConnection
    tls = (found["ssl_cert_reqs"], found["ssl_check_hostname"], found.get("ssl_ca_certs")) if is_tls else None
    return {"place": place, "db": found["db"], "login": (found.get("username"), found.get("password")), "tls": tls}


def of_celery(url: str) -> dict[str, object]:
    """Return where Celery's transport connects: the arguments that it would pass to redis-py."""
    channel = Connection(RedisAddress.parse(url).broker_url).transport.Channel
    connection = type(
        "FakeTransport", (), {"client": Connection(RedisAddress.parse(url).broker_url), "default_port": 0}
    )
    maker = channel.__new__(channel)
    maker.connection = connection
    found = maker._connparams()
    is_socket = issubclass(found["connection_class"], UnixDomainSocketConnection)
    is_tls = issubclass(found["connection_class"], SSLConnection)
    place = found["path"] if is_socket else (found["host"], found["port"])
    required = {"CERT_REQUIRED": "required"}
    tls = (
        (required[found["ssl_cert_reqs"].name], found["ssl_check_hostname"], found.get("ssl_ca_certs"))
        if is_tls
        else None
    )
    return {"place": place, "db": found["db"], "login": (found.get("username"), found.get("password")), "tls": tls}


@pytest.mark.parametrize("url", GOOD)
def test_both_libraries_use_the_same_database(url: str) -> None:
    assert of_celery(url) == of_client(url)


def test_tls_without_options_checks_the_certificate_in_both() -> None:
    assert of_celery("rediss://redis.example")["tls"] == of_client("rediss://redis.example")["tls"]
    assert of_client("rediss://redis.example")["tls"] == ("required", True, None)


def test_reading_an_address_again_changes_nothing() -> None:
    for url in GOOD:
        once = RedisAddress.parse(url)
        assert RedisAddress.parse(once.client_url) == once
        assert RedisAddress.parse(once.broker_url) == once


@pytest.mark.parametrize("url", SENTINELS)
def test_both_libraries_ask_the_same_sentinels_for_the_same_database(url: str) -> None:
    address = RedisAddress.parse(url)
    assert RedisAddress.parse(address.client_url) == address
    assert address.sentinel is not None
    ours = connect(url).connection_pool.connection_kwargs
    celery = Connection(address.broker_url, ssl=dict(address.tls), transport_options=broker_options(address))
    channel = celery.transport.Channel.__new__(celery.transport.Channel)
    channel.connection = type("FakeTransport", (), {"client": celery, "default_port": 0})
    theirs = channel._connparams()
    hosts = tuple((parts.hostname, parts.port) for parts in map(url_to_parts, celery.alt or [address.broker_url]))
    assert hosts == address.sentinel.hosts
    names = ("username", "password", "db", *address.tls)
    assert [ours.get(name) for name in names] == [theirs.get(name) for name in names]
    assert issubclass(theirs["connection_class"], SSLConnection) == bool(address.tls)


def test_the_sentinels_have_a_login_of_their_own() -> None:
    found = RedisAddress.parse(SENTINELS[1])
    assert found.sentinel == SentinelService((("one", 26379),), "jobs", "bo", "a&b")
    assert (found.user, found.password) == ("ann", "se@cret")


CLUSTERS = [
    "redis+cluster://one:1,two,[::1]:3",
    "redis+cluster://ann:se%40cret@one/0",
    "rediss+cluster://:secret@one:1,two:2?ssl_ca_certs=/etc/my%20ca.pem",
]


@pytest.mark.parametrize("url", CLUSTERS)
def test_both_libraries_ask_the_same_nodes_of_a_cluster(url: str) -> None:
    address = RedisAddress.parse(url)
    assert RedisAddress.parse(address.client_url) == address
    ours = connect(url).connection_pool.connection_kwargs
    app = configure(Celery(), Settings(redis_url=url))
    connection = app.connection_for_write()
    channel = connection.transport.Channel.__new__(connection.transport.Channel)
    channel.connection = type("FakeTransport", (), {"client": connection, "default_port": 0})
    channel.cluster_nodes = connection.transport_options["cluster_nodes"]
    theirs = channel._connparams()
    names = ("username", "password", "db", *address.tls)
    assert [ours.get(name) for name in names] == [theirs.get(name) for name in names]
    assert issubclass(theirs["connection_class"], SSLConnection) == bool(address.tls)
    owners = [found["find_primary"] for found in (ours, theirs)]
    assert [owner._given for owner in owners] == [list(address.cluster)] * 2
    options = [{name: value for name, value in owner._options.items() if name != "retry"} for owner in owners]
    assert options[0] == options[1]


def test_a_path_is_quoted() -> None:
    assert (
        RedisAddress.of_socket("/a b/%/redis.sock", "ann", "s").client_url == "unix://ann:s@/a%20b/%25/redis.sock?db=0"
    )


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must begin with redis://"),
        ("http://127.0.0.1:6379", "must begin with redis://"),
        ("sentinel://redis.example", "?master=NAME"),
        ("sentinel:///0?master=jobs", "lacks the host"),
        ("sentinel://one:70000?master=jobs", "host or port"),
        ("redis+cluster:///0", "lacks the host of a node"),
        ("redis+cluster://one:70000", "host or port"),
        ("redis+cluster://one/1", "only the database 0"),
        ("redis+cluster://one?ssl_cert_reqs=none", "'ssl_cert_reqs'"),
        ("sentinel://one?master=jobs&ssl_cert_reqs=none", "'ssl_cert_reqs'"),
        ("redis://redis.example/jobs", "its database"),
        ("redis://redis.example/1?db=2", "its database"),
        ("redis://redis.example?socket_timeout=3", "'socket_timeout'"),
        ("redis://redis.example?ssl_cert_reqs=none", "'ssl_cert_reqs'"),
        ("rediss://redis.example?ssl_cert_reqs=maybe", "required, optional, none"),
        ("redis://redis.example:70000", "port"),
        ("redis://:pass/word@redis.example", "%2F"),
        ("redis://redis.example/0#1", "%23"),
        ("unix://run/redis.sock", "unix:///run/redis.sock"),
        ("unix://", "unix:///run/redis.sock"),
    ],
)
def test_an_address_that_both_cannot_use_is_refused_with_a_reason(
    monkeypatch: pytest.MonkeyPatch, url: str, why: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(why)) as caught:
        RedisAddress.parse(url)
    assert "pass" not in str(caught.value).replace("password", "")
    if url:
        monkeypatch.setenv("SLM_REDIS_URL", url)
        with pytest.raises(SettingsError, match=r"SLM_REDIS_URL has the value \*\*\*: .*") as refused:
            Settings.from_env()
        assert why in str(refused.value)


def test_a_process_without_the_address_of_redis_reports_it() -> None:
    with pytest.raises(SettingsError, match="SLM_REDIS_URL is not set"):
        Settings().required_redis_url()
