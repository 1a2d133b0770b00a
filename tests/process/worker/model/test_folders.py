"""Adapters in folders: what is registered, what is skipped, and which one requests without a name get."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from common.adapters.records import Resolved, VersionFacts
from common.adapters.registry import AdapterRegistry
from common.adapters.store import AdapterStore
from common.adapters.uploads import Uploads
from common.errors import ModelUnavailable
from common.redis.outage import Outage
from common.settings import Settings
from tests.adapter_files import SHAPES, write_adapter
from tests.fake_redis import fake_redis
from worker.model import folders as module
from worker.model import intake as intake_module
from worker.model.base_facts import BaseFacts
from worker.model.folders import AdapterFolders, name_of
from worker.model.intake import AdapterIntake

DEADLINE_S = 60.0


class Machine:
    """A project's folder, a data folder, an emulated Redis, and a worker's parts on top of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.registry = AdapterRegistry(fake_redis())
        self.store = AdapterStore(root / "data" / "adapters")
        self.uploads = Uploads(root / "data" / "uploads")
        self.base = BaseFacts("smol", "b1", SHAPES)
        self.intake = AdapterIntake(self.registry, self.store, lambda: self.base)

    def folders(self, **settings: object) -> AdapterFolders:
        given = Settings(**{"base_model": "SmolLM2-135M-Instruct", "adapters_dir": self.root / "shelf"} | settings)  # type: ignore[arg-type]
        outage = Outage(logging.getLogger("test"))
        return AdapterFolders(given, self.intake, lambda: self.uploads.tidy(lambda _: False), outage)

    def versions(self, name: str) -> list[int]:
        return [version.number for version in self.registry.versions(name)]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "POLL_S", 0.02)
    return Machine(tmp_path)


@pytest.fixture
def run() -> Iterator[Callable[[AdapterFolders], None]]:
    started: list[AdapterFolders] = []

    def start(folders: AdapterFolders) -> None:
        folders.start()
        started.append(folders)

    yield start
    for folders in started:
        folders.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_without_adapters_the_default_is_the_base(machine: Machine) -> None:
    machine.folders().register()
    assert machine.registry.bases() == {"smol": "b1"}
    assert machine.registry.resolve("") == Resolved("smol", "smol", "")


def test_all_folders_are_registered_under_their_names(machine: Machine) -> None:
    write_adapter(machine.root / "shelf" / "support", 1.0, rank=4)
    write_adapter(machine.root / "shelf" / "sales team", 2.0)
    write_adapter(machine.root / "SLMInit" / "demo_lora", 3.0)
    (machine.root / "shelf" / "notes").mkdir()
    (machine.root / "shelf" / "readme.txt").write_text("")
    machine.folders().register()
    assert machine.registry.names() == ["demo_lora", "sales-team", "support"]
    (version,) = machine.registry.versions("support")
    kept = machine.store.folder(version.facts.id)
    expected = VersionFacts(
        version.facts.id, "smol", "b1", 4, ("q_proj",), sum(x.stat().st_size for x in kept.iterdir())
    )
    assert replace(version.facts, created_ms=0) == expected
    resolved = machine.registry.resolve("")
    assert resolved is not None
    assert resolved.model == "demo_lora@1"


def test_the_first_that_is_there_is_the_default(machine: Machine) -> None:
    for value, name in enumerate(["demo_lora", "cpu_lora_out", "cuda_lora_out"]):
        write_adapter(machine.root / "SLMInit" / name, value)
        machine.folders().register()
        assert machine.registry.alias("default").target == f"{name}@1"
    write_adapter(machine.root / "mine", 7.0)
    machine.folders(lora_path=machine.root / "mine").register()
    assert machine.registry.alias("default").target == "mine@1"


def test_the_demonstration_belongs_to_the_default_model(machine: Machine) -> None:
    write_adapter(machine.root / "SLMInit" / "demo_lora")
    machine.folders(base_model="gpt2").register()
    assert machine.registry.names() == []


