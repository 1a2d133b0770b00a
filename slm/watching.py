"""Follows a job until it ends, for every command that waits for one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from slm_client import Frame, Text, call

from slm.answering import event, waiting_line
from slm.failures import CommandError
from slm.live_line import LiveLine
from slm.output import Output
from slm.rate import Rate
from slm.session import Session


def watch(session: Session, output: Output, job_id: str) -> dict[str, Any]:
    """Show what happens to a job until it ends; return its body. With --json, write a line for each event.

    Raises:
        ApiError: the job failed.
        CommandError: it was cancelled.
    """
    with output.live_line("Connecting") as live:
        watcher = _Watcher(output, live)
        for frame in session.follow(job_id):
            watcher.take(frame)
    body = session.fetch(call.show(job_id))
    if output.as_json:
        output.event({"type": "job", **body})
    if body["status"] == "cancelled":
        raise CommandError("the job was cancelled")
    return body


def speed(body: Mapping[str, Any]) -> str | None:
    """Return the tokens of an ended generation and its speed; None for other jobs."""
    usage, run_ms = (body["result"] or {}).get("usage"), body["timings"]["run_ms"]
    if not usage or not run_ms:
        return None
    count = usage["completion_tokens"]
    return f"{count} tokens in {run_ms / 1000:.1f} s ({1000 * count / run_ms:.1f} tokens/s)"


class _Watcher:
    """Shows the state of a job in one line of a terminal, or writes a line for each change."""

    def __init__(self, output: Output, live: LiveLine) -> None:
        self._output = output
        self._live = live
        self._rate = Rate()
        self._pieces = 0

    def take(self, frame: Frame) -> None:
        """Show what has changed."""
        if self._output.as_json:
            self._output.event(event(frame))
        elif isinstance(frame, Text):
            self._count()
        elif (line := waiting_line(frame)) is not None:
            self._say(line)

    def _count(self) -> None:
        """Count a piece of text, which is a token or a few."""
        self._pieces += 1
        self._rate.note(time.monotonic())
        per_s = self._rate.per_s
        speed = "" if per_s is None else f", about {per_s:.1f} tokens/s"
        if self._live.is_shown:
            self._live.show(f"Running, about {self._pieces} tokens{speed}")
        elif self._pieces == 1:
            self._say("Running")

    def _say(self, line: str) -> None:
        if self._live.is_shown:
            self._live.show(line)
        else:
            self._output.line(line)
