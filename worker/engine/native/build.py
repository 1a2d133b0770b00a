"""Compiles the C sources with the system's compiler into a cache folder, once per version of the sources."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from worker.engine.native.errors import BuildFailed
from worker.engine.native.kernel_sets import kernel_sets_of, this_architecture

SOURCES = Path(__file__).parent / "src"
COMPILE_TIMEOUT_S = 300
# No automatic contraction of a * b + c: two inlined copies of a loop must not round differently.
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-pthread", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")


def build_library(cache_dir: Path, compiler: str | None = None, architecture: str | None = None) -> Path:
    """Compile the native library, unless it is in `cache_dir` already.

    The library contains the kernels for all CPUs of this architecture, so machines can share the folder.

    Args:
        cache_dir: created if missing; old versions in it are not deleted.
        compiler: the C compiler; default: `$CC`, else `cc`.
        architecture: that the compiler compiles for; default: this machine's.

    Returns:
        The path of the shared library.

    Raises:
        BuildFailed: there is no compiler, or it failed; the text has the beginning of its output.
    """
    compiler = _find_compiler(compiler or os.environ.get("CC") or "cc")
    architecture = architecture or this_architecture()
    library = cache_dir / f"slm-native-{_version(compiler, architecture)}.so"
    if not library.exists():
        _prepare(cache_dir)
        with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
            built = _compile(compiler, architecture, Path(folder))
            with built.open("rb") as file:
                os.fsync(file)
            built.replace(library)  # atomic, despite concurrent builds and power cuts
    return library


def _find_compiler(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise BuildFailed(f"There is no C compiler ({name}).")
    return path


def _prepare(cache_dir: Path) -> None:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise BuildFailed(f"The folder for the native library cannot be created: {err}.") from err


def _units(architecture: str) -> dict[Path, tuple[str, ...]]:
    """Return the sources to compile for an architecture, with their specific flags."""
    units = {source: () for source in SOURCES.glob("*.c") if not source.name.startswith("kernels_")}
    return units | {SOURCES / f"kernels_{one.name}.c": one.flags for one in kernel_sets_of(architecture)}


def _version(compiler: str, architecture: str) -> str:
    """Return a hash of the library's inputs: sources, flags, compiler and architecture."""
    flags = [(one.name, one.flags) for one in kernel_sets_of(architecture)]
    digest = hashlib.sha256(repr((FLAGS, flags, architecture, platform.system())).encode())
    digest.update(_run([compiler, "--version"]).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _compile(compiler: str, architecture: str, folder: Path) -> Path:
    """Compile the sources in parallel and link them."""
    units = _units(architecture)
    objects = [folder / f"{source.stem}.o" for source in units]
    commands = [
        [compiler, *FLAGS, *flags, "-c", str(source), "-o", str(target)]
        for (source, flags), target in zip(units.items(), objects, strict=True)
    ]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(_run, commands))
    library = folder / "library.so"
    _run([compiler, "-shared", "-pthread", *map(str, objects), "-o", str(library), "-lm"])
    return library


def _run(command: list[str]) -> str:
    try:
        finished = subprocess.run(command, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as err:
        raise BuildFailed(f"The C compiler did not run: {err}.") from err
    if finished.returncode != 0:
        words = finished.stderr.strip() or finished.stdout.strip() or "no message"
        raise BuildFailed(f"The C compiler failed ({' '.join(command[:1])}): {words[:2000]}")
    return finished.stdout
