"""Checks a page with axe-core, which finds what keeps people with disabilities from using it."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from common.settings import ROOT
from tests import node_packages

WEB = ROOT / "web"


def violations_on(page: Page) -> list[str]:
    """Return the violations on the page as it is now: the rule, and the elements."""
    node_packages.install(WEB)
    if not page.evaluate("'axe' in window"):
        page.evaluate((WEB / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8"))
    found: list[dict[str, Any]] = page.evaluate("axe.run().then((result) => result.violations)")
    return [f"{one['id']}: {[node['html'][:200] for node in one['nodes']]}" for one in found]
