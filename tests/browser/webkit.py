"""The machine's WebKit (WebKitGTK's MiniBrowser). It only speaks the classic WebDriver protocol, not Playwright's."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests

from tests.free_port import free_port
from tests.processes import end

DRIVER, SCREEN = "WebKitWebDriver", "xvfb-run"
LANGUAGE = {"LC_ALL": "C"}  # English; with C.UTF-8 it would be "C", which no script understands
START_S = 60
TIMEOUT_S = 60  # for an element, on a busy machine
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for a reference to an element
ENTER, ESCAPE, CONTROL = "\ue007", "\ue00c", "\ue009"


def is_there() -> bool:
    """Return whether WebKit can run here: it needs a screen, if only a virtual one."""
    return None not in (shutil.which(DRIVER), shutil.which(SCREEN))


class GoneError(Exception):
    """The element was drawn again."""


class WebKitPage:
    """A window of WebKit. Elements are found by XPath, and waited for."""

    def __init__(self, driver: str) -> None:
        self._session = f"{driver}/session"
        capabilities = {"alwaysMatch": {"pageLoadStrategy": "normal"}}
        self._session += f"/{self._ask('POST', '', capabilities=capabilities)['sessionId']}"

    def goto(self, url: str) -> None:
        self._ask("POST", "/url", url=url)

    def reload(self) -> None:
        self._ask("POST", "/refresh")

    def close(self) -> None:
        self._ask("DELETE", "")

    def resize(self, width: int, height: int) -> None:
        self._ask("POST", "/window/rect", width=width, height=height)

    def evaluate(self, script: str) -> Any:
        """Return what a function's body returns."""
        return self._ask("POST", "/execute/sync", script=script, args=[])

    def wait_for(self, xpath: str) -> str:
        """Return the first element that is there and visible."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            with suppress(GoneError):
                for found in self._ask("POST", "/elements", using="xpath", value=xpath):
                    if self._ask("GET", f"/element/{found[ELEMENT]}/displayed"):
                        return str(found[ELEMENT])
            assert time.monotonic() < deadline, f"no {xpath} in: {self.evaluate('return document.body.innerText')}"
            time.sleep(0.1)

    def click(self, xpath: str) -> None:
        self._act(xpath, "/click")

    def write(self, xpath: str, text: str) -> None:
        self._act(xpath, "/value", text=text)

    def _act(self, xpath: str, action: str, **body: Any) -> None:
        while True:
            with suppress(GoneError):
                self._ask("POST", f"/element/{self.wait_for(xpath)}{action}", **body)
                return

    def press(self, *keys: str) -> None:
        """Press keys together."""
        actions = [{"type": kind, "value": key} for kind in ("keyDown", "keyUp") for key in keys]
        self._ask("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def _ask(self, method: str, path: str, **body: Any) -> Any:
        answer = requests.request(
            method, self._session + path, json=body or ({} if method == "POST" else None), timeout=TIMEOUT_S
        )
        value = answer.json()["value"]
        if not answer.ok and value["error"] == "stale element reference":
            raise GoneError
        assert answer.ok, value
        return value


@contextmanager
def running_webkit() -> Iterator[WebKitPage]:
    """Start WebKit on a virtual screen."""
    port = free_port()
    command = [SCREEN, "-a", DRIVER, f"--port={port}"]
    process = subprocess.Popen(command, env=os.environ | LANGUAGE, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(url)
        page = WebKitPage(url)
        try:
            yield page
        finally:
            page.close()
    finally:
        end(process)


def _wait_until_up(url: str) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            requests.get(f"{url}/status", timeout=5).raise_for_status()
            return
        except requests.ConnectionError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def named(name: str) -> str:
    """Return the XPath of buttons, links and fields by their name."""
    labelled = f"@aria-label='{name}' or normalize-space(.)='{name}'"
    return f"//*[self::button or self::a or self::input or self::textarea or @role][{labelled}] | {field(name)}"


def field(label: str) -> str:
    """Return the XPath of the field inside a label."""
    return f"//label[starts-with(normalize-space(.), '{label}')]//*[self::input or self::textarea or self::select]"


def showing(text: str, within: str = "//body") -> str:
    """Return the XPath of elements with this text."""
    return f"{within}//*[contains(normalize-space(.), '{text}')]"
