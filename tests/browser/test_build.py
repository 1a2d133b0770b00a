"""The page as it is committed: built from its sources, small, and without anything from elsewhere."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
from pathlib import Path

import pytest

from common.settings import ROOT
from tests import node_packages

SOURCES = ROOT / "web"
BUILT = ROOT / "api" / "static" / "app"
FIRST_PAINT_BYTES = 75_000
TIMEOUT_S = 240


@pytest.fixture(scope="module", autouse=True)
def _installed() -> None:
    node_packages.install(SOURCES)


def npm(command: str, **variables: str) -> None:
    done = subprocess.run(
        ["npm", "run", command],
        cwd=SOURCES,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_committed_page_is_built_from_its_sources(tmp_path: Path) -> None:
    npm("build", OUT_DIR=str(tmp_path / "app"))
    built, committed = files_in(tmp_path / "app"), files_in(BUILT)
    assert sorted(built) == sorted(committed), "run `npm run build` in web/ and commit api/static/app"
    assert [name for name, content in built.items() if content != committed[name]] == []


def test_the_sources_have_no_type_errors() -> None:
    npm("check")


def needed_for_the_first_paint() -> set[Path]:
    """`index.html`, the chat, and what they import; other views, dialogs and Markdown are imported later."""
    chat = [*(BUILT / "assets").glob("Chat-*"), *(BUILT / "assets").glob("Problem-*.css")]
    waiting, found = [BUILT / "index.html", *chat], set[Path]()
    while waiting:
        file = waiting.pop()
        if file in found or not file.is_file():
            continue
        found.add(file)
        text = file.read_text("utf-8")
        named = re.findall(r'(?:src|href)="/static/app/([^"]+)"', text) if file.suffix == ".html" else []
        imported = re.findall(r'(?:import|from)"\./([^"]+)"', text)
        waiting += [BUILT / name for name in named] + [file.parent / name for name in imported]
    return found


def test_the_first_paint_needs_few_bytes() -> None:
    needed = needed_for_the_first_paint()
    assert {".html", ".js", ".css"} <= {file.suffix for file in needed}
    size = sum(len(gzip.compress(file.read_bytes())) for file in needed)
    assert size < FIRST_PAINT_BYTES, {file.name: len(gzip.compress(file.read_bytes())) for file in needed}
