"""How commands are written for a cluster: every key in one slot, everything else as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from redis.crc import key_slot

import common.redis
from common.redis import cluster
from common.redis.cluster import in_slot

LUA = Path(common.redis.__file__).parent / "lua"


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("GET slm:aliases", "GET {slm}:aliases"),
        ("HSET slm:job:1 slm:field slm:value", "HSET {slm}:job:1 slm:field slm:value"),
        ("DEL slm:a slm:b", "DEL {slm}:a {slm}:b"),
        ("BRPOP slm slm.control 1", "BRPOP {slm}:slm {slm}:slm.control 1"),
        ("RENAME slm:a slm:b", "RENAME {slm}:a {slm}:b"),
        ("LLEN {slm}:slm", "LLEN {slm}:slm"),  # Celery's transport writes its names itself
        ("EVALSHA 12ab 0 slm:argument", "EVALSHA 12ab 1 {slm} slm:argument"),
        ("EVALSHA 12ab 2 slm:a slm:b slm:argument", "EVALSHA 12ab 2 {slm}:a {slm}:b slm:argument"),
        ("PUBLISH slm:control slm:text", "PUBLISH slm:control slm:text"),
        ("SCRIPT LOAD slm:text", "SCRIPT LOAD slm:text"),
        ("hget slm:a b", "hget {slm}:a b"),
        ("MULTI", "MULTI"),
    ],
    ids=str,
)
def test_keys_are_written_into_the_slot(command: str, written: str) -> None:
    assert " ".join(map(str, in_slot(command.split()))) == written


def test_all_names_have_the_hash_tag() -> None:
    assert {key_slot(str(in_slot(["GET", name])[1]).encode()) for name in ("slm:lanes", "slm", "_kombu.binding.x")} == {
        cluster.SLOT
    }


def test_scripts_build_their_keys_from_the_one_that_they_declare() -> None:
    for file in LUA.glob("*.lua"):
        literal = [line for line in file.read_text().splitlines() if re.search(r"'slm:", line)]
        assert [line for line in literal if "'PUBLISH', 'slm:" not in line] == [], file.name