def test_changed_files_are_a_new_version_and_the_default_moves(machine: Machine) -> None:
    folder = write_adapter(machine.root / "SLMInit" / "cpu_lora_out", 1.0)
    folders = machine.folders()
    folders.register()
    folders.register()
    assert machine.versions("cpu_lora_out") == [1]
    write_adapter(folder, 2.0)
    folders.register()
    assert machine.versions("cpu_lora_out") == [1, 2]
    assert machine.registry.alias("default").target == "cpu_lora_out@2"
    assert len(machine.store.ids()) == 2


def test_a_default_that_somebody_set_stays(machine: Machine) -> None:
    folder = write_adapter(machine.root / "SLMInit" / "cpu_lora_out", 1.0)
    folders = machine.folders()
    folders.register()
    machine.registry.set_alias("default", "smol", set_by="ann")
    write_adapter(folder, 2.0)
    folders.register()
    assert machine.versions("cpu_lora_out") == [1, 2]
    assert machine.registry.alias("default").target == "smol"


def test_a_broken_folder_is_logged_once_and_the_others_are_served(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    broken = write_adapter(machine.root / "shelf" / "broken", rank=2)
    (broken / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 3, "lora_alpha": 1, "target_modules": ["q_proj"]})
    )
    write_adapter(machine.root / "shelf" / "default", 2.0)
    write_adapter(machine.root / "shelf" / "whole", 3.0)
    folders = machine.folders()
    for _ in range(3):
        folders.register()
    assert machine.registry.names() == ["whole"]
    first, second = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert (
        f"the adapter in {broken} is not served: Adapter {str(broken)!r} cannot be used on base model 'smol'" in first
    )
    assert "lora_A of model.layers.0.self_attn.q_proj is (2, 8); the base model and rank 3 need (3, 8)" in first
    assert "'default' is the alias of requests without a name" in second
    assert len(machine.store.ids()) == 1, "nothing is kept of a refused adapter"


