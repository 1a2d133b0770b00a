"""The environment that LangChain and LiteLLM run in."""

from __future__ import annotations

import pytest
from packaging.utils import canonicalize_name

from tests.foreign.foreign_python import CONSTRAINTS, INSTALL_S, ForeignPython

pytestmark = pytest.mark.timeout(INSTALL_S)


def test_all_its_packages_are_pinned(python: ForeignPython) -> None:
    program = "import importlib.metadata\nout([one.name for one in importlib.metadata.distributions()])"
    (installed,) = python.run(program)
    pinned = {canonicalize_name(line.split("==")[0]) for line in CONSTRAINTS.read_text().splitlines()[1:]}
    assert {canonicalize_name(name) for name in installed} - pinned <= {"pip", "setuptools"}


def test_no_package_talks_to_another_machine(python: ForeignPython) -> None:
    with pytest.raises(AssertionError, match=r"192\.0\.2\.1 is another machine"):
        python.run("import socket\nsocket.create_connection(('192.0.2.1', 443))")
