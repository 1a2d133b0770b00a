"""The wheel and the sdist: what `pip install slm-server` installs, and that it can be built again to the byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from api import __version__
from common.settings import ROOT
from deploy.release import build_twice
from tests.unit.deploy.test_requirements import FOLDER, pinned

TARGETS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]
SOURCES = (*TARGETS["sdist"]["only-include"], "pyproject.toml", "README.md", "LICENSE", ".gitignore")
TOP_LEVEL = {"api", "common", "worker", "models", "training", "SLMInit", "deploy", "slm"}
NOT_SHIPPED = {"__pycache__", "cpu_lora_out", "cuda_lora_out"}
# What the processes of a server import, and the files that they read from their packages.
START = """
import sys
from pathlib import Path
import api.wsgi, deploy.processes.serve, slm.app, slm_client, worker.training.app
from common.redis import scripts
from common.settings import Settings
from training import general
from training.gate import questions
from worker.engine.native import build
assert "torch" not in sys.modules
here = Path(sys.argv[1])
modules = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in sys.argv[2:]}
assert len(modules) > 200
print([name for name, module in modules.items() if not Path(module.__file__).is_relative_to(here)])
assert Settings().data_dir == Path("data"), "in the current folder"
assert any(build.SOURCES.glob("*.c"))
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both packages, built twice from this checkout."""
    source, out, scratch = (tmp_path_factory.mktemp(name) for name in ("source", "out", "scratch"))
    for name in SOURCES:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
        else:
            shutil.copy(ROOT / name, source / name)
    build_twice(source, out, scratch, commit_time=1_600_000_000)
    return out


@pytest.fixture(scope="module")
def wheel(packages: Path) -> zipfile.ZipFile:
    [found] = packages.glob("*.whl")
    return zipfile.ZipFile(found)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return HeaderParser().parsestr(wheel.read(name).decode())


def required(metadata: Message, extra: str = "") -> set[str]:
    """The name and version of each package that the extra requires."""
    wanted = map(Requirement, metadata.get_all("Requires-Dist", []))
    return {plain(one) for one in wanted if one.marker is None or one.marker.evaluate({"extra": extra})}


def plain(requirement: Requirement) -> str:
    return f"{requirement.name.lower().replace('_', '-').replace('.', '-')}{requirement.specifier}"


def listed(*files: Path) -> set[str]:
    wanted = (one for file in files for one in pinned(file))
    return {plain(one) for one in wanted if one.marker is None or one.marker.evaluate()}


def shipped(folder: Path) -> set[str]:
    """The paths of the files of a package's folder, beginning with its name."""
    files = (path.relative_to(folder.parent) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if not NOT_SHIPPED & set(path.parts)}


def test_without_extras_it_can_serve_and_train(metadata: Message) -> None:
    assert required(metadata) == listed(ROOT / "requirements.txt")


@pytest.mark.parametrize(("extra", "file"), [("tracing", "tracing.txt"), ("dev", "test.txt")], ids=["tracing", "dev"])
def test_an_extra_adds_what_a_server_can_do_without(metadata: Message, extra: str, file: str) -> None:
    assert required(metadata, extra) == listed(ROOT / "requirements.txt", FOLDER / file)


def test_the_metadata_name_version_licence_and_command(metadata: Message, wheel: zipfile.ZipFile) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("slm-server", __version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_payload() == (ROOT / "README.md").read_text("utf-8")
    [entry] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert wheel.read(entry).decode().split() == ["[console_scripts]", "slm", "=", "slm.__main__:main"]


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel: zipfile.ZipFile) -> None:
    folders = [*(ROOT / name for name in TOP_LEVEL), ROOT / "clients" / "python" / "slm_client"]
    found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == {name for folder in folders for name in shipped(folder)}
    assert {Path(name).suffix for name in found} >= {
        ".py",
        ".lua",
        ".c",
        ".h",
        ".html",
        ".js",
        ".jsonl",
        ".safetensors",
    }


def test_the_processes_start_from_the_wheel_alone(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "installed")
    (tmp_path / "elsewhere").mkdir()
    command = [sys.executable, "-P", "-c", START, str(tmp_path / "installed"), *TOP_LEVEL, "slm_client"]
    env = os.environ | {"PYTHONPATH": str(tmp_path / "installed"), "SLM_REDIS_URL": "redis://127.0.0.1:1"}
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_sdist_builds_the_same_wheel(packages: Path, tmp_path: Path) -> None:
    [sdist] = packages.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    [folder] = tmp_path.iterdir()
    env = os.environ | {"SOURCE_DATE_EPOCH": "1600000000"}
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "out")]
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
    [first], [second] = packages.glob("*.whl"), (tmp_path / "out").iterdir()
    assert first.read_bytes() == second.read_bytes()