def test_weights_that_are_not_finite_are_refused(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    write_adapter(machine.root / "shelf" / "broken", float("nan"))
    machine.folders().register()
    assert machine.registry.names() == []
    assert f"{str(machine.root / 'shelf' / 'broken')!r}: its weights of model.layers.0" in caplog.text


def test_an_adapter_that_the_settings_name_must_work(machine: Machine) -> None:
    with pytest.raises(ModelUnavailable, match="mine"):
        machine.folders(lora_path=machine.root / "mine").register()


@pytest.mark.parametrize("place", ["shelf/mine", "SLMInit/cpu_lora_out", "SLMInit/demo_lora"])
def test_the_settings_may_name_a_folder_that_is_found_anyway(
    machine: Machine, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    folder = machine.root / place
    write_adapter(folder, 1.0)
    machine.folders(lora_path=folder).register()
    assert machine.registry.resolve("").model == f"{folder.name}@1"  # type: ignore[union-attr]
    assert not caplog.records


def test_of_two_folders_with_the_same_name_the_first_counts(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    write_adapter(machine.root / "elsewhere" / "mine", 1.0)
    write_adapter(machine.root / "shelf" / "mine", 2.0)
    machine.folders(lora_path=machine.root / "elsewhere" / "mine").register()
    assert machine.versions("mine") == [1]
    assert "an earlier folder has the name 'mine'" in caplog.text


@pytest.mark.parametrize(
    ("folder", "name"), [("support", "support"), ("a b", "a-b"), (".hidden", "hidden"), ("v1.2_x-y", "v1.2_x-y")]
)
def test_a_name_is_made_of_the_folders(folder: str, name: str) -> None:
    assert name_of(Path("/x", folder)) == name


def test_changes_are_noticed(machine: Machine, run: Callable[[AdapterFolders], None]) -> None:
    folder = write_adapter(machine.root / "SLMInit" / "cpu_lora_out", 1.0)
    folders = machine.folders()
    folders.register()
    run(folders)
    write_adapter(folder, 2.0)
    write_adapter(machine.root / "shelf" / "new", 3.0)
    wait_until(lambda: machine.registry.names() == ["cpu_lora_out", "new"])
    wait_until(lambda: machine.registry.alias("default").target == "cpu_lora_out@2")


def test_a_change_while_redis_is_away_is_registered_later(
    machine: Machine, run: Callable[[AdapterFolders], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = machine.folders()
    folders.register()
    run(folders)
    failures = []

    def fail(*_: object) -> None:
        failures.append(1)
        raise RedisError("away")

    with monkeypatch.context() as patch:
        patch.setattr(machine.registry, "note_base", fail)
        write_adapter(machine.root / "shelf" / "new", 3.0)
        wait_until(lambda: len(failures) > 2)
    wait_until(lambda: machine.registry.names() == ["new"])


def test_a_deleted_default_comes_back(machine: Machine, run: Callable[[AdapterFolders], None]) -> None:
    folders = machine.folders()
    folders.register()
    run(folders)
    machine.registry.set_alias("default", "smol", set_by="ann")
    machine.registry.delete_alias("default")
    wait_until(lambda: machine.registry.resolve("") is not None)
    assert machine.registry.alias("default").set_by == ""


def test_a_served_base_that_was_forgotten_comes_back(machine: Machine, run: Callable[[AdapterFolders], None]) -> None:
    folders = machine.folders()
    folders.register()
    run(folders)
    machine.registry.note_base("other", "b2")
    machine.registry.set_alias("default", "other", set_by="ann")
    machine.registry.forget_base("smol")
    wait_until(lambda: "smol" in machine.registry.bases())


def test_the_files_of_a_deleted_adapter_are_deleted(machine: Machine, run: Callable[[AdapterFolders], None]) -> None:
    folder = write_adapter(machine.root / "shelf" / "old", 1.0)
    write_adapter(machine.root / "shelf" / "other", 2.0)
    folders = machine.folders()
    folders.register()
    run(folders)
    assert len(machine.store.ids()) == 2
    machine.registry.delete("old")
    wait_until(lambda: len(machine.store.ids()) == 1)
    folders.register()
    assert machine.registry.names() == ["other"], "the folder is still there, but its version was deleted"
    shutil.rmtree(folder)


def test_leftovers_of_killed_processes_are_deleted(machine: Machine, run: Callable[[AdapterFolders], None]) -> None:
    folders = machine.folders()
    folders.register()
    leftover = machine.root / "data" / "adapters" / ".x.partial"
    leftover.mkdir(parents=True)
    (machine.root / "data" / "uploads").mkdir()
    (machine.root / "data" / "uploads" / "x.partial").write_text("")
    run(folders)
    wait_until(lambda: not leftover.exists() and not list((machine.root / "data" / "uploads").iterdir()))


def test_a_lost_registry_is_filled_again(machine: Machine, run: Callable[[AdapterFolders], None]) -> None:
    write_adapter(machine.root / "shelf" / "mine", 1.0)
    folders = machine.folders()
    folders.register()
    run(folders)
    machine.registry._redis.flushall()
    wait_until(lambda: machine.versions("mine") == [1] and machine.registry.resolve("") is not None)


def test_the_store_can_change_while_an_adapter_is_checked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def checked(_folder: Path, adapter_id: str, base: BaseFacts) -> VersionFacts:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(take_turn).result(DEADLINE_S)
        return VersionFacts(adapter_id, base.name, base.id)

    def take_turn() -> None:
        with AdapterStore(machine.root / "data" / "adapters").locked():
            pass

    monkeypatch.setattr(intake_module, "_checked", checked)
    registered = machine.intake.register_folder("mine", write_adapter(machine.root / "mine"))
    assert registered is not None
    assert machine.store.ids() == {registered.id}


def test_content_that_is_deleted_while_it_is_published_again_is_copied_again(machine: Machine) -> None:
    """Nobody needed it any more when its deletion began."""
    made = write_adapter(machine.root / "made", 1.0)
    first, _ = machine.intake.publish_folder("support", made)
    machine.registry.delete("support", first.number)

    def deleting() -> BaseFacts:
        if machine.store.ids():
            machine.intake.tidy()
        return machine.base

    intake = AdapterIntake(machine.registry, machine.store, deleting)
    again, facts = intake.publish_folder("support", made)
    assert facts is not None
    assert again.id == first.id
    assert machine.store.folder(first.id).is_dir()
