"""Runs the command on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from common.settings import ROOT

PATIENCE_S = 60.0
REPEAT_S = 3.0
CTRL_C = "\x03"
CTRL_D = "\x04"


class Terminal:
    """What a person sees and types. `seen` has everything that was written so far, with control sequences."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.seen = ""
        self._waited_for = 0  # characters of `text`
        self._process = process
        self._master = master

    @property
    def text(self) -> str:
        """What was written, without control sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen)

    def wait_for(self, text: str, *, repeated: str = "") -> None:
        """Wait until the text was written after what the last call waited for.

        `repeated` is typed every few seconds until then.
        """
        start = typed_at = time.monotonic()
        while text not in self.text[self._waited_for :]:
            assert time.monotonic() < start + PATIENCE_S, f"no {text!r} in {self.text!r}"
            self._read(0.1)
            if repeated and time.monotonic() > typed_at + REPEAT_S:
                typed_at = time.monotonic()
                self.type(repeated)
        self._waited_for = self.text.index(text, self._waited_for) + len(text)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Wait for the command's end; returns its exit status."""
        deadline = time.monotonic() + PATIENCE_S
        while self._process.poll() is None:
            assert time.monotonic() < deadline, self.text
            self._read(0.1)
        self._read(0.1)
        return self._process.returncode

    def _read(self, timeout_s: float) -> None:
        ready, _, _ = select.select([self._master], [], [], timeout_s)
        if ready:
            try:
                self.seen += os.read(self._master, 65536).decode(errors="replace")
            except OSError:  # Linux: the other side is closed
                time.sleep(0.02)


@contextmanager
def terminal(*arguments: str, **variables: str) -> Iterator[Terminal]:
    """Start the command on a terminal; it is killed at the end if it still runs."""
    master, slave = pty.openpty()
    env = os.environ | {"TERM": "xterm", "COLUMNS": "200"} | variables
    command = [sys.executable, "-m", "slm", *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_own
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def _own() -> None:
    """Make the terminal the session's own, so that Ctrl-C reaches the command."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
