"""Creates the project's virtual environment and installs its pinned requirements.

    python -m deploy.bootstrap [requirements file ...]

Standard library only: this runs before anything is installed. A second call does nothing, because a stamp in the
environment holds the hash of the installed requirement files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

from deploy.setup.pip_install import PipProgress, run_pip
from deploy.setup.stage import Stage

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
SERVE = ROOT / "requirements.txt"
TEST = ROOT / "requirements" / "test.txt"

_INCLUDE = re.compile(r"^\s*(?:-r|-c|--requirement|--constraint)[ =]*(\S+)", re.MULTILINE)
_NETWORK_TROUBLE = re.compile(
    r"connection broken|NewConnectionError|Max retries exceeded|ConnectTimeout|ReadTimeout"
    r"|Name or service not known|Temporary failure in name resolution|Network is unreachable"
)


class SetupError(Exception):
    """The environment cannot be created; the text is one line for the person who started the program."""


def ensure(requirements: Sequence[Path], folder: Path = VENV) -> Path:
    """Return the Python of an environment with every file of `requirements` installed; creates whatever is missing.

    Two concurrent calls are safe: the second waits for the first. A call may be interrupted at any moment, even by a
    power cut: the next call repeats every step that may be half done.

    Raises:
        SetupError: this Python cannot create environments, or pip cannot install.
    """
    if _missing(requirements, folder):
        with _one_at_a_time(folder) as lock:
            missing = _missing(requirements, folder)
            _make(folder)
            for file in missing:
                _install(file, folder, lock)
    return python_of(folder)


def python_of(folder: Path) -> Path:
    """Return the interpreter of the environment in `folder`."""
    return folder / "bin" / "python"


def fingerprint(requirements: Path) -> str:
    """Return a hash over the file and every file that it includes by `-r` or `-c`."""
    digest = hashlib.sha256()
    for file in sorted(_with_includes(requirements)):
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()


def _with_includes(file: Path) -> set[Path]:
    found: set[Path] = set()
    waiting = [file.resolve()]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += [(current.parent / name).resolve() for name in _INCLUDE.findall(current.read_text("utf-8"))]
    return found


def _missing(requirements: Sequence[Path], folder: Path) -> list[Path]:
    if not _is_usable(folder):
        return list(requirements)
    return [file for file in requirements if not _is_stamped(file, folder)]


def _is_stamped(file: Path, folder: Path) -> bool:
    stamp = _stamp(file, folder)
    return stamp.is_file() and stamp.read_text("utf-8") == fingerprint(file)


def _stamp(file: Path, folder: Path) -> Path:
    return folder / f"installed-{file.stem}.sha256"


def _is_usable(folder: Path) -> bool:
    """Whether the environment is complete and its interpreter is still the version it was created for.

    After a system upgrade the link `bin/python` may point at nothing, or at a Python that does not see the packages.
    Only file names are checked: running the interpreter would slow every start.
    """
    if not python_of(folder).exists() or _unfinished(folder).exists() or not _has_pip(folder):
        return False
    name = re.fullmatch(r"python(\d+\.\d+)", python_of(folder).resolve().name)
    return name is None or (folder / "lib" / name[0] / "site-packages").is_dir()


def _unfinished(folder: Path) -> Path:
    """A file that exists while packages may be half installed: `_make` and pip may be killed at any time."""
    return folder / "unfinished"


def _has_pip(folder: Path) -> bool:
    """False if the environment was interrupted by an older version, which did not mark unfinished environments."""
    return not (folder / "pyvenv.cfg").exists() or any(folder.glob("lib/python*/site-packages/pip/__main__.py"))


def _mark_unfinished(folder: Path) -> None:
    with _unfinished(folder).open("w") as file:
        os.fsync(file)


@contextlib.contextmanager
def _one_at_a_time(environment: Path) -> Iterator[int]:
    """Lock the folder that the environment is in, so that no lock file is left over; yields the lock's descriptor."""
    try:
        environment.parent.mkdir(exist_ok=True)
        handle = os.open(environment.parent, os.O_RDONLY)
    except OSError as err:
        raise SetupError(f"Cannot create the virtual environment {environment}: {err}") from err
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Another start is installing packages; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _make(folder: Path) -> None:
    if _is_usable(folder):
        return
    if any(importlib.util.find_spec(name) is None for name in ("venv", "ensurepip")):
        raise SetupError(
            "This Python cannot create virtual environments (its ensurepip module is not installed). "
            "On Debian and Ubuntu: sudo apt install python3-venv"
        )
    try:
        with Stage(f"Virtual environment {folder}"):
            _clear(folder)
            venv.EnvBuilder(with_pip=True).create(folder)
    except (OSError, subprocess.CalledProcessError) as err:
        raise SetupError(f"Cannot create the virtual environment {folder}: {err}") from err


def _clear(folder: Path) -> None:
    """Create the folder with the mark, empty except for files that do not belong to an environment of ours."""
    is_environment = (folder / "pyvenv.cfg").exists() or _unfinished(folder).exists()
    folder.mkdir(exist_ok=True)
    _mark_unfinished(folder)
    for path in folder.iterdir() if is_environment else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != _unfinished(folder):
            path.unlink()


def _install(file: Path, folder: Path, lock: int) -> None:
    """Install the packages that the file lists, then write the stamp."""
    temporary, log = folder / "downloads", folder / "setup.log"
    progress = PipProgress(temporary, next(iter(folder.glob("lib/python*/site-packages")), folder))

    def note(line: str) -> None:
        progress.note(line)
        if progress.is_installing:
            _mark_unfinished(folder)

    arguments = ("install", "-r", str(file))
    with Stage(f"Packages of {file.name}", progress.__str__):
        complaint = run_pip(python_of(folder), arguments, log=log, temporary=temporary, note=note, lock=lock)
        if complaint is not None:
            raise SetupError(_explain(complaint, log))
        os.sync()  # a power cut must not lose the packages but keep the stamp
    _stamp(file, folder).write_text(fingerprint(file), "utf-8")
    _unfinished(folder).unlink(missing_ok=True)


def _explain(complaint: Sequence[str], log: Path) -> str:
    text = "".join(complaint)
    if _NETWORK_TROUBLE.search(text):
        return (
            "Cannot reach the Python package index. Check the network (or pip's proxy and index settings) and start "
            f"again; finished downloads are kept. The output of pip: {log}"
        )
    if "No space left on device" in text:
        return f"No space left on the disk of {log.parent}. Free some space and start again."
    errors = [line.strip() for line in complaint if line.startswith("ERROR: ")]
    return f"pip could not install the requirements ({errors[-1] if errors else 'no error named'}). Details: {log}"


def _say(line: str) -> None:
    print(f"[setup] {line}", flush=True)


def main(argv: Sequence[str]) -> int:
    """Install the given files, or everything for serving and testing. Returns the exit status."""
    try:
        ensure([Path(name) for name in argv] or [SERVE, TEST])
    except SetupError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
