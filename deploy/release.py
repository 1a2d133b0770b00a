"""Builds what is published of a version: wheel, sdist, list of components (SBOM) and checksums.

    python -m deploy.release FOLDER

The packages are built twice from the committed files, in different surroundings, and must be the same to the byte. The
SBOM is of an environment with nothing but the wheel and the pinned versions of what it needs: its installation
downloads torch.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.audit import CONSTRAINTS
from deploy.bootstrap import ROOT, python_of

BUILD = ("-m", "hatchling", "build", "--target", "sdist", "--target", "wheel", "--directory")
SBOM = ("-m", "cyclonedx_py", "environment", "--output-reproducible", "--of", "JSON")
SUMS = "SHA256SUMS"


class NotReproducible(Exception):
    """Two builds of the same files differ; the text names the packages."""


def build_twice(source: Path, out: Path, scratch: Path, commit_time: int) -> list[Path]:
    """Build sdist and wheel of the sources into `out`. Returns their paths.

    Args:
        source: a folder with the project's files.
        out: the folder for the packages; it must exist.
        scratch: an empty folder for the copies that are built.
        commit_time: the time that all files in the packages get, in seconds since 1970.

    Raises:
        NotReproducible: the builds differ.
    """
    first = _build(shutil.copytree(source, scratch / "first"), scratch / "1", commit_time, "UTC", 0o022)
    second = _build(
        shutil.copytree(source, scratch / "other" / "second"), scratch / "2", commit_time, "Asia/Tokyo", 0o077
    )
    if differing := [name for name in first if first[name].read_bytes() != second[name].read_bytes()]:
        raise NotReproducible(f"Two builds of {', '.join(differing)} differ.")
    return [Path(shutil.copy(path, out)) for path in first.values()]


def _build(source: Path, out: Path, commit_time: int, timezone: str, umask: int) -> Mapping[str, Path]:
    env = os.environ | {"SOURCE_DATE_EPOCH": str(commit_time), "TZ": timezone}
    subprocess.run(
        [sys.executable, *BUILD, str(out)], cwd=source, env=env, umask=umask, check=True, capture_output=True
    )
    return {path.name: path for path in sorted(out.iterdir())}


def write_sbom(wheel: Path, out: Path, scratch: Path, commit_time: int) -> Path:
    """Install the wheel in a new environment and write the list of its components, in CycloneDX's format."""
    folder = scratch / "environment"
    venv.EnvBuilder(with_pip=True).create(folder)
    python = python_of(folder)
    _run([str(python), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), str(wheel)])
    _run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "pip"])
    sbom = out / f"{wheel.name.removesuffix('-py3-none-any.whl')}.cdx.json"
    command = [sys.executable, *SBOM, "--output-file", str(sbom), str(python)]
    _run(command, os.environ | {"SOURCE_DATE_EPOCH": str(commit_time)})
    return sbom


def _run(command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
    subprocess.run(command, env=env, check=True)


def _committed(scratch: Path) -> tuple[Path, int]:
    """Write the committed files to a folder. Returns it and the time of the commit."""
    time = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    archive, source = scratch / "source.tar", scratch / "source"
    _run(["git", "-C", str(ROOT), "archive", "--output", str(archive), "HEAD"])
    shutil.unpack_archive(archive, source, filter="data")
    return source, int(time)


def main(argv: Sequence[str]) -> int:
    """Build everything into the folder. Returns the exit status."""
    if len(argv) != 1:
        print("Usage: python -m deploy.release FOLDER", file=sys.stderr)
        return 2
    out = Path(argv[0])
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        source, commit_time = _committed(scratch)
        try:
            packages = build_twice(source, out, scratch, commit_time)
        except NotReproducible as err:
            print(err, file=sys.stderr)
            return 1
        wheel = next(path for path in packages if path.suffix == ".whl")
        files = [*packages, write_sbom(wheel, out, scratch, commit_time)]
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    (out / SUMS).write_text("".join(sums), "ascii")
    print("".join(sums), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
