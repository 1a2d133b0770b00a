"""The environments that foreign packages run in."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.foreign.foreign_python import AGENTS, HERE, INSTALL_S, ForeignPython

pytestmark = pytest.mark.timeout(INSTALL_S)


@pytest.mark.parametrize(("fixture", "folder"), [("python", HERE), ("agents", AGENTS)])
def test_all_its_packages_are_pinned(request: pytest.FixtureRequest, fixture: str, folder: Path) -> None:
    python: ForeignPython = request.getfixturevalue(fixture)
    program = "import importlib.metadata\nout([one.name for one in importlib.metadata.distributions()])"
    (installed,) = python.run(program)
    pinned = {
        canonicalize_name(line.split("==")[0]) for line in (folder / "constraints.txt").read_text().splitlines()[1:]
    }
    assert {canonicalize_name(name) for name in installed} - pinned <= {"pip", "setuptools"}


def test_no_package_talks_to_another_machine(python: ForeignPython) -> None:
    with pytest.raises(AssertionError, match=r"192\.0\.2\.1 is another machine"):
        python.run("import socket\nsocket.create_connection(('192.0.2.1', 443))")
