"""Make the project's virtual environment and install its pinned requirements.

    python -m deploy.bootstrap [requirements file ...]

Standard library only: this runs before anything is installed. A second call does no work, because a stamp in the
environment holds the hash of the requirement files that were installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import venv
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

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
    """The environment cannot be made; the text is one line for the person who started the program."""


def ensure(requirements: Sequence[Path], folder: Path = VENV) -> Path:
    """Return the Python of an environment in which every file of `requirements` is installed, making what lacks.

    Two calls at once are safe: the second waits for the first.

    Raises:
        SetupError: this Python cannot make environments, or pip cannot install.
    """
    if _missing(requirements, folder):
        with _one_at_a_time():
            _make(folder)
            for file in _missing(requirements, folder):
                _install(file, folder)
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
    """Whether the interpreter is there and still the version that the environment was made for.

    An upgraded system leaves the link `bin/python` pointing at nothing, or at a Python that does not see the
    packages. Only file names are looked at: starting the interpreter would cost every start its time.
    """
    if not python_of(folder).exists():
        return False
    name = re.fullmatch(r"python(\d+\.\d+)", python_of(folder).resolve().name)
    return name is None or (folder / "lib" / name[0] / "site-packages").is_dir()


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Lock the project's folder itself, so that no lock file is left over."""
    handle = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("Another start is setting up; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _make(folder: Path) -> None:
    if _is_usable(folder):
        return
    if any(importlib.util.find_spec(name) is None for name in ("venv", "ensurepip")):
        raise SetupError(
            "This Python cannot make virtual environments (its ensurepip module is not installed). "
            "On Debian and Ubuntu: sudo apt install python3-venv"
        )
    _say(f"Making the virtual environment {folder}")
    try:
        venv.EnvBuilder(with_pip=True, clear=(folder / "pyvenv.cfg").exists()).create(folder)
    except (OSError, subprocess.CalledProcessError) as err:
        raise SetupError(f"Cannot make the virtual environment {folder}: {err}") from err


def _install(file: Path, folder: Path) -> None:
    _say(f"Installing what {file.name} lists (the first time downloads a lot, later starts skip this)")
    command = [
        str(python_of(folder)),
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "-r",
        str(file),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as pip:
        complaints = _echo(pip.stderr or ())
    if pip.returncode != 0:
        raise SetupError(_explain(complaints))
    _stamp(file, folder).write_text(fingerprint(file), "utf-8")


def _echo(lines: Iterable[str]) -> list[str]:
    """Pass pip's complaints on as they come and return the last of them. Its progress goes straight to our output."""
    last: deque[str] = deque(maxlen=200)
    for line in lines:
        sys.stderr.write(line)
        last.append(line)
    return list(last)


def _explain(complaints: Iterable[str]) -> str:
    text = "".join(complaints)
    if _NETWORK_TROUBLE.search(text):
        return (
            "Cannot reach the Python package index. Check the network (or pip's proxy and index settings) and start "
            "again; what was downloaded is kept."
        )
    if "No space left on device" in text:
        return f"No space left on the disk of {VENV}. Make room and start again."
    return "pip could not install the requirements; its own words are above."


def _say(line: str) -> None:
    print(f"[setup] {line}", flush=True)


def main(argv: Sequence[str]) -> int:
    """Install the named files, or everything that serving and testing need. Returns the exit status."""
    try:
        ensure([Path(name) for name in argv] or [SERVE, TEST])
    except SetupError as err:
        print(err, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
