"""The package's metadata, which `pip install -e .[worker,dev]` reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from setuptools import find_packages

from api import __version__
from common.settings import ROOT
from tests.unit.deploy.test_requirements import FOLDER, pinned

SOURCES = ("pyproject.toml", "setup.py", "requirements.txt", "README.md", "LICENSE", "api/__init__.py")
TOP_LEVEL = {"api", "common", "worker", "models", "training", "SLMInit", "deploy", "slm"}
MAKE = "from setuptools.build_meta import prepare_metadata_for_build_wheel as make; make('.')"


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Message:
    """The metadata of a package without its code, except for the version."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "api").mkdir()
    for name in SOURCES:
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(FOLDER, folder / "requirements")
    (folder / "app.py").touch()
    subprocess.run([sys.executable, "-c", MAKE], cwd=folder, check=True, capture_output=True)
    [found] = folder.glob("*.dist-info/METADATA")
    return HeaderParser().parsestr(found.read_text("utf-8"))


def required(metadata: Message, extra: str = "") -> set[str]:
    """The name and version of each package that the extra requires."""
    wanted = map(Requirement, metadata.get_all("Requires-Dist", []))
    return {plain(one) for one in wanted if one.marker is None or one.marker.evaluate({"extra": extra})}


def plain(requirement: Requirement) -> str:
    return f"{requirement.name.lower()}{requirement.specifier}"


def listed(*files: Path) -> set[str]:
    wanted = (one for file in files for one in pinned(file))
    return {plain(one) for one in wanted if one.marker is None or one.marker.evaluate()}


@pytest.mark.parametrize("extra", ["api", "worker", "train", "local", "tracing"])
def test_an_extra_has_the_packages_of_the_file_of_its_name(metadata: Message, extra: str) -> None:
    always = listed(FOLDER / "cli.txt")
    assert required(metadata, extra) == always | listed(FOLDER / f"{extra}.txt")


def test_a_developer_gets_everything(metadata: Message) -> None:
    assert required(metadata, "dev") == listed(ROOT / "requirements.txt", FOLDER / "test.txt")


def test_without_extras_it_has_the_requirements_of_both_sides_and_of_the_command(metadata: Message) -> None:
    assert required(metadata) == listed(FOLDER / "cli.txt")


def test_the_version_is_the_apis(metadata: Message) -> None:
    assert metadata["Version"] == __version__


def test_every_package_of_the_server_is_in_it_and_the_client() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]["find"]
    folders = {path.parent.relative_to(ROOT) for top in TOP_LEVEL for path in (ROOT / top).rglob("__init__.py")}
    found = {
        name for where in options["where"] for name in find_packages(str(ROOT / where), include=options["include"])
    }
    assert found == {".".join(folder.parts) for folder in folders} | {"slm_client"}
