"""Worker, API and Redis die in the middle of an answer, and the page shows all of it in the end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.chat import answers, ask, note
from tests.free_port import free_port
from tests.processes import Cluster, Process, is_up, running_cluster, wait_for
from tests.redis_server import RedisServer, running_server

TEXT = " ".join(f"w{number}" for number in range(110))  # fits the page's maximum of tokens, which are bytes
SLOW_MS, FAST_MS = 400, 1  # a token of the first worker, which must not end the answer, and of the second one
RECONNECTING, STALLED = "Reconnecting…", "Waiting for the rest…"


class Site:
    """Redis, an API and a worker, which can die."""

    def __init__(self, redis: RedisServer, cluster: Cluster) -> None:
        self.redis = redis
        self._cluster = cluster
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start_worker(SLOW_MS)
        self.start_api()
        cluster.wait_until_taking_jobs("a")

    def start_api(self) -> None:
        self.api: Process = self._cluster.start_api(self._port)
        wait_for("the API", lambda: is_up(self.url))

    def start_worker(self, step_ms: int) -> None:
        self.worker: Process = self._cluster.start_worker("a", FAKE_STEP_MS=str(step_ms))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "redis").mkdir()
    with (
        running_server(tmp_path / "redis") as redis,
        running_cluster(redis.url, tmp_path, SLM_LEASE_S="2", SLM_DRAIN_S="0") as cluster,
    ):
        yield Site(redis, cluster)


def wait_for_more(page: Page) -> None:
    """Wait until the answer has grown."""
    expect(answers(page)).not_to_have_text(answers(page).inner_text())


def test_an_answer_is_whole_after_the_deaths_of_worker_api_and_redis(browser: Browser, site: Site) -> None:
    with browser.new_context() as device, browser.new_context() as other_device:
        page, other_page = device.new_page(), other_device.new_page()
        pages = page, other_page
        page.goto(site.url)
        ask(page, TEXT)
        expect(answers(page)).to_contain_text("w0 w1")
        other_page.goto(page.url)
        expect(answers(other_page)).to_contain_text("w0 w1")

        site.redis.kill()
        other_page.reload()
        expect(other_page.get_by_text(RECONNECTING)).to_be_visible()
        other_page.get_by_label("Message", exact=True).fill("And then?")
        expect(other_page.get_by_role("button", name="Send")).to_be_disabled()  # it would begin another chat
        expect(note(page)).to_contain_text(STALLED)
        site.redis.start()
        for one in pages:
            wait_for_more(one)

        site.worker.kill()
        for one in pages:
            expect(note(one)).to_contain_text(STALLED)
        site.api.kill()
        for one in pages:
            expect(note(one)).to_have_text(RECONNECTING)
            expect(answers(one)).to_contain_text("w0 w1")
        site.start_api()
        page.reload()
        expect(answers(page)).to_contain_text("w0 w1")
        site.start_worker(FAST_MS)
        for one in pages:
            expect(answers(one)).to_have_text(TEXT)
            expect(note(one)).to_contain_text(f"{len(TEXT) + 1} tokens")  # with the end token
            expect(one.get_by_role("alert")).to_have_count(0)
        ask(other_page, "And then?")
        for one in pages:
            expect(answers(one).last).to_have_text("And then?")
