"""A client's URL is parsed once, and only unambiguous ones are accepted."""

from __future__ import annotations

import pytest

from api.schemas.webhook_target import Target


@pytest.mark.parametrize(
    ("url", "target", "host_header"),
    [
        ("http://example.org", Target("http", "example.org", 80, "/"), "example.org"),
        ("HTTPS://Example.ORG/a?b=c&d#e", Target("https", "example.org", 443, "/a?b=c&d"), "example.org"),
        ("https://example.org:443/", Target("https", "example.org", 443, "/"), "example.org"),
        ("http://example.org:8080?x", Target("http", "example.org", 8080, "/?x"), "example.org:8080"),
        ("https://[2606:4700::1]:8443/a", Target("https", "2606:4700::1", 8443, "/a"), "[2606:4700::1]:8443"),
        ("http://xn--e1afmkfd.xn--p1ai/", Target("http", "xn--e1afmkfd.xn--p1ai", 80, "/"), "xn--e1afmkfd.xn--p1ai"),
    ],
)
def test_a_url_has_its_parts(url: str, target: Target, host_header: str) -> None:
    assert Target.parse(url) == target
    assert target.host_header == host_header
    assert target.is_secure == url.lower().startswith("https")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1\\@example.org/",
        "http://example.org\\.evil.org/",
        "http://user@example.org/",
        "http://[fe80::1%25eth0]/",
        "http://exa\tmple.org/",
        "http://example.org/\r\nX: y",
        "http://example.org/ x",
        "http://ex%61mple.org/",
        f"http://{'a' * 64}.org/",
        "gopher://example.org/",
        "http:example.org",
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Target.parse(url)
