"""Parses the address of a Redis server and writes it in the URL forms of redis-py and of Celery.

redis-py and Celery's transport read URLs differently: a socket is `unix://` for redis-py and `redis+socket://` for
Celery, only one of them checks the server's certificate by default, and each ignores options that only the other
knows. So the same URL could lead the API to one database and the workers to another. Therefore an address is parsed
here once, and refused if both cannot use it in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

_SCHEMES = (
    "redis://, rediss:// (TLS), unix://, redis+socket://, sentinel://, sentinels:// (TLS), redis+cluster:// or "
    "rediss+cluster:// (TLS)"
)
_TLS_DEFAULTS = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
_TLS_VALUES = {"ssl_cert_reqs": ("required", "optional", "none"), "ssl_check_hostname": ("true", "false")}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_PORT, _SENTINEL_PORT = 6379, 26379
_UNREADABLE = "its host or port cannot be read; in a password, write %2F %23 %3F %40 %3A for / # ? @ :"


@dataclass(frozen=True, slots=True)
class SentinelService:
    """The Sentinels that know the primary called `master`; `user` and `password` are those of the Sentinels."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    user: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One server and database.

    `client_url` is for redis-py, `broker_url` for Celery. Both may hold a password. With `sentinel` or `cluster`,
    redis-py cannot read the URL: the server is the one that the Sentinels name, or that of the cluster (of which
    `cluster` has some nodes) which has our keys; `user`, `password` and `database` are for it. `tls` has redis-py's
    arguments for TLS, and is empty without it.
    """

    client_url: str
    broker_url: str
    tls: Mapping[str, str | bool] = field(default_factory=dict, hash=False)
    sentinel: SentinelService | None = None
    cluster: tuple[tuple[str, int], ...] = ()
    user: str | None = None
    password: str | None = None
    database: int = 0

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Parse a URL of one of the forms

            redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]
            rediss://…            the same with TLS; options: ssl_ca_certs=FILE, ssl_certfile, ssl_keyfile,
                                  ssl_cert_reqs=required|optional|none, ssl_check_hostname=true|false
            unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE]
            redis+socket://…      the same
            sentinel://[[USER]:PASSWORD@]HOST[:PORT],HOST[:PORT]…[/DATABASE]?master=NAME
                                  the hosts are Sentinels, the login and the database those of the server that they call
                                  NAME; options: sentinel_user, sentinel_password
            sentinels://…         the same with TLS to both, and its options
            redis+cluster://[[USER]:PASSWORD@]HOST[:PORT],HOST[:PORT]…
                                  the hosts are some nodes of a cluster
            rediss+cluster://…    the same with TLS, and its options

        Raises:
            ValueError: the URL has another form; the text says what is wrong, without the password.
        """
        parts = _split(url)
        match parts.scheme:
            case "redis" | "rediss":
                return _network(parts, parts.scheme)
            case "unix" | "redis+socket":
                return _socket(parts)
            case "sentinel" | "sentinels":
                return _sentinel(parts, parts.scheme)
            case "redis+cluster" | "rediss+cluster":
                return _cluster(parts, parts.scheme)
        raise ValueError(f"it must begin with {_SCHEMES}")

    @classmethod
    def of_socket(cls, path: str, user: str, password: str) -> RedisAddress:
        """Return the address of database 0 on a Unix socket."""
        return cls.parse(f"unix://{quote(user, safe='')}:{quote(password, safe='')}@{quote(path)}")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if not parts.scheme.startswith("sentinel") and not parts.scheme.endswith("+cluster"):
            _ = parts.port  # raises if it is not a number
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    if parts.fragment:
        raise ValueError("it contains a '#'; in a password, write %23")
    return parts


def _network(parts: SplitResult, scheme: Literal["redis", "rediss"]) -> RedisAddress:
    own, tls = _own_and_tls(parts, ("db",), is_tls=scheme == "rediss")
    database = _database([parts.path.removeprefix("/"), own["db"]])
    host = parts.hostname or "127.0.0.1"
    url = f"{scheme}://{_login(parts)}{_netloc(host, parts.port or _PORT)}/{database}{_query(tls)}"
    return RedisAddress(client_url=url, broker_url=url, tls=_typed(tls))


def _sentinel(parts: SplitResult, scheme: Literal["sentinel", "sentinels"]) -> RedisAddress:
    known = ("db", "master", "sentinel_user", "sentinel_password")
    own, tls = _own_and_tls(parts, known, is_tls=scheme == "sentinels")
    database, master = _database([parts.path.removeprefix("/"), own.pop("db")]), own.pop("master")
    if not master:
        raise ValueError("it lacks ?master=NAME, the name that the Sentinels monitor")
    hosts = _hosts(parts, _SENTINEL_PORT, "a Sentinel, as in sentinel://one:26379,two:26379/0?master=NAME")
    login, places = _login(parts), [_netloc(*place) for place in hosts]
    query = _query({"master": master} | {name: text for name, text in own.items() if text} | dict(tls))
    user, password = _user_and_password(login)
    return RedisAddress(
        client_url=f"{scheme}://{login}{','.join(places)}/{database}{query}",
        broker_url=";".join(f"sentinel://{login}{place}/{database}" for place in places),
        tls=_typed(tls),
        sentinel=SentinelService(hosts, master, own["sentinel_user"] or None, own["sentinel_password"] or None),
        user=user,
        password=password,
        database=database,
    )


