from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from deploy import bootstrap
from deploy.bootstrap import SetupError, ensure, fingerprint, python_of

ENTRY_POINTS = [bootstrap.ROOT / "start_slm_api.py", bootstrap.ROOT / "test_slm_api.py"]


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "constraints.txt").write_text("six==1.17.0\n")
    (tmp_path / "parts" / "part.txt").write_text("-c constraints.txt\n# nothing yet\n")
    file = tmp_path / "requirements.txt"
    file.write_text("-r parts/part.txt\n")
    return file


class Environment:
    """A folder that looks like an environment; its interpreter records what pip should install."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        self._calls.touch()
        python_of(folder).write_text(f'#!/bin/sh\nfor last; do :; done; echo "$last" >> {self._calls}\n')
        python_of(folder).chmod(0o755)

    @property
    def installed(self) -> list[str]:
        return [Path(line).name for line in self._calls.read_text().splitlines()]

    def link_python(self, target: Path) -> None:
        python_of(self.folder).unlink()
        python_of(self.folder).symlink_to(target)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "env")


def test_the_first_call_installs_and_the_second_does_nothing(requirements: Path, environment: Environment) -> None:
    assert ensure([requirements], environment.folder) == python_of(environment.folder)
    assert environment.installed == ["requirements.txt"]
    ensure([requirements], environment.folder)
    assert environment.installed == ["requirements.txt"]


@pytest.mark.parametrize("name", ["requirements.txt", "parts/part.txt", "parts/constraints.txt"])
def test_a_change_in_any_included_file_installs_again(requirements: Path, environment: Environment, name: str) -> None:
    ensure([requirements], environment.folder)
    with (requirements.parent / name).open("a") as file:
        file.write("# changed\n")
    ensure([requirements], environment.folder)
    assert environment.installed == ["requirements.txt", "requirements.txt"]


def test_only_a_file_without_a_stamp_is_installed(requirements: Path, environment: Environment) -> None:
    more = requirements.with_name("more.txt")
    more.write_text("")
    ensure([requirements], environment.folder)
    ensure([requirements, more], environment.folder)
    assert environment.installed == ["requirements.txt", "more.txt"]


def test_the_fingerprint_of_unchanged_files_stays(requirements: Path) -> None:
    assert fingerprint(requirements) == fingerprint(requirements)


def test_a_missing_interpreter_makes_the_environment_unusable(environment: Environment) -> None:
    assert bootstrap._is_usable(environment.folder)
    environment.link_python(Path("/no/such/python3"))
    assert not bootstrap._is_usable(environment.folder)


def test_an_interpreter_that_does_not_see_the_packages_makes_the_environment_unusable(
    environment: Environment, tmp_path: Path
) -> None:
    upgraded = tmp_path / "python3.99"
    upgraded.touch()
    environment.link_python(upgraded)
    assert not bootstrap._is_usable(environment.folder)
    (environment.folder / "lib" / "python3.99" / "site-packages").mkdir(parents=True)
    assert bootstrap._is_usable(environment.folder)


def test_a_missing_ensurepip_gives_one_line_that_says_what_to_install(
    requirements: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="apt install python3-venv") as caught:
        ensure([requirements], tmp_path / "env")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_created_gives_one_line(requirements: Path) -> None:
    with pytest.raises(SetupError, match="Cannot create the virtual environment"):
        ensure([requirements], requirements / "env")


@pytest.mark.parametrize("left", [("unfinished",), ("pyvenv.cfg",), ("unfinished", "pyvenv.cfg")])
def test_an_incomplete_environment_is_created_again(
    requirements: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch, left: tuple[str, ...]
) -> None:
    """With the mark, or as an older version left it: without its pip."""
    for name in left:
        (environment.folder / name).touch()
    debris = environment.folder / "lib" / "python3.99" / "site-packages" / "half"
    debris.mkdir(parents=True)
    made: list[Path] = []

    def make(_builder: venv.EnvBuilder, folder: Path) -> None:
        made.append(folder)
        assert [path.name for path in folder.iterdir()] == ["unfinished"]
        Environment(folder)

    monkeypatch.setattr(venv.EnvBuilder, "create", make)
    ensure([requirements], environment.folder)
    assert made == [environment.folder]
    assert environment.installed == ["requirements.txt"]
    assert not (environment.folder / "unfinished").exists()


def test_files_that_are_not_ours_are_kept(requirements: Path, environment: Environment) -> None:
    """A user may have made `.venv`, with another torch in it."""
    theirs = environment.folder / "theirs"
    theirs.touch()
    ensure([requirements], environment.folder)
    assert theirs.exists()


def test_pip_keeps_the_users_index_but_not_the_users_target(
    requirements: Path, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PIP_INDEX_URL", "PIP_TARGET", "PIP_USER", "PYTHONPATH"):
        monkeypatch.setenv(name, f"theirs-{name}")
    python_of(environment.folder).write_text(f"#!/bin/sh\nenv > {environment.folder}/seen\n")
    ensure([requirements], environment.folder)
    seen = dict(line.split("=", 1) for line in (environment.folder / "seen").read_text().splitlines())
    assert seen["PIP_INDEX_URL"] == "theirs-PIP_INDEX_URL"
    assert not {"PIP_TARGET", "PYTHONPATH"} & seen.keys()
    assert (seen["PIP_USER"], seen["PIP_ROOT_USER_ACTION"]) == ("0", "ignore")
    assert seen["TMPDIR"].startswith(str(environment.folder)), "the system's own may be too small for torch"


@pytest.fixture
def current_environment(tmp_path: Path) -> Path:
    """An environment with a real pip: the one that runs the tests."""
    folder = tmp_path / "env"
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


def test_pip_without_a_network_gives_one_line_and_leaves_no_stamp(
    tmp_path: Path, current_environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    file = tmp_path / "requirements.txt"
    file.write_text("no-such-package-of-ours==1\n")
    with pytest.raises(SetupError, match="Cannot reach the Python package index") as caught:
        ensure([file], current_environment)
    assert "\n" not in str(caught.value)
    log = current_environment / "setup.log"
    assert str(log) in str(caught.value)
    assert "connection" in log.read_text().lower(), "pip's output"
    assert list(current_environment.glob("*.sha256")) == []


def test_an_unreadable_requirement_is_not_called_a_network_problem(tmp_path: Path, current_environment: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("this is no requirement\n")
    with pytest.raises(SetupError, match=r"pip could not install.*Invalid requirement.*setup\.log") as caught:
        ensure([file], current_environment)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("script", ENTRY_POINTS, ids=lambda path: path.name)
def test_an_older_python_reads_the_entry_point_and_gets_one_line(script: Path) -> None:
    ast.parse(script.read_text(), feature_version=(3, 4))
    pretend = f"import sys, runpy; sys.version_info = (3, 9); runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("This needs Python 3.11 or newer; this is Python ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("script", ENTRY_POINTS, ids=lambda path: path.name)
def test_windows_gets_one_line_that_says_what_runs_on_it(script: Path) -> None:
    pretend = f"import sys, runpy; sys.platform = 'win32'; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "docker compose" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "module", ["bootstrap", "options", "start", "verify", "suite", "check.check_server", "check.http_client"]
)
def test_code_before_the_installation_needs_only_the_standard_library(module: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(bootstrap.ROOT)!r}); import deploy.{module}"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
