"""`slm jobs`: lists, shows, watches and cancels jobs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from slm_client import Frame, Text, call

from slm.answering import event, waiting_line
from slm.failures import CommandError
from slm.live_line import LiveLine
from slm.output import Output
from slm.rate import Rate
from slm.server_command import server_command
from slm.session import Session

jobs = typer.Typer(help="List, show, watch and cancel jobs.")

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs.")]


@server_command(jobs, "list")
def _list(session: Session, output: Output, limit: Limit = 20) -> None:
    """List the newest jobs; with an admin's key, everybody's."""
    body = session.fetch(call.newest(limit))
    fields = ("job_id", "kind", "status", "model", "created_at", "finished_at")
    rows = [[one.get(name) for name in fields] for one in body["jobs"]]
    output.listing(body, ("JOB", "KIND", "STATUS", "MODEL", "CREATED", "FINISHED"), rows)


@server_command(jobs, "show")
def _show(session: Session, output: Output, job: JobId) -> None:
    """Show a job, with its answer so far."""
    body = session.fetch(call.show(job))
    facts = {
        **{name: body.get(name) for name in ("job_id", "kind", "status", "model", "base", "position", "attempt")},
        **{name: body[name] for name in ("created_at", "started_at", "finished_at")},
        "speed": _speed(body),
        "error": (body["error"] or {}).get("message"),
    }
    output.facts(body, facts, body["text"])


@server_command(jobs, "watch")
def _watch(session: Session, output: Output, job: JobId) -> None:
    """Follow a job: its position in the queue, then its speed. Ctrl-C stops watching, not the job."""
    session.fetch(call.show(job))  # a wrong id is refused before there is anything to watch
    with output.live_line("Connecting") as live:
        watcher = _Watcher(output, live)
        for frame in session.follow(job):
            watcher.take(frame)
    body = session.fetch(call.show(job))
    if output.as_json:
        output.event({"type": "job", **body})
    else:
        output.line(" ".join(filter(None, (body["status"], _speed(body)))))
    if body["status"] == "cancelled":
        raise CommandError("the job was cancelled")


@server_command(jobs, "cancel")
def _cancel(session: Session, output: Output, job: JobId) -> None:
    """Cancel a job: at once if it is queued, at its next token if it runs."""
    body = session.fetch(call.cancel(job))
    output.result(body, "It will stop at its next token." if body["cancelling"] else f"It is {body['status']}.")


def _speed(body: Mapping[str, Any]) -> str | None:
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