def _cluster(parts: SplitResult, scheme: Literal["redis+cluster", "rediss+cluster"]) -> RedisAddress:
    tls = tls_options(parts, is_tls=scheme == "rediss+cluster")
    if _database([parts.path.removeprefix("/")]):
        raise ValueError("a cluster has only the database 0")
    hosts = _hosts(parts, _PORT, "a node, as in redis+cluster://one:6379,two:6379")
    login, places = _login(parts), [_netloc(*place) for place in hosts]
    user, password = _user_and_password(login)
    return RedisAddress(
        client_url=f"{scheme}://{login}{','.join(places)}/0{_query(tls)}",
        broker_url=f"redis://{login}{places[0]}/0",
        tls=_typed(tls),
        cluster=hosts,
        user=user,
        password=password,
    )


def _hosts(parts: SplitResult, port: int, what: str) -> tuple[tuple[str, int], ...]:
    """Return the hosts of a URL with their ports, each `port` if it has none; `what` says what is missing."""
    return tuple(_host(text, port, what) for text in parts.netloc.rpartition("@")[2].split(","))


def _host(text: str, default_port: int, what: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port or default_port
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    if not host:
        raise ValueError(f"it lacks the host of {what}")
    return host, port


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _user_and_password(login: str) -> tuple[str | None, str | None]:
    user, _, password = login.removesuffix("@").partition(":")
    return unquote(user) or None, unquote(password) or None


def _query(options: Mapping[str, str]) -> str:
    return f"?{urlencode(options)}" if options else ""


def _typed(tls: Mapping[str, str]) -> Mapping[str, str | bool]:
    """Return the options of TLS as redis-py's arguments."""
    return {name: text == "true" if name == "ssl_check_hostname" else text for name, text in tls.items()}


def _socket(parts: SplitResult) -> RedisAddress:
    options = _options(parts, known=("db", "virtual_host"))
    database = _database(options.values())
    path = unquote(parts.path)
    if parts.hostname or path in ("", "/"):
        raise ValueError("after the login, the path of a socket must begin with '/', as in unix:///run/redis.sock")
    socket = _login(parts) + quote(path)
    return RedisAddress(
        client_url=f"unix://{socket}?db={database}", broker_url=f"redis+socket://{socket}?virtual_host={database}"
    )


def tls_options(parts: SplitResult, *, is_tls: bool) -> Mapping[str, str]:
    """Return the options of TLS in a URL, with the defaults; empty if the URL is one without TLS.

    Raises:
        ValueError: the URL has other options, or one with an unknown value.
    """
    return _own_and_tls(parts, (), is_tls=is_tls)[1]


def _own_and_tls(parts: SplitResult, known: Sequence[str], *, is_tls: bool) -> tuple[dict[str, str], Mapping[str, str]]:
    """Return the known options of a URL, '' for those that it lacks, and its options of TLS."""
    options = _options(parts, known=(*known, *_TLS_VALUES, *_TLS_FILES) if is_tls else known)
    own = {name: options.pop(name, "") for name in known}
    return own, _checked_tls(_TLS_DEFAULTS | options) if is_tls else {}


def _options(parts: SplitResult, known: Iterable[str]) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"its option {unknown[0]!r} is not one of {', '.join(known)}")
    return options


def _checked_tls(options: Mapping[str, str]) -> Mapping[str, str]:
    for name, allowed in _TLS_VALUES.items():
        if options[name] not in allowed:
            raise ValueError(f"its option {name} is not one of {', '.join(allowed)}")
    return options


def _database(given: Iterable[str]) -> int:
    """Return the only number in `given`, ignoring empty entries; 0 if all are empty."""
    numbers = {text for text in given if text} or {"0"}
    if len(numbers) > 1 or not all(re.fullmatch(r"[0-9]{1,5}", text) for text in numbers):
        raise ValueError("its database must be one whole number, such as the 0 in redis://127.0.0.1:6379/0")
    return int(numbers.pop())


def _login(parts: SplitResult) -> str:
    """Return user and password, quoted again because Celery reads a plain ';' as the end of the URL."""
    login, found, _ = parts.netloc.rpartition("@")
    return ":".join(quote(unquote(part), safe="") for part in login.split(":", 1)) + found
