"""Folders of adapters on a server with two base models of the same shape."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from redis import Redis

import worker.model.folders as module
from common.adapters.registry import AdapterRegistry
from common.adapters.store import AdapterStore
from common.adapters.uploads import Uploads
from common.errors import Conflict
from common.redis.outage import Outage
from common.settings import Settings
from tests.adapter_files import SHAPES, packed, write_adapter
from tests.fake_redis import fake_redis
from worker.model.base_choice import BaseChoice
from worker.model.base_facts import BaseFacts
from worker.model.folders import AdapterFolders
from worker.model.intake import AdapterIntake

MODELS = "smol=SmolLM2-135M-Instruct; chat=/models/qwen"


class Worker:
    """A worker's parts, on a Redis and in a folder that it shares with others."""

    def __init__(self, root: Path, redis: Redis, base: str) -> None:
        settings = Settings(models=MODELS, worker_base=base, adapters_dir=root / "shelf").of_worker()
        facts = BaseFacts(base, f"id of {base}", SHAPES)
        others = {one.name for one in settings.bases} - {base}
        store, uploads = AdapterStore(root / "data" / "adapters"), Uploads(root / "data" / "uploads")
        self.registry = AdapterRegistry(redis)
        self.intake = AdapterIntake(self.registry, store, lambda: facts, other_bases=others)
        choice, outage = BaseChoice(settings, lambda: facts), Outage(logging.getLogger("test"))
        self.folders = AdapterFolders(settings, self.intake, uploads, outage, is_elsewhere=choice.names_another)

    def base_of(self, name: str) -> str:
        (version,) = self.registry.versions(name)
        return version.facts.base


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Worker, Worker]:
    """One worker for each base, `smol` first."""
    monkeypatch.setattr(module, "ROOT", tmp_path)
    redis = fake_redis()
    return Worker(tmp_path, redis, "smol"), Worker(tmp_path, redis, "chat")


def test_a_folder_belongs_to_the_base_that_it_names(
    workers: tuple[Worker, Worker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    smol, chat = workers
    write_adapter(tmp_path / "shelf" / "one", 1.0, base_model_name_or_path="/home/me/qwen")
    write_adapter(tmp_path / "shelf" / "two", 2.0, base_model_name_or_path="SmolLM2-135M-Instruct")
    for worker in (smol, chat, smol):
        worker.folders.register()
    assert (chat.base_of("one"), chat.base_of("two")) == ("chat", "smol")
    assert not caplog.records


def test_a_folder_that_names_none_stays_with_the_first_that_registers_it(
    workers: tuple[Worker, Worker], tmp_path: Path
) -> None:
    smol, chat = workers
    write_adapter(tmp_path / "shelf" / "one", 1.0)
    for worker in (chat, smol, chat):
        worker.folders.register()
        assert worker.base_of("one") == "chat"


def test_the_default_is_that_of_the_first_base(workers: tuple[Worker, Worker], tmp_path: Path) -> None:
    smol, chat = workers
    chat.folders.register()
    assert chat.registry.resolve("") is None
    write_adapter(tmp_path / "SLMInit" / "cpu_lora_out", 1.0)
    smol.folders.register()
    chat.folders.register()
    assert smol.registry.alias("default").target == "cpu_lora_out@1"
    assert smol.base_of("cpu_lora_out") == "smol"


def test_the_same_files_cannot_be_published_for_another_base(workers: tuple[Worker, Worker], tmp_path: Path) -> None:
    smol, chat = workers
    archive = tmp_path / "archive"
    archive.write_bytes(packed(write_adapter(tmp_path / "mine")))
    smol.intake.publish("mine", archive, max_bytes=10**6, is_given_up=lambda: False)
    with pytest.raises(Conflict, match="an adapter of the base model 'smol' already") as refused:
        chat.intake.publish("also-mine", archive, max_bytes=10**6, is_given_up=lambda: False)
    assert refused.value.param == "base"
    assert smol.base_of("mine") == "smol"
