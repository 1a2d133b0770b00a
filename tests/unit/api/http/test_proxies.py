"""Whose address a request has behind proxies (SLM_PROXIES)."""

from __future__ import annotations

import pytest
from flask import request

from tests.unit.api.conftest import StartApi

CLAIMED, CLIENT, PROXY = "203.0.113.9", "198.51.100.7", "10.0.0.2"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, CLIENT, "127.0.0.1"),
        (1, CLIENT, CLIENT),
        (1, f"{CLAIMED}, {CLIENT}", CLIENT),
        (2, f"{CLAIMED}, {CLIENT}, {PROXY}", CLIENT),
        (1, None, "127.0.0.1"),
    ],
    ids=["none", "one", "one-and-a-claim", "two-and-a-claim", "not-by-the-proxy"],
)
def test_only_what_the_proxies_add_counts(
    start_api: StartApi, proxies: int, forwarded: str | None, address: str
) -> None:
    api = start_api(proxies=proxies)
    seen = []
    api.client.application.before_request_funcs.setdefault(None, []).append(lambda: seen.append(request.remote_addr))
    api.client.get("/healthz", headers={} if forwarded is None else {"X-Forwarded-For": forwarded})
    assert seen == [address]
