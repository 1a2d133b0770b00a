"""The documents as a site: it is built without a warning, has every page, and loads nothing from elsewhere."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from common.settings import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
HISTORY = {"log.md", "slm_api_documentation.md"}  # what was tried, and the user's own document
LOADED = re.compile(r'<(?:script|img|iframe|link rel="stylesheet")[^>]*(?:src|href)="?((?:https?:)?//[^" >]+)')


def blocks(page: Path, language: str) -> list[str]:
    """The page's blocks of code in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; its configuration makes each warning an error: broken links and anchors, pages in no menu."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_it_has_every_document(site: Path) -> None:
    names = (page.relative_to(DOCS).with_suffix(".html") for page in DOCS.rglob("*.md"))
    expected = {name.with_name("index.html") if name.stem == "README" else name for name in names}
    assert {name for name in expected if not (site / name).is_file()} == set()
    assert "## Unreleased" not in (site / "project" / "CHANGELOG.html").read_text("utf-8")


def test_it_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert {target for page in pages for target in LOADED.findall(page.read_text("utf-8"))} == set()


@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in HISTORY], ids=ids)
def test_the_blocks_of_a_page_can_be_read_by_their_languages(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)
    for block in blocks(page, "json"):
        json.loads(block)
    for block in blocks(page, "bash"):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{done.stderr}{block}"
