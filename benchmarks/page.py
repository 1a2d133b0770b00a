"""What the page costs in Chromium: a conversation of 2,000 messages, and an answer that comes in a burst.

    python -m benchmarks.page

Prints a table: for each thing that a person does the time, the processor time of the page's main thread, and the
longest task (wall time, so it needs a quiet machine), and the memory afterwards. The worker is scripted.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
from playwright.sync_api import CDPSession, Page, sync_playwright

from common.redis.client import connect
from tests.api_process import running_api
from tests.browser.chromium import launch_chromium
from tests.redis_server import running_server
from tests.scripted_worker import Play, ScriptedWorker

MESSAGES = 2000
BURST, BATCH = 10_000, 10  # pieces in all, and in each write
SHORT = "**Point {number}** is a short answer with `code`, in one line."
LONG = """### Point {number}

A **short** text with `code` and [a link](https://example.org), which goes on for a while, as answers do, and on.

1. The first item of a list
2. The second one, which is longer than the first one

```python
def greet(name: str) -> str:
    return f"Hello number {number}, {{name}}!"
```

| name | value |
|:-----|------:|
| a    | {number} |
"""
WATCH = """() => {
    window.longTasks = [];
    new PerformanceObserver((list) => list.getEntries().forEach((one) => window.longTasks.push(one.duration)))
        .observe({type: "longtask", buffered: true});
    window.keys = [];
    new PerformanceObserver((list) => list.getEntries().forEach((one) => window.keys.push(one.duration)))
        .observe({type: "event", durationThreshold: 16, buffered: true});
}"""


def conversation() -> dict[str, Any]:
    """An exported conversation with that many messages."""
    messages: list[dict[str, Any]] = []
    for number in range(MESSAGES):
        answer = (LONG if number % 8 == 7 else SHORT).format(number=number)
        role, content = ("assistant", answer) if number % 2 else ("user", f"Question {number}?")
        messages.append({"id": f"msg_{number:08}-0000-4000-8000-000000000000", "role": role, "content": content})
    for before, one in itertools.pairwise(messages):
        one["parent_id"] = before["id"]
    return {"version": 1, "title": "long", "messages": messages, "leaf_id": messages[-1]["id"]}


def burst(play: Play) -> None:
    """Emit the pieces as fast as Redis takes them."""
    pieces = [f"w{number} " if number % 200 else f"\n\nw{number} " for number in range(BURST)]
    for start in range(0, BURST, BATCH):
        play.say(*pieces[start : start + BATCH])
    play.end("end")


class Watch:
    """Measures what the page does."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._cdp: CDPSession = page.context.new_cdp_session(page)
        self._cdp.send("Performance.enable", {"timeDomain": "threadTicks"})

    def measure(self, what: str, action: Callable[[], object]) -> None:
        """Print how long an action took, the processor time of the page's main thread, and its longest tasks."""
        if self._page.url != "about:blank":
            self._page.evaluate("window.longTasks = []; window.keys = []")
        before, start = self._metrics(), time.monotonic()
        action()
        took = time.monotonic() - start
        self._page.wait_for_timeout(300)
        after = self._metrics()
        busy = after["TaskDuration"] - before["TaskDuration"]
        long, keys = (sorted(self._page.evaluate(name)) for name in ("window.longTasks", "window.keys"))
        print(
            f"| {what} | {took:.2f} s | {busy:.2f} s | {len(long)}, {max(long, default=0):.0f} ms "
            f"| {max(keys, default=0):.0f} ms | {self._nodes():.0f} | {after['JSHeapUsedSize'] / 2**20:.0f} MiB |",
            flush=True,
        )

    def _metrics(self) -> dict[str, float]:
        return {one["name"]: one["value"] for one in self._cdp.send("Performance.getMetrics")["metrics"]}

    def _nodes(self) -> float:
        return float(self._page.evaluate("document.querySelectorAll('*').length"))


def measure(page: Page, url: str, conversation_id: str) -> None:
    """Do what a person does, and print a row for each."""
    page.add_init_script(f"({WATCH})()")
    watch = Watch(page)
    box, answers = page.locator(".composer textarea"), page.locator(".turn.assistant .markdown")
    earlier = page.locator(".earlier")  # by role, Playwright itself would use the main thread

    def open_it() -> None:
        page.goto(f"{url}/#/chat/{conversation_id}")
        answers.last.get_by_text(f"Point {MESSAGES - 1}").wait_for()

    def type_it() -> None:
        box.press_sequentially("A question of forty characters, typed in.", delay=30)

    def show_earlier(times: int) -> None:
        for _ in range(times):
            earlier.evaluate("one => one.click()")
            page.wait_for_timeout(20)

    def scroll() -> None:
        for _ in range(20):
            page.mouse.wheel(0, -3000)
            page.wait_for_timeout(30)

    def ask() -> None:
        box.press("Enter")
        page.locator(".composer [aria-label^=Stop]").wait_for()
        answers.last.get_by_text(f"w{BURST - 1} end").wait_for(timeout=120_000)
        page.locator(".composer [aria-label=Send]").wait_for()

    print("| what | wall | main thread | long tasks: number, longest | slowest key | elements | heap |")
    print("|---|---|---|---|---|---|---|")
    watch.measure("open it", open_it)
    page.wait_for_timeout(1500)
    watch.measure("type 41 characters", type_it)
    watch.measure(f"an answer of {BURST:,} tokens in a burst", ask)
    page.mouse.move(640, 300)
    watch.measure("show 200 earlier turns", lambda: show_earlier(5))
    watch.measure("show all of them", lambda: show_earlier(MESSAGES // 40 - 5))
    page.mouse.move(640, 300)
    watch.measure("scroll 20 times", scroll)
    watch.measure("type 41 characters with all shown", type_it)
    watch.measure("a second burst with all shown", ask)


def main() -> None:
    """Start a server with the conversation, and measure its page."""
    with (
        tempfile.TemporaryDirectory() as name,
        running_server(Path(name)) as redis,
        connect(redis.url) as client,
        running_api(Path(name), redis_url=redis.url, drain_s=0) as api,
        ScriptedWorker(client, burst),
        sync_playwright() as playwright,
    ):
        made = requests.post(f"{api.url}/slm/conversations/import", json=conversation(), timeout=60)
        browser = launch_chromium(playwright)
        measure(browser.new_page(viewport={"width": 1280, "height": 800}), api.url, made.json()["id"])


if __name__ == "__main__":
    main()
