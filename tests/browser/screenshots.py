"""Pictures of every view, wide and on a phone, in both schemes: python -m tests.browser.screenshots docs/images

The server has a scripted worker, so that the pictures show the same each time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
from playwright.sync_api import Browser, Page, sync_playwright
from redis import Redis

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.fleet import WorkerReport, WorkerState
from common.owners.api_keys import DEFAULT_LIMITS, ApiKeyStore, Role
from common.redis.client import connect
from tests.api_process import ApiProcess, running_api
from tests.browser.chromium import launch_chromium
from tests.browser.test_views import CARD
from tests.redis_server import running_server
from tests.scripted_worker import Play, ScriptedWorker

SIZES = {"wide": (1280, 800), "phone": (360, 740)}
SCHEMES = ("light", "dark")
VIEWS = (
    "jobs",
    "models",
    "training",
    "training/new",
    "chat/compare",
    "system",
    "system/keys",
    "system/settings",
    "system/audit",
)
SETTLE_MS = 800
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj")
POLL_S = 0.2
A_TOKEN_S = 0.02
CHARTS_MS = 11_000  # two measurements
QUESTION = "Write a function that greets somebody, and say how it is used."
ANSWER = """Here is one in **Python**:

```python
def greet(name: str) -> str:
    return f"Hello, {name}!"
```

| call | result |
|:-----|:-------|
| `greet("Ann")` | Hello, Ann! |

Call it with a name, and print what it returns.
"""
PAIRS = [{"instruction": f"What is rule {number}?", "response": f"Rule {number} says so."} for number in range(12)]
REPORT = WorkerReport(
    id="slm1-3f9c2a@server",
    host="server",
    pid=4711,
    state=WorkerState.READY,
    device="cuda",
    slots=32,
    base_model="SmolLM2-135M-Instruct",
    cuda_available=True,
    base_id="b5a4d58c",
    license="apache-2.0",
    parameters=134_515_008,
    model_bytes=538_090_408,
    context=2048,
    dtype="int8",
)


def script(play: Play) -> None:
    """Answer, or go on until somebody cancels it."""
    play.status("Generating response...")
    pieces = [f"{word} " for word in ANSWER.split(" ")]
    for piece in pieces[:-1]:
        play.say(piece)
        time.sleep(A_TOKEN_S)
    if "long story" in play.prompt:
        while not play.is_cancelled:
            time.sleep(POLL_S)
        play.end("")
    else:
        play.end(pieces[-1].rstrip(" "))


class Visitor:
    """Takes pictures of a server as an admin sees it."""

    def __init__(self, api: ApiProcess, browser: Browser, secret: str, folder: Path) -> None:
        self._api, self._browser, self._secret, self._folder = api, browser, secret, folder

    def take_all(self, run_id: str) -> None:
        """Take all pictures."""
        for name, size in SIZES.items():
            for scheme in SCHEMES:
                with self._page(size, scheme) as page:
                    self._chat(page, f"{name}-{scheme}")
                    for view in (*VIEWS, f"training/{run_id}"):
                        self._view(page, view, f"{name}-{scheme}")

    @contextmanager
    def _page(self, size: tuple[int, int], scheme: Any) -> Iterator[Page]:
        viewport: Any = {"width": size[0], "height": size[1]}
        with self._browser.new_context(viewport=viewport, color_scheme=scheme) as context:
            context.add_init_script(f"sessionStorage.setItem('slm-api-key', {self._secret!r})")
            yield context.new_page()

    def _chat(self, page: Page, suffix: str) -> None:
        page.goto(self._api.url)
        page.get_by_role("tab", name="curl").wait_for()
        self._take(page, f"chat-first-{suffix}")
        page.get_by_label("Message", exact=True).fill(QUESTION)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Another answer").wait_for()
        self._take(page, f"chat-{suffix}")
        page.get_by_role("button", name="Settings of this chat").click()
        page.get_by_label("Tools").select_option("auto")
        self._take(page, f"chat-settings-{suffix}")
        page.keyboard.press("Control+k")
        self._take(page, f"palette-{suffix}")

    def _view(self, page: Page, view: str, suffix: str) -> None:
        page.goto("about:blank")
        page.goto(f"{self._api.url}/#/{view}")
        page.get_by_role("heading", level=1).wait_for()
        page.wait_for_timeout(CHARTS_MS if view == "system" else 0)
        if view == "models":
            page.get_by_role("button", name="Card: support@2").click()
            page.get_by_role("heading", name="Samples").wait_for()
            self._take(page, f"models-card-{suffix}")
            page.keyboard.press("Escape")
        name = "training-run" if view.count("-") > 1 else view.replace("/", "-")
        self._take(page, f"{name}-{suffix}")

    def _take(self, page: Page, name: str) -> None:
        page.wait_for_timeout(SETTLE_MS)
        page.screenshot(path=self._folder / f"{name}.png")


def fill(api: ApiProcess, redis: Redis, secret: str) -> tuple[str, str]:
    """Make what the views show; returns the ids of a training run, and of a generation that goes on."""
    store = ApiKeyStore(redis)
    store.create("support-bot", Role.USER)
    store.create("ann", Role.TRAINER, DEFAULT_LIMITS)
    with requests.Session() as session:
        session.headers["X-API-Key"] = secret
        run = session.post(f"{api.url}/slm/train", json={"name": "support", "data": PAIRS}, timeout=60).json()
        session.get(f"{api.url}/slm/jobs/{run['job_id']}/stream", timeout=60).raise_for_status()
        for content in (b"one", b"two"):
            facts = VersionFacts(
                sha256(content).hexdigest(), REPORT.base_name, "b5a4d58c", 8, MODULES, 1_860_513, summary=CARD
            )
            AdapterRegistry(redis).register("support", facts)
        for alias in ("prod", "beta"):
            session.put(f"{api.url}/slm/aliases/{alias}", json={"model": "support"}, timeout=60).raise_for_status()
        for prompt in ("What is an API?", "Translate this.", "Tell me a long story"):
            body = {"prompt": prompt, "async": True, "on_disconnect": "continue"}
            running = session.post(f"{api.url}/slm/stream", json=body, timeout=60).json()
        session.patch(f"{api.url}/slm/keys/ann", json={"limits": {"tokens_per_day": 100_000}}, timeout=60)
    return str(run["job_id"]), str(running["job_id"])


def main(folder: Path) -> None:
    """Take the pictures into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        data = Path(stack.enter_context(TemporaryDirectory()))
        server = stack.enter_context(running_server(data))
        redis = stack.enter_context(connect(server.url))
        secret = ApiKeyStore(redis).create("root", Role.ADMIN)
        stack.enter_context(ScriptedWorker(redis, script, report=REPORT, uploads=data / "uploads"))
        api = stack.enter_context(running_api(data, redis_url=server.url, drain_s=0, data_dir=data))
        playwright = stack.enter_context(sync_playwright())
        browser = stack.enter_context(launch_chromium(playwright))
        run_id, running_id = fill(api, redis, secret)
        Visitor(api, browser, secret, folder).take_all(run_id)
        requests.delete(f"{api.url}/slm/jobs/{running_id}", headers={"X-API-Key": secret}, timeout=60)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
