"""The store of adapters' files: whole or absent, private, and never changed."""

from __future__ import annotations

import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.adapters.store import AdapterFilesError, AdapterStore
from common.content import ContentHashes


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "loss.png").write_bytes(b"picture")
    (folder / "checkpoint-5").mkdir()
    return folder


@pytest.fixture
def store(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "data" / "adapters")


def keep(store: AdapterStore, source: Path) -> str:
    with store.copied(source) as content, store.locked():
        store.put(content)
    return content.id


def test_the_files_that_count_are_kept_under_their_hash(store: AdapterStore, source: Path) -> None:
    adapter_id = keep(store, source)
    assert adapter_id == ContentHashes().of_folder(source)
    folder = store.folder(adapter_id)
    assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert store.ids() == {adapter_id}


def test_everything_is_private(store: AdapterStore, source: Path) -> None:
    folder = store.folder(keep(store, source))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (folder.parent, folder, *folder.iterdir())]
    assert modes == [0o700, 0o700, 0o600, 0o600]


def test_keeping_the_same_content_again_changes_nothing(store: AdapterStore, source: Path) -> None:
    before = store.folder(keep(store, source)).stat()
    assert store.folder(keep(store, source)).stat() == before


def test_of_two_that_keep_the_same_content_the_slower_leaves_the_folder_in_place(
    store: AdapterStore, source: Path
) -> None:
    with store.copied(source) as first, store.copied(source) as second, store.locked():
        store.put(first)
        with (store.folder(first.id) / "adapter_config.json").open() as reader:
            before = os.fstat(reader.fileno()).st_ino
        store.put(second)
    assert (store.folder(first.id) / "adapter_config.json").stat().st_ino == before


def test_a_later_change_of_the_source_is_another_adapter(store: AdapterStore, source: Path) -> None:
    first = keep(store, source)
    (source / "adapter_config.json").write_text('{"r": 8}')
    second = keep(store, source)
    assert store.ids() == {first, second}
    assert (store.folder(first) / "adapter_config.json").read_text() == "{}"


def test_an_absent_adapter_is_an_error(store: AdapterStore) -> None:
    assert store.ids() == set()
    with pytest.raises(AdapterFilesError, match="adapter aaaaaaaaaaaa are not in"):
        store.folder("a" * 64)


@pytest.mark.parametrize("damage", ["changed", "missing", "added"])
def test_damage_is_found_and_repaired(tmp_path: Path, store: AdapterStore, source: Path, damage: str) -> None:
    adapter_id = keep(store, source)
    weights = store.folder(adapter_id) / "adapter_model.safetensors"
    if damage == "changed":
        weights.write_bytes(b"wEights")
    elif damage == "missing":
        weights.unlink()
    else:
        (weights.parent / "extra.json").write_text("{}")
    for reader in (store, AdapterStore(tmp_path / "data" / "adapters")):
        with pytest.raises(AdapterFilesError, match="are damaged"):
            reader.folder(adapter_id)
    assert keep(store, source) == adapter_id
    assert (store.folder(adapter_id) / "adapter_model.safetensors").read_bytes() == b"weights"


def test_a_removed_adapter_is_gone(store: AdapterStore, source: Path) -> None:
    adapter_id = keep(store, source)
    with store.locked():
        store.remove(adapter_id)
        store.remove(adapter_id)
    assert store.ids() == set()


def test_a_failed_copy_leaves_nothing(
    tmp_path: Path, store: AdapterStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        keep(store, source)
    assert [path.name for path in (tmp_path / "data" / "adapters").iterdir()] == [".lock"]


def test_the_content_that_is_already_there_must_still_be_there(store: AdapterStore, source: Path) -> None:
    keep(store, source)
    with store.copied(source) as content, store.locked():
        assert not store.was_deleted(content)
        store.remove(content.id)
        assert store.was_deleted(content)
        with pytest.raises(AdapterFilesError, match="were deleted meanwhile"):
            store.put(content)


def test_a_copy_is_not_the_stores(store: AdapterStore, source: Path) -> None:
    with store.copied(source) as content, store.locked():
        assert not store.was_deleted(content)


def test_a_damaged_adapter_is_not_what_is_published_again(store: AdapterStore, source: Path) -> None:
    adapter_id = keep(store, source)
    (store.folder(adapter_id) / "adapter_model.safetensors").write_bytes(b"damaged")
    assert keep(store, source) == adapter_id
    assert (store.folder(adapter_id) / "adapter_model.safetensors").read_bytes() == b"weights"


def test_an_adapter_is_received_whole_or_not_at_all(tmp_path: Path, store: AdapterStore, source: Path) -> None:
    adapter_id = ContentHashes().of_folder(source)

    def fill(folder: Path) -> None:
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / name).write_bytes((source / name).read_bytes())

    def fill_wrongly(folder: Path) -> None:
        fill(folder)
        (folder / "adapter_config.json").write_text("[]")

    with pytest.raises(AdapterFilesError, match="not of adapter"):
        store.receive(adapter_id, fill_wrongly)
    with pytest.raises(ConnectionError):
        store.receive(adapter_id, lambda _: (_ for _ in ()).throw(ConnectionError()))
    assert [path.name for path in (tmp_path / "data" / "adapters").iterdir()] == [".lock"]
    store.receive(adapter_id, fill)
    store.receive(adapter_id, fill_wrongly)  # it is there already
    assert [path.name for path in store.files(adapter_id)] == ["adapter_config.json", "adapter_model.safetensors"]


def test_of_all_that_receive_an_adapter_one_fetches_it(tmp_path: Path, store: AdapterStore, source: Path) -> None:
    adapter_id, fills = ContentHashes().of_folder(source), list[Path]()

    def fill(folder: Path) -> None:
        fills.append(folder)
        time.sleep(0.2)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            (folder / name).write_bytes((source / name).read_bytes())

    stores = [store, store, AdapterStore(tmp_path / "data" / "adapters")]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda one: one.receive(adapter_id, fill), stores))
    assert len(fills) == 1


def test_a_copy_in_use_is_no_leftover(store: AdapterStore) -> None:
    with store.scratch() as folder:
        assert not store.has_leftovers()
        with store.locked():
            store.tidy()
        assert folder.is_dir()
    assert not folder.exists()
