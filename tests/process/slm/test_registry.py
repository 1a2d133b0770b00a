"""The commands for adapters and aliases with the real routes."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.content import ContentHashes
from models.adapter.archive import unpack_adapter
from slm.adapter_source import find_adapter
from tests.adapter_files import write_adapter
from tests.process.slm.conftest import CommandAt


@pytest.fixture
def registry(real_redis: Redis) -> AdapterRegistry:
    """A base, and an adapter with two versions."""
    registry = AdapterRegistry(real_redis)
    registry.note_base("smol", "b1")
    for adapter_id in ("a1", "a2"):
        registry.register("support", VersionFacts(adapter_id, "smol", "b1", 16, ("q_proj",), 1_900_000))
    return registry


def test_an_alias_is_moved_rolled_back_and_deleted(slm: CommandAt, registry: AdapterRegistry) -> None:
    assert slm("adapters", "alias", "prod", "support@1").out == "prod -> support@1\n"
    assert slm("adapters", "alias", "prod", "support").out == "prod -> support@2\n"
    assert slm("aliases", "list").rows[1:] == [["prod", "support@2", "support@1"]]
    assert slm("adapters", "rollback", "prod").out == "prod -> support@1\n"
    assert "support@1" in slm("adapters", "rm", "support", status=1).err
    assert slm("aliases", "rm", "prod").out == "Deleted prod.\n"
    assert slm("adapters", "rm", "support@1").out == "Deleted: support@1\n"
    assert slm("adapters", "rm", "support").out == "Deleted: support@2\n"
    assert "There is no alias 'prod'" in slm("aliases", "rm", "prod", status=1).err


def test_everything_is_listed(slm: CommandAt, registry: AdapterRegistry) -> None:
    slm("adapters", "alias", "prod", "support")
    assert slm("models").rows[1:] == [
        ["prod", "alias", "support@2", "smol", "-"],
        ["smol", "base", "smol", "smol", "-"],
        ["support", "adapter", "support@2", "smol", "-"],
    ]
    assert slm("adapters", "list").rows[1:] == [["support", "2", "smol", "16", "1.9", "MB", "prod", "-"]]
    shown = slm("adapters", "show", "support").out.splitlines()
    assert {"rank:        16", "modules:     q_proj", "versions:    1, 2"} <= set(shown)
    assert "id:          a1" in slm("adapters", "show", "support@1").out
    assert "There are: support." in slm("adapters", "show", "nope", status=1).err


def test_a_wrong_name_is_refused(slm: CommandAt, registry: AdapterRegistry, tmp_path: Path) -> None:
    path = str(write_adapter(tmp_path / "support"))
    assert "'a b' cannot be a name" in slm("adapters", "add", path, "--name", "a b", status=1).err
    assert "a base model named 'smol'" in slm("adapters", "add", path, "--name", "smol", status=1).err


def test_what_the_command_packs_is_the_same_content_where_it_is_unpacked(tmp_path: Path) -> None:
    path = write_adapter(tmp_path / "support")
    (path / "optimizer.pt").write_bytes(b"x")
    archive, target = tmp_path / "upload", tmp_path / "target"
    archive.write_bytes(b"".join(find_adapter(path).send(lambda _: None)))
    target.mkdir()
    found = unpack_adapter(archive, target, max_bytes=1_000_000)
    assert ContentHashes().of_folder(found) == ContentHashes().of_folder(path)
    assert not (found / "optimizer.pt").exists()
