"""The first set-up, killed at several moments: the next one always continues, and ends with complete packages."""

from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest

from common.settings import ROOT
from deploy.bootstrap import python_of
from tests.processes import wait_for

pytestmark = pytest.mark.timeout(600)

PACKAGES, MODULES = 4, 60
ENSURE = """
import sys
from pathlib import Path
from deploy import bootstrap
try:
    bootstrap.ensure([Path(sys.argv[1])], Path(sys.argv[2]))
except bootstrap.SetupError as err:
    sys.exit(str(err))
"""


def make_wheel(folder: Path, name: str) -> None:
    """A package of many equal modules."""
    files = {f"{name}/__init__.py": ""} | {f"{name}/m{n}.py": f"VALUE = {n}\n" * 200 for n in range(MODULES)}
    info = f"{name}-1.0.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""])
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


class SetUp:
    """The set-up of an environment with a few packages from a folder."""

    def __init__(self, folder: Path) -> None:
        self.environment = folder / "env"
        self._names = [f"piece{n}" for n in range(PACKAGES)]
        self.requirements = folder / "requirements.txt"
        self.requirements.write_text("".join(f"{name}==1.0\n" for name in self._names))
        self._wheels = folder / "wheels"
        self._wheels.mkdir()
        for name in self._names:
            make_wheel(self._wheels, name)

    def start(self) -> subprocess.Popen[str]:
        env = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self._wheels)}
        command = [sys.executable, "-c", ENSURE, str(self.requirements), str(self.environment)]
        out = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen(command, cwd=ROOT, env=env, text=True, start_new_session=True, **out)  # type: ignore[call-overload, no-any-return]

    def run(self) -> str:
        """Return its output until its end."""
        return self.start().communicate(timeout=300)[0]

    def start_installing(self) -> subprocess.Popen[str]:
        """Start, and wait until the first files of a package exist; those of an earlier attempt are deleted first."""
        started = self.start()
        wait_for("what is half installed to be cleared", lambda: not self._has_files())
        wait_for("the first package's files", self._has_files)
        return started

    def _has_files(self) -> bool:
        return any(self.environment.glob("lib/python*/site-packages/piece*"))

    def check(self) -> None:
        """Every module exists and is complete."""
        imports = "; ".join(
            f"import {name}.m{n}; assert {name}.m{n}.VALUE == {n}" for name in self._names for n in range(MODULES)
        )
        subprocess.run([python_of(self.environment), "-c", imports], check=True)


def test_a_set_up_that_is_killed_repeatedly_continues_until_it_is_complete(tmp_path: Path) -> None:
    set_up = SetUp(tmp_path)
    for number in (signal.SIGKILL, signal.SIGKILL, signal.SIGINT):
        _kill(set_up.start_installing(), number)
    for moment_s in (0.1, 0.4, 0.8, 1.5, 2.5, 4.0):
        started = set_up.start()
        time.sleep(moment_s)  # on a fast machine it is complete by one of these moments
        _kill(started, signal.SIGKILL)
    set_up.run()
    set_up.check()
    assert set_up.run() == "", "there is nothing left to do"


def _kill(started: subprocess.Popen[str], number: signal.Signals) -> None:
    """Signal only the process, and check that everything it started ends without it."""
    below = psutil.Process(started.pid).children(recursive=True)
    started.send_signal(number)
    started.communicate(timeout=180)
    if sys.platform == "linux":
        psutil.wait_procs(below, timeout=30)
        assert not [process for process in below if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_an_upgrade_that_cannot_start_keeps_the_environment(tmp_path: Path) -> None:
    set_up = SetUp(tmp_path)
    set_up.run()
    before = python_of(set_up.environment).lstat().st_ino
    with set_up.requirements.open("a") as file:
        file.write("not-there==1\n")
    assert "not-there==1" in set_up.run()
    set_up.check()
    set_up.requirements.write_text("piece0==1.0\n")
    assert set_up.run().endswith("done\n")
    assert python_of(set_up.environment).lstat().st_ino == before
