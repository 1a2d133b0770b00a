"""Plays the animation of the README: an answer goes on, on two devices, after its worker and the API were killed.

    python -m benchmarks.page_demo docs/images/demo.webp

It runs the real server with the default model. Needs Chromium, and img2webp (Debian: webp). Pauses are shortened.
"""

from __future__ import annotations

import argparse
import base64
import subprocess
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from common.settings import ROOT
from tests.browser.chromium import launch_chromium
from tests.free_port import free_port
from tests.processes import Cluster, is_up, running_cluster
from tests.redis_server import running_server

SAMPLING = '{"min_new_tokens": 220, "max_new_tokens": 260, "temperature": 0.7, "seed": 11}'
SETTINGS = f'{{"model": "SmolLM2-135M-Instruct", "sampling": {SAMPLING}}}'
QUESTION = "Tell me a story about a robot who learns to paint."
DESKTOP, PHONE = (760, 520), (290, 520)
STAGE = (1100, 600)
MIN_MS, MAX_MS = 80, 900  # how long a picture is shown
LAST_MS = 4000
PATIENCE_S = 120.0
HTML = """<body style="margin:0;background:#e9ebf2;font:600 21px system-ui;color:#1d2233;display:grid;
grid-template:60px 520px/760px 290px;gap:0 20px;padding:0 15px"><div style="grid-column:1/3;align-self:center">{caption}
</div>{pictures}</body>"""
PICTURE = '<img style="border-radius:12px;box-shadow:0 2px 10px #0003" src="data:image/png;base64,{data}">'


class Film:
    """Takes pictures of two pages side by side, with a caption above them."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.desktop = _page(browser, DESKTOP)
        self.phone = _page(browser, PHONE)
        self._stage = _page(browser, STAGE)
        self._folder = folder
        self._caption = ""
        self._shown = ""
        self._shots: list[tuple[Path, float]] = []

    def say(self, caption: str) -> None:
        """Change the caption, and leave time to read it."""
        self._caption = caption
        self.roll(1.2)

    def roll(self, seconds: float) -> None:
        """Film for a while."""
        end = time.monotonic() + seconds
        self.roll_until(lambda: time.monotonic() > end)

    def roll_until(self, is_done: Callable[[], bool]) -> None:
        """Film until something has happened."""
        deadline = time.monotonic() + PATIENCE_S
        self._shoot()
        while not is_done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the scene does not end: {self._caption}")
            self._shoot()

    def _shoot(self) -> None:
        pages = self.desktop, self.phone
        data = [base64.b64encode(page.screenshot(caret="hide", animations="disabled")).decode() for page in pages]
        content = HTML.format(caption=self._caption, pictures="".join(PICTURE.format(data=one) for one in data))
        if content == self._shown:
            return
        self._shown = content
        self._stage.set_content(content)
        file = self._folder / f"{len(self._shots):04}.png"
        self._stage.screenshot(path=file)
        self._shots.append((file, time.monotonic()))

    def save(self, target: Path) -> None:
        """Write the animation."""
        times = [at for _, at in self._shots]
        shown_ms = [max(MIN_MS, min(MAX_MS, round((after - at) * 1000))) for at, after in pairwise(times)]
        frames: list[str] = []
        for (file, _), ms in zip(self._shots, [*shown_ms, LAST_MS], strict=True):
            frames += ["-d", str(ms), str(file)]
        options = ["-loop", "0", "-lossy", "-q", "60", "-m", "6", "-kmin", "30", "-kmax", "60"]
        subprocess.run(["img2webp", *options, *frames, "-o", str(target)], check=True)


def _page(browser: Browser, size: tuple[int, int]) -> Page:
    return browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme="light")


def play(film: Film, cluster: Cluster) -> None:
    """Play the demo."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def start_worker(name: str) -> None:
        cluster.start_worker(name, "worker.app", SLM_DATA_DIR=str(ROOT / "data"))

    start_worker("a")
    api = cluster.start_api(port)
    cluster.wait_until_taking_jobs("a")
    while not is_up(url):
        time.sleep(0.1)
    film.desktop.add_init_script(f"localStorage.setItem('slm-chat-settings', '{SETTINGS}')")
    film.desktop.goto(url)
    film.desktop.get_by_role("button", name="Hide").click()
    film.say("Ask something")
    film.desktop.get_by_label("Message", exact=True).press_sequentially(QUESTION, delay=5)
    film.roll(0.5)
    film.desktop.keyboard.press("Enter")
    answer = film.desktop.locator(".turn.assistant .markdown")
    answer.wait_for()
    film.roll(1.5)
    film.phone.goto(film.desktop.url)
    film.phone.locator(".turn.assistant .markdown").wait_for()
    film.say("The answer on two devices")
    cluster.processes("a")[-1].kill()
    film.say("The worker is killed, and so is the API")
    api.kill()
    film.roll_until(lambda: film.phone.get_by_text("Reconnecting…").is_visible())
    film.roll(1)
    cluster.start_api(port)
    start_worker("b")
    shown = answer.inner_text()
    film.say("Both start again")
    film.roll_until(lambda: answer.inner_text() != shown)
    film.say("The answer goes on at its next token, on both")
    for page in (film.desktop, film.phone):
        film.roll_until(page.get_by_role("button", name="Send").is_visible)
    film.roll(1)


def main() -> None:
    """Play, film and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("--frames", type=Path, help="a folder in which to keep the single pictures")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as name,
        running_server(Path(name)) as redis,
        running_cluster(redis.url, Path(name), SLM_LEASE_S="3", SLM_DRAIN_S="0") as cluster,
        sync_playwright() as playwright,
    ):
        browser = launch_chromium(playwright)
        film = Film(browser, options.frames or Path(name))
        play(film, cluster)
        film.save(options.target)


if __name__ == "__main__":
    main()
