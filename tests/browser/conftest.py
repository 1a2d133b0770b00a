"""A headless browser on the page of a real API process; only the worker is scripted.

It is Chromium, or with `TEST_BROWSER=firefox` in the environment Firefox.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from redis import Redis

from tests.api_process import ApiProcess, running_api
from tests.browser.chromium import find_chromium, launch_chromium
from tests.browser.firefox import find_firefox, launch_firefox
from tests.missing import skip_or_fail
from tests.redis_server import RedisServer
from tests.scripted_worker import Script, ScriptedWorker

WIDE, PHONE = (1280, 800), (390, 844)
PATIENCE_MS = 60_000  # a busy machine must not fail a test
BROWSERS = {"chromium": (find_chromium, launch_chromium), "firefox": (find_firefox, launch_firefox)}
BROWSER = os.environ.get("TEST_BROWSER", "chromium")


def in_chromium(why: str) -> pytest.MarkDecorator:
    """Skip a test in other browsers."""
    return pytest.mark.skipif(BROWSER != "chromium", reason=why)


@dataclass
class Visit:
    """An open page and what happened on it."""

    page: Page
    worker: ScriptedWorker
    api: ApiProcess
    requests: list[str]
    complaints: list[str]  # errors in the console, exceptions in scripts


OpenPage = Callable[..., Visit]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    find, launch = BROWSERS[BROWSER]
    if find() is None:
        skip_or_fail(f"there is no {BROWSER}")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright, launch(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def api(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with running_api(tmp_path_factory.mktemp("api"), redis_url=redis_server.url, drain_s=0) as api:
        yield api


@pytest.fixture
def open_page(browser: Browser, api: ApiProcess, real_redis: Redis) -> Iterator[OpenPage]:
    """Open the page at a size, with a script for the worker behind it."""
    with ExitStack() as stack:

        def open_it(script: Script, size: tuple[int, int] = WIDE, *, colors: str = "light") -> Visit:
            worker = stack.enter_context(ScriptedWorker(real_redis, script))
            viewport = {"width": size[0], "height": size[1]}
            context = stack.enter_context(browser.new_context(viewport=viewport, color_scheme=colors))
            page = context.new_page()
            visit = Visit(page, worker, api, [], [])
            page.on("request", lambda request: visit.requests.append(request.url))
            page.on("pageerror", lambda error: visit.complaints.append(str(error)))
            page.on("console", lambda line: line.type == "error" and visit.complaints.append(line.text))
            page.goto(api.url)
            return visit

        yield open_it


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[Page, str], None]:
    """Keep a screenshot in the folder that `SCREENSHOTS` names, if it does."""

    def take(page: Page, name: str) -> None:
        page.screenshot(path=Path(os.environ.get("SCREENSHOTS", tmp_path)) / f"{name}.png")

    return take
