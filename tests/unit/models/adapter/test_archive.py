"""Archives from untrusted senders: what is unpacked, and what is refused."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from models.adapter.archive import MAX_ENTRIES, unpack_adapter
from models.errors import AdapterError

CONFIG = "adapter_config.json"
FILES = {CONFIG: b"{}", "adapter_model.safetensors": b"weights", "README.md": b"hello"}
MIB = 2**20
Pack = Callable[[Path, dict[str, bytes]], Path]


def pack_tar(folder: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    archive = folder / "packed"
    with tarfile.open(archive, mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return archive


def pack_plain(folder: Path, files: dict[str, bytes]) -> Path:
    return pack_tar(folder, files, "w")


def pack_zip(folder: Path, files: dict[str, bytes]) -> Path:
    archive = folder / "packed"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return archive


@pytest.fixture(params=[pack_tar, pack_plain, pack_zip])
def pack(request: pytest.FixtureRequest) -> Pack:
    packer: Pack = request.param
    return packer


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "target"
    folder.mkdir(parents=True)
    return folder


def unpacked(archive: Path, target: Path, max_bytes: int = MIB) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in unpack_adapter(archive, target, max_bytes).iterdir()}


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("prefix", ["", "./", "support/", "./support/"])
def test_the_files_that_count_are_unpacked(tmp_path: Path, target: Path, pack: Pack, prefix: str) -> None:
    archive = pack(tmp_path, {f"{prefix}{name}": content for name, content in FILES.items()})
    assert unpacked(archive, target) == {CONFIG: b"{}", "adapter_model.safetensors": b"weights"}


def test_the_unpacked_files_are_private(tmp_path: Path, target: Path, pack: Pack) -> None:
    folder = unpack_adapter(pack(tmp_path, FILES), target, MIB)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())] == [0o700, 0o600, 0o600]


def test_checkpoints_beside_an_adapter_are_left_out(tmp_path: Path, target: Path, pack: Pack) -> None:
    extra = {
        "checkpoint-5/adapter_config.json": b"5",
        "a/b/tokenizer.json": b"",
        "._x.json": b"",
        "__MACOSX/.json": b"",
    }
    assert set(unpacked(pack(tmp_path, FILES | extra), target)) == {CONFIG, "adapter_model.safetensors"}


def test_two_adapters_are_refused(tmp_path: Path, target: Path, pack: Pack) -> None:
    with pytest.raises(AdapterError, match="It has adapters in 'a' and 'b'"):
        unpack_adapter(pack(tmp_path, {f"a/{CONFIG}": b"{}", f"b/{CONFIG}": b"{}"}), target, MIB)


@pytest.mark.parametrize("files", [{}, {"x.json": b""}, {f"a/b/{CONFIG}": b"{}"}])
def test_an_archive_without_an_adapter_is_refused(
    tmp_path: Path, target: Path, pack: Pack, files: dict[str, bytes]
) -> None:
    with pytest.raises(AdapterError, match=r"There is no adapter_config\.json in either place"):
        unpack_adapter(pack(tmp_path, files), target, MIB)


@pytest.mark.parametrize(
    "name", ["../x.json", "a/../../x.json", "/tmp/x.json", "..\\x.json", "C:/x.json", "a/..", "..", "//x.json"]
)
def test_nothing_leads_out_of_the_folder(tmp_path: Path, target: Path, pack: Pack, name: str) -> None:
    before = everything(tmp_path)
    archive = pack(tmp_path, {CONFIG: b"{}", name: b"evil"})
    with pytest.raises(AdapterError, match="may lead out of its folder"):
        unpack_adapter(archive, target, MIB)
    assert everything(tmp_path) - before == {"packed", "deep/target/0/adapter_config.json"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, target: Path, kind: bytes) -> None:
    archive = tmp_path / "packed"
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("tokenizer.json")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(AdapterError, match=r"'tokenizer\.json', which is a link, a device or a sparse file"):
        unpack_adapter(archive, target, MIB)


def test_links_in_a_zip_are_refused(tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "packed"
    with zipfile.ZipFile(archive, "w") as packed:
        info = zipfile.ZipInfo("tokenizer.json")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(info, "/etc/passwd")
    with pytest.raises(AdapterError, match=r"'tokenizer\.json', which is a link or a device"):
        unpack_adapter(archive, target, MIB)


def test_sparse_files_are_refused(tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "packed"
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("adapter_model.safetensors")
        info.pax_headers = {"GNU.sparse.size": str(2**40), "GNU.sparse.map": f"0,0,{2**40},0"}
        tar.addfile(info)
    with pytest.raises(AdapterError, match="sparse file"):
        unpack_adapter(archive, target, MIB)


@pytest.mark.parametrize("sizes", [[MIB + 1], [MIB // 2, MIB // 2 + 1]])
def test_more_bytes_than_allowed_are_refused(tmp_path: Path, target: Path, pack: Pack, sizes: list[int]) -> None:
    archive = pack(tmp_path, {f"{number}.json": bytes(size) for number, size in enumerate(sizes)})
    with pytest.raises(AdapterError, match=r"larger than 1048576 bytes \(SLM_MAX_ADAPTER_BYTES\)"):
        unpack_adapter(archive, target, MIB)


def test_a_bomb_is_written_up_to_the_limit_only(tmp_path: Path, target: Path, pack: Pack) -> None:
    archive = pack(tmp_path, {"bomb.json": bytes(64 * MIB)})
    with pytest.raises(AdapterError, match="larger than"):
        unpack_adapter(archive, target, MIB)
    assert (target / "0" / "bomb.json").stat().st_size <= 2 * MIB


def test_too_many_entries_are_refused(tmp_path: Path, target: Path, pack: Pack) -> None:
    archive = pack(tmp_path, {f"{number}.bin": b"" for number in range(MAX_ENTRIES + 1)})
    with pytest.raises(AdapterError, match="more than 1000 entries"):
        unpack_adapter(archive, target, MIB)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_comes_twice_is_refused(tmp_path: Path, target: Path) -> None:
    archive = tmp_path / "packed"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(CONFIG, "{}")
        packed.writestr(CONFIG, "{1}")
    with pytest.raises(AdapterError, match=r"'adapter_config\.json' twice"):
        unpack_adapter(archive, target, MIB)


def test_a_truncated_archive_is_refused(tmp_path: Path, target: Path, pack: Pack) -> None:
    archive = pack(tmp_path, FILES | {"tokenizer.json": os.urandom(100_000)})
    archive.write_bytes(archive.read_bytes()[:60_000])
    with pytest.raises(AdapterError, match="The archive cannot be read"):
        unpack_adapter(archive, target, MIB)


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"{}", b"\x1f\x8b\x08", b"PK\x03\x04" + b"x" * 100, gzip.compress(b"x", mtime=0)]
)
def test_what_is_no_archive_is_refused(tmp_path: Path, target: Path, content: bytes) -> None:
    archive = tmp_path / "packed"
    archive.write_bytes(content)
    with pytest.raises(AdapterError):
        unpack_adapter(archive, target, MIB)
