"""Reads the adapter that `slm adapters add` uploads: a PEFT folder, packed on the way, or an archive, sent as it is.

What cannot be an adapter is refused here, before anything is sent; the server checks everything else.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from common.content import SUFFIXES
from slm.failures import CommandError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_GZIP = "application/gzip"
_GZIP_WBITS = 16 + zlib.MAX_WBITS
_CHUNK = 1 << 20
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError)
_ENDINGS = (".tar.gz", ".tgz", ".tar", ".zip")

Advance = Callable[[int], None]


class BadAdapter(CommandError):
    """A file or folder is not an adapter; the text says what is missing."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_status=2)


class AdapterSource(ABC):
    """An adapter on this machine. `name` is what it is called here; `num_bytes` are what `send` reads in total."""

    content_type: str
    name: str
    num_bytes: int

    @abstractmethod
    def send(self, advance: Advance) -> Iterator[bytes]:
        """Yield the bytes of the upload; `advance` is told how many bytes were read each time.

        Raises:
            CommandError: a file changed while it was read.
        """


def find_adapter(path: Path) -> AdapterSource:
    """Return the adapter at `path`.

    Raises:
        BadAdapter: there is none.
    """
    try:
        return _Folder(path) if path.is_dir() else _Archive(path)
    except OSError as err:
        raise BadAdapter(f"cannot read {path}: {err.strerror or err}") from err


class _Folder(AdapterSource):
    """A PEFT folder. Only the files that the server keeps are sent, so not the state of a training."""

    def __init__(self, path: Path) -> None:
        self.content_type = _GZIP
        self.name = path.resolve().name
        self._files = sorted(file for file in path.iterdir() if _counts(file.name) and file.is_file())
        _check_names(path, {file.name for file in self._files})
        _check_config(path / CONFIG)
        self.num_bytes = sum(file.stat().st_size for file in self._files)

    def send(self, advance: Advance) -> Iterator[bytes]:
        """See `AdapterSource.send`. The archive is never whole in memory or on disk."""
        compressor = zlib.compressobj(wbits=_GZIP_WBITS, strategy=zlib.Z_HUFFMAN_ONLY)  # weights repeat nothing
        for part in _tar(self._files, advance):
            if compressed := compressor.compress(part):
                yield compressed
        yield compressor.flush()


class _Archive(AdapterSource):
    """A tar or zip archive of a PEFT folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        ending = next((one for one in _ENDINGS if path.name.lower().endswith(one)), "")
        self.name = path.name[: len(path.name) - len(ending)]
        self.num_bytes = path.stat().st_size
        is_zip = zipfile.is_zipfile(path)
        self.content_type = "application/zip" if is_zip else _GZIP
        names = _names_in(path, is_zip=is_zip)
        if not any(name.name == CONFIG and len(name.parts) <= 2 for name in names):
            raise BadAdapter(
                f"{path} is not an archive of a PEFT folder: it has no {CONFIG} at its root or in a folder"
            )

    def send(self, advance: Advance) -> Iterator[bytes]:
        """See `AdapterSource.send`."""
        return _chunks(self._path, self.num_bytes, advance)


def _counts(name: str) -> bool:
    return not name.startswith(".") and PurePosixPath(name).suffix in SUFFIXES


def _check_names(folder: Path, names: set[str]) -> None:
    if CONFIG in names and WEIGHTS in names:
        return
    if CONFIG in names and (folder / "adapter_model.bin").exists():
        reason = f"it has no {WEIGHTS}, and a server does not read the pickled adapter_model.bin: "
        raise BadAdapter(f"{folder} cannot be served: {reason}load it with peft and save it again")
    missing = " and ".join(name for name in (CONFIG, WEIGHTS) if name not in names)
    raise BadAdapter(f"{folder} is not a PEFT folder: it has no {missing}{_advice(folder, names)}")


def _advice(folder: Path, names: set[str]) -> str:
    if inner := sorted(path.parent for path in folder.glob(f"*/{CONFIG}")):
        return f"; {inner[-1]} has one"
    if {"config.json", "model.safetensors"} <= names:
        return ". It looks like a whole model, which a server can have as its base (SLM_BASE_MODEL)"
    return ""


def _check_config(file: Path) -> None:
    try:
        config: Any = json.loads(file.read_text("utf-8"))
    except ValueError as err:
        raise BadAdapter(f"{file} is not JSON: {err}") from err
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise BadAdapter(f"{file} does not describe a LoRA adapter: its peft_type is {kind!r}")


def _tar(files: Iterable[Path], advance: Advance) -> Iterator[bytes]:
    """Yield a tar archive of the files, with nothing about this machine."""
    for file in files:
        info = tarfile.TarInfo(file.name)
        info.size = file.stat().st_size
        yield info.tobuf(tarfile.PAX_FORMAT)
        yield from _chunks(file, info.size, advance)
        yield bytes(-info.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _chunks(file: Path, size: int, advance: Advance) -> Iterator[bytes]:
    with file.open("rb") as content:
        while chunk := content.read(min(_CHUNK, size)):
            size -= len(chunk)
            advance(len(chunk))
            yield chunk
    if size:
        raise CommandError(f"{file} became shorter while it was read")


def _names_in(path: Path, *, is_zip: bool) -> list[PurePosixPath]:
    try:
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        else:
            with tarfile.open(path, "r:gz" if _has_gzip(path) else "r:") as entries:
                names = entries.getnames()
    except _BROKEN as err:
        raise BadAdapter(f"{path} is neither a PEFT folder nor a tar.gz or zip archive of one") from err
    return [PurePosixPath(name) for name in names]


def _has_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"
