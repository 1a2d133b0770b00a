"""The page of the user's document, opened from a file and from another port: one setting allows it."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from redis import Redis

from common.settings import ROOT
from tests.api_process import running_api
from tests.redis_server import RedisServer
from tests.scripted_worker import ScriptedWorker, answer

DOCUMENT = (ROOT / "docs" / "slm_api_documentation.md").read_text(encoding="utf-8")


def sample(port: int) -> str:
    """The page, for a server on that port."""
    (found,) = re.findall(r"^```html\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert "http://localhost:5000" in found
    return str(found).replace("localhost:5000", f"localhost:{port}")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "page"
    made.mkdir()
    return made


@pytest.fixture
def other_port(folder: Path) -> Iterator[str]:
    """The origin of a web server that serves the page."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("origin", ["file", "port"])
@pytest.mark.parametrize("is_let_in", [True, False])
def test_the_sample_page_talks_to_a_server_that_names_its_origin(
    browser: Browser,
    redis_server: RedisServer,
    real_redis: Redis,
    folder: Path,
    other_port: str,
    origin: str,
    is_let_in: bool,
) -> None:
    settings = {"cors_origins": f"null, {other_port}"} if is_let_in else {}
    url = f"{other_port}/page.html" if origin == "port" else (folder / "page.html").as_uri()
    with (
        running_api(folder.parent, redis_url=redis_server.url, drain_s=0, **settings) as api,
        ScriptedWorker(real_redis, answer("A robot ", "answers.")),
        browser.new_page() as page,
    ):
        (folder / "page.html").write_text(sample(int(api.url.rpartition(":")[2])), encoding="utf-8")
        page.goto(url)
        page.get_by_placeholder("Enter your message...").fill("Who is there?")
        with page.expect_event("requestfinished" if is_let_in else "requestfailed"):
            page.get_by_role("button", name="Send").click()
        if is_let_in:
            expect(page.locator("#chat")).to_contain_text("AI: A robot answers.")
        else:
            expect(page.locator("#chat")).to_be_empty()
