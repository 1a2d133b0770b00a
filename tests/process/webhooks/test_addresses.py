"""Which addresses are public, in all forms in which they can be written."""

from __future__ import annotations

import subprocess
import sys

import pytest

from api.webhooks.addresses import is_public, literal
from common.settings import ROOT

PRIVATE = [
    *["127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"],
    *["0.0.0.0", "0.1.2.3", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1"],
    *["224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"],
    *["::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "2001:db8::1", "100::1"],
    *["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808"],
    *["2002:7f00:1::", "2002:808:808::1", "2001::1"],
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808"]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_recognised(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_recognised(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f.1", "0177.0.0.1"])
def test_an_address_is_recognised_in_every_form_that_resolvers_accept(host: str) -> None:
    assert literal(host) == "127.0.0.1"


@pytest.mark.parametrize("host", ["example.org", "localhost", "1.2.3.4.example.org", "256.1.1.1"])
def test_a_name_is_not_an_address(host: str) -> None:
    assert literal(host) is None


BESIDE_STUCK_LOOK_UPS = """
from gevent import monkey
monkey.patch_all()
import gevent, os, time
from gevent.monkey import get_original
from api.webhooks.addresses import resolve

shared = gevent.get_hub().threadpool
for _ in range(shared.maxsize):  # look-ups of others, whose name servers never answer
    shared.spawn(get_original("time", "sleep"), 60)
print(resolve("localhost", 30.0))
try:
    resolve("nobody.invalid", 30.0)
except OSError as err:
    print(type(err).__name__)
os._exit(0)
"""


def test_lookups_do_not_wait_for_each_other_and_fail_silently() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BESIDE_STUCK_LOOK_UPS], cwd=ROOT, capture_output=True, text=True, timeout=50, check=True
    )
    addresses, error = done.stdout.splitlines()
    assert "127.0.0.1" in addresses or "::1" in addresses
    assert (error, done.stderr) == ("gaierror", "")
