"""Parses the address of a Redis server and writes it in the URL forms of redis-py and of Celery.

redis-py and Celery's transport read URLs differently: a socket is `unix://` for redis-py and `redis+socket://` for
Celery, only one of them checks the server's certificate by default, and each ignores options that only the other
knows. So the same URL could lead the API to one database and the workers to another. Therefore an address is parsed
here once, and refused if both cannot use it in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

_SCHEMES = "redis://, rediss:// (TLS), unix:// or redis+socket://"
_TLS_DEFAULTS = {"ssl_cert_reqs": "required", "ssl_check_hostname": "true"}
_TLS_VALUES = {"ssl_cert_reqs": ("required", "optional", "none"), "ssl_check_hostname": ("true", "false")}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One server and database.

    `client_url` is for redis-py, `broker_url` for Celery. Both may hold a password.
    """

    client_url: str
    broker_url: str

    @classmethod
    def parse(cls, url: str) -> RedisAddress:
        """Parse a URL of one of the forms

            redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]
            rediss://…            the same with TLS; options: ssl_ca_certs=FILE, ssl_certfile, ssl_keyfile,
                                  ssl_cert_reqs=required|optional|none, ssl_check_hostname=true|false
            unix://[[USER]:PASSWORD@]/PATH[?db=DATABASE]
            redis+socket://…      the same

        Raises:
            ValueError: the URL has another form; the text says what is wrong, without the password.
        """
        parts = _split(url)
        match parts.scheme:
            case "redis" | "rediss":
                return _network(parts, parts.scheme)
            case "unix" | "redis+socket":
                return _socket(parts)
        raise ValueError(f"it must begin with {_SCHEMES}")

    @classmethod
    def of_socket(cls, path: str, user: str, password: str) -> RedisAddress:
        """Return the address of database 0 on a Unix socket."""
        return cls.parse(f"unix://{quote(user, safe='')}:{quote(password, safe='')}@{quote(path)}")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is not a number
    except ValueError:
        raise ValueError(
            "its host or port cannot be read; in a password, write %2F %23 %3F %40 %3A for / # ? @ :"
        ) from None
    if parts.fragment:
        raise ValueError("it contains a '#'; in a password, write %23")
    return parts


def _network(parts: SplitResult, scheme: Literal["redis", "rediss"]) -> RedisAddress:
    options = _options(parts, known=("db", *_TLS_VALUES, *_TLS_FILES) if scheme == "rediss" else ("db",))
    database = _database([parts.path.removeprefix("/"), options.pop("db", "")])
    host = parts.hostname or "127.0.0.1"
    netloc = f"[{host}]" if ":" in host else host
    query = f"?{urlencode(_checked_tls(_TLS_DEFAULTS | options))}" if scheme == "rediss" else ""
    url = f"{scheme}://{_login(parts)}{netloc}:{parts.port or 6379}/{database}{query}"
    return RedisAddress(client_url=url, broker_url=url)


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
