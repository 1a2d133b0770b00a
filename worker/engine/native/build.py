"""Compiles the C sources with the system's compiler, once per version of them, into a cache folder."""

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

SOURCES = Path(__file__).parent / "src"
COMPILE_TIMEOUT_S = 300
# Contracting a * b + c is left to the sources: two inlined copies of a loop must not differ in their rounding.
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-pthread", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
_X86_KERNELS = {
    "kernels_avx2.c": ("-mavx2", "-mfma", "-mf16c"),
    "kernels_avx512vnni.c": (
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx2", "-mfma", "-mf16c"),
        "-mprefer-vector-width=512",
    ),
}


def build_library(cache_dir: Path, compiler: str | None = None) -> Path:
    """Compile the native library, unless `cache_dir` has it.

    The library has the kernels of every CPU of this architecture, so that the folder may be shared by machines.

    Args:
        cache_dir: created when missing; old versions in it are left alone.
        compiler: the C compiler; default: `$CC`, else `cc`.

    Returns:
        The shared library's path.

    Raises:
        BuildFailed: there is no compiler, or it failed; the text has its first words.
    """
    compiler = _find_compiler(compiler or os.environ.get("CC") or "cc")
    library = cache_dir / f"slm-native-{_version(compiler)}.so"
    if not library.exists():
        _prepare(cache_dir)
        with tempfile.TemporaryDirectory(dir=cache_dir) as folder:
            built = _compile(compiler, Path(folder))
            with built.open("rb") as file:
                os.fsync(file)
            built.replace(library)  # whole or not at all, whoever else builds it now, and also after a power cut
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
        raise BuildFailed(f"The folder for the native library cannot be made: {err}.") from err


def _units() -> dict[Path, tuple[str, ...]]:
    """The sources to compile for this architecture, with their own flags."""
    is_x86 = platform.machine().lower() in {"x86_64", "amd64"}
    units: dict[Path, tuple[str, ...]] = {}
    for source in sorted(SOURCES.glob("*.c")):
        if source.name not in _X86_KERNELS:
            units[source] = ()
        elif is_x86:
            units[source] = _X86_KERNELS[source.name]
    return units


def _version(compiler: str) -> str:
    """Names what the library is made of: sources, flags, compiler and architecture."""
    digest = hashlib.sha256(repr((FLAGS, _X86_KERNELS, platform.machine(), platform.system())).encode())
    digest.update(_run([compiler, "--version"]).encode())
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode())
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _compile(compiler: str, folder: Path) -> Path:
    """Compile every source by itself, side by side, and link them."""
    units = _units()
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
