"""A backup of a running server restores jobs, conversations, keys and adapters into another folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis

from common.owners.api_keys import ApiKeyStore, Role
from common.settings import Settings
from deploy import backup
from deploy.data_folder import claim_data_dir
from deploy.redis import own_redis


@contextmanager
def server(data: Path) -> Iterator[Redis]:
    """The embedded Redis of a data folder, as a running server announces it."""
    claim = claim_data_dir(data)
    embedded = own_redis.embedded(Settings(data_dir=data))
    try:
        with own_redis.running(embedded, claim.inherited) as redis:
            claim.announce(embedded.url)
            yield redis
    finally:
        claim.release()


def test_what_was_acknowledged_before_a_backup_is_there_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, archive = tmp_path / "data", tmp_path / "backup.tar.gz"
    with server(data) as redis:
        (data / "adapters" / "a1").mkdir(parents=True)
        (data / "adapters" / "a1" / "adapter_config.json").write_text("{}")
        (data / "models").mkdir(exist_ok=True)
        (data / "models" / "large").write_text("weights")
        (data / ".cache" / "huggingface").mkdir(parents=True)
        ApiKeyStore(redis).create("me", Role.ADMIN)
        redis.hset("slm:conversation:1", "title", "kept")
        done = threading.Event()
        written = threading.Thread(target=_write, args=(redis, done))
        written.start()
        monkeypatch.setenv("SLM_DATA_DIR", str(data))
        assert backup.main(["save", str(archive)]) == 0
        done.set()
        written.join()
        assert redis.config_get("auto-aof-rewrite-percentage") == {"auto-aof-rewrite-percentage": "100"}
    other = tmp_path / "other"
    monkeypatch.setenv("SLM_DATA_DIR", str(other))
    assert backup.main(["restore", str(archive)]) == 0
    assert (other / "adapters" / "a1" / "adapter_config.json").read_text() == "{}"
    assert not (other / "models").exists()
    assert not (other / ".cache").exists()
    assert archive.stat().st_mode & 0o077 == 0
    with server(other) as redis:
        assert [key.name for key in ApiKeyStore(redis).all()] == ["me"]
        assert redis.hget("slm:conversation:1", "title") == "kept"


def _write(redis: Redis, done: threading.Event) -> None:
    while not done.is_set():
        redis.rpush("busy", "x" * 1000)


def test_a_folder_with_data_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, archive = tmp_path / "data", tmp_path / "backup.tar.gz"
    with server(data):
        pass
    monkeypatch.setenv("SLM_DATA_DIR", str(data))
    assert backup.main(["save", str(archive)]) == 0
    assert backup.main(["restore", str(archive)]) == 1
    assert "already has data (redis)" in capsys.readouterr().err


def test_of_a_redis_of_ones_own_only_the_files_are_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "adapters").mkdir(parents=True)
    monkeypatch.setenv("SLM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SLM_REDIS_URL", "redis://127.0.0.1:1/0")
    assert backup.main(["save", str(tmp_path / "backup.tar.gz")]) == 0
    assert "Only files were saved" in capsys.readouterr().out
