from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.bootstrap import ROOT, _with_includes

FOLDER = ROOT / "requirements"
CONSTRAINTS = FOLDER / "constraints.txt"
FILES = sorted({ROOT / "requirements.txt", *FOLDER.glob("*.txt")} - {CONSTRAINTS})
MODEL_LIBRARIES = {"torch", "transformers", "peft"}


def lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith(("#", "-"))]


def pinned(file: Path) -> list[Requirement]:
    """The requirements of the file and of those that it includes."""
    included = _with_includes(file) - {CONSTRAINTS}
    return [Requirement(line) for part in sorted(included) for line in lines(part)]


def constraints() -> dict[str, str]:
    found = map(Requirement, lines(CONSTRAINTS))
    return {canonicalize_name(requirement.name): str(requirement.specifier) for requirement in found}


def needed_by(requirement: Requirement) -> Iterator[Requirement]:
    """The requirements of the installed distribution on this machine."""
    for text in importlib.metadata.requires(requirement.name) or []:
        wanted = Requirement(text)
        extras = requirement.extras or {""}
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras):
            yield wanted


def closure(requirements: list[Requirement]) -> set[str]:
    """The canonical names of all packages that an installation of `requirements` installs."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = list(requirements)
    while waiting:
        current = waiting.pop()
        key = (canonicalize_name(current.name), frozenset(current.extras))
        if key not in seen:
            seen.add(key)
            waiting += needed_by(current)
    return {name for name, _ in seen}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_requirement_is_pinned_to_one_version(file: Path) -> None:
    unpinned = [line for line in lines(file) if not re.fullmatch(r"[\w.\[\]-]+==[\w.]+(; .+)?", line)]
    assert unpinned == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_constraints_pin_every_installed_package(file: Path) -> None:
    assert CONSTRAINTS in _with_includes(file), "so that pip alone gives the same versions too"
    assert closure(pinned(file)) - constraints().keys() - {"pip"} == set(), "pip comes with the environment"


def test_the_constraints_name_the_versions_that_the_requirements_name() -> None:
    differing = {
        requirement.name
        for file in FILES
        for requirement in pinned(file)
        if constraints()[canonicalize_name(requirement.name)] != str(requirement.specifier)
    }
    assert differing == set()


def test_an_api_install_has_no_model_library() -> None:
    assert closure(pinned(FOLDER / "api.txt")) & MODEL_LIBRARIES == set()


def test_a_worker_and_a_training_install_have_them() -> None:
    for name in ("worker.txt", "train.txt"):
        assert closure(pinned(FOLDER / name)) >= MODEL_LIBRARIES


def test_the_whole_install_has_every_part_but_the_tests_and_the_traces() -> None:
    parts = {file for file in FILES if file.parent == FOLDER} - {FOLDER / "test.txt", FOLDER / "tracing.txt"}
    assert parts <= _with_includes(ROOT / "requirements.txt")


def test_torch_is_the_version_that_the_project_was_measured_with() -> None:
    assert constraints()["torch"] == "==2.13.0"
