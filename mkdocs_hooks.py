"""Adapts the documents, which are written for a checkout, to the site: pages outside of docs/, links that leave it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent
DOCS = ROOT / "docs"
PROJECT = "project"  # the site's folder for the pages outside of docs/
DECISIONS = "decisions/*.md"  # in the navigation: all of them

# A block of code, a link, or code in a line, whichever begins first: what looks like a link in code is none.
_LINK = re.compile(
    r"^```.*?^```|(?P<mark>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^)\s]+)\)|`[^`\n]*`",
    re.MULTILINE | re.DOTALL,
)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Write the decisions into the navigation."""
    config.nav = _expanded(config.nav)
    return config


def _expanded(nav: object) -> list[object]:
    found: list[object] = []
    for entry in nav if isinstance(nav, list) else []:
        if entry == DECISIONS:
            found += sorted(path.relative_to(DOCS).as_posix() for path in DOCS.glob(DECISIONS))
        elif isinstance(entry, dict):
            found.append({name: _expanded(inside) for name, inside in entry.items()})
        else:
            found.append(entry)
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside of docs/ that the navigation names."""
    for name in _outside(config.nav):
        source = ROOT / name.removeprefix(f"{PROJECT}/")
        files.append(File.generated(config, name, content=source.read_text("utf-8")))
    return files


def _outside(nav: object) -> list[str]:
    if isinstance(nav, str):
        return [nav] if nav.startswith(f"{PROJECT}/") else []
    inside = nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else []
    return [name for entry in inside for name in _outside(entry)]


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Turn each link to a file into one to its page of the site; of a link to source code only the text remains."""
    here = page.file.src_uri

    def on_site(link: re.Match[str]) -> str:
        name, _, anchor = (link["target"] or "").partition("#")
        if not name or re.match(r"[a-z]+:", name):
            return link[0]
        file = (_source(here).parent / name).resolve()
        wanted = _site_path(file)
        if files.get_file_from_path(wanted) is None:
            return (
                link["text"] if file.exists() and not file.is_relative_to(DOCS) else link[0]
            )  # the build fails at a broken one
        relative = os.path.relpath(wanted, Path(here).parent)
        return f"{link['mark']}[{link['text']}]({relative}{'#' if anchor else ''}{anchor})"

    return _LINK.sub(on_site, markdown)


def _source(page: str) -> Path:
    """The file of a page."""
    return ROOT / page.removeprefix(f"{PROJECT}/") if page.startswith(f"{PROJECT}/") else DOCS / page


def _site_path(file: Path) -> str:
    """The path of a file's page in the site."""
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS).as_posix()
    return f"{PROJECT}/{file.relative_to(ROOT).as_posix()}" if file.is_relative_to(ROOT) else ""
