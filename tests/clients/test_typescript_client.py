"""The TypeScript client: its own tests, and what would be published."""

from __future__ import annotations

import subprocess

import pytest

from common.settings import ROOT
from tests import node_packages

CLIENT = ROOT / "clients" / "typescript"


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    node_packages.install(CLIENT)


def npm(*arguments: str) -> str:
    done = subprocess.run(["npm", *arguments], cwd=CLIENT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_its_own_tests_pass() -> None:
    assert "# fail 0" in npm("test")


def test_the_package_has_its_code_and_its_types() -> None:
    npm("run", "build")
    packed = npm("pack", "--dry-run", "--ignore-scripts").split()
    assert {"dist/index.js", "dist/index.d.ts", "README.md"} <= set(packed)
