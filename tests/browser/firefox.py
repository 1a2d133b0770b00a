"""The machine's Firefox, driven by Playwright through `firefox_bridge.py`."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Playwright

NAMES = ("firefox", "firefox-esr")
BRIDGE = Path(__file__).with_name("firefox_bridge.py")


def find_firefox() -> str | None:
    """The program's path; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def launch_firefox(playwright: Playwright) -> Iterator[Browser]:
    with TemporaryDirectory() as folder:
        program = Path(folder) / "firefox"  # Playwright wants one file
        command = shlex.join([sys.executable, str(BRIDGE), find_firefox() or "firefox"])
        program.write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
        program.chmod(0o755)
        with playwright.firefox.launch(channel="moz-firefox", executable_path=program) as browser:
            yield browser
