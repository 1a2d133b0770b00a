"""Parses the address of a RabbitMQ server and writes it as Celery needs it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from common.redis.address import tls_options

_REQUIRED = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}
_FILES = {"ssl_ca_certs": "ca_certs", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile"}


@dataclass(frozen=True, slots=True)
class RabbitAddress:
    """One server and virtual host. `url` may hold a password. `tls` has py-amqp's arguments; empty without TLS."""

    url: str
    tls: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def parse(cls, url: str) -> RabbitAddress:
        """Parse `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps://…` with the options of TLS of `RedisAddress`.

        py-amqp by itself accepts a certificate for any host.

        Raises:
            ValueError: the URL has another form; the text says what is wrong, without the password.
        """
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError if it is out of range
        given = tls_options(parts, is_tls=parts.scheme == "amqps")
        plain = parts._replace(query="").geturl()
        if not given:
            return cls(plain)
        is_checked = given["ssl_cert_reqs"] != "none" and given["ssl_check_hostname"] == "true"
        names = {"server_hostname": parts.hostname} if is_checked else {}
        files = {theirs: given[ours] for ours, theirs in _FILES.items() if ours in given}
        return cls(plain, {"cert_reqs": _REQUIRED[given["ssl_cert_reqs"]], **names, **files})
