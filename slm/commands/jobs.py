"""`slm jobs`: lists, shows, watches and cancels jobs."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer
from slm_client import call
from slm_client.call import GENERATION_S, Call

from slm.output import Output
from slm.results import show_evaluated, show_trained
from slm.server_command import server_command
from slm.session import Session
from slm.watching import speed, watch

RESULTS = {"train": show_trained, "evaluate": show_evaluated}  # by the kind of job

jobs = typer.Typer(help="List, show, watch and cancel jobs.")

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs.")]
Search = Annotated[
    str | None, typer.Option(metavar="TEXT", help="Only jobs with this text in id, model or owner, or in your prompts.")
]


@server_command(jobs, "list")
def _list(session: Session, output: Output, limit: Limit = 20, search: Search = None) -> None:
    """List the newest jobs; with an admin's key, everybody's."""
    body = session.fetch(call.newest(limit, search))
    fields = ("job_id", "kind", "status", "model", "created_at", "finished_at")
    rows = [[one.get(name) for name in fields] for one in body["jobs"]]
    output.listing(body, ("JOB", "KIND", "STATUS", "MODEL", "CREATED", "FINISHED"), rows)


@server_command(jobs, "show")
def _show(session: Session, output: Output, job: JobId) -> None:
    """Show a job, with its answer so far, or what came of a training run or an evaluation."""
    body = session.fetch(call.show(job))
    facts = {
        **{name: body.get(name) for name in ("job_id", "kind", "status", "model", "base", "position", "attempt")},
        **{name: body[name] for name in ("created_at", "started_at", "finished_at")},
        "speed": speed(body),
        "progress": (body.get("progress") or {}).get("status"),
        "error": (body["error"] or {}).get("message"),
    }
    output.facts(body, facts, body["text"])
    if not output.as_json and body["result"] is not None and body["kind"] in RESULTS:
        RESULTS[body["kind"]](output, body["result"])


@server_command(jobs, "watch")
def _watch(session: Session, output: Output, job: JobId) -> None:
    """Follow a job: its position in the queue, then its speed. Ctrl-C stops watching, not the job."""
    session.fetch(call.show(job))  # a wrong id is refused before there is anything to watch
    body = watch(session, output, job)
    if not output.as_json:
        output.line(" ".join(filter(None, (body["status"], speed(body)))))


@server_command(jobs, "pause")
def _pause(session: Session, output: Output, job: JobId) -> None:
    """Set a training run aside: at once if it is queued, after its current step if it runs."""
    body = session.fetch(Call("POST", f"{_path(job)}/pause"))
    is_late = body["status"] == "running"
    output.result(body, "It will pause after its current step." if is_late else f"It is {body['status']}.")


@server_command(jobs, "resume")
def _resume(session: Session, output: Output, job: JobId) -> None:
    """Queue a paused training run again."""
    body = session.fetch(Call("POST", f"{_path(job)}/resume"))
    output.result(body, f"It is {body['status']}.")


@server_command(jobs, "publish")
def _publish(session: Session, output: Output, job: JobId) -> None:
    """Publish the adapter of a training run that the gate has refused."""
    body = session.fetch(Call("POST", f"{_path(job)}/publish", read_s=GENERATION_S))
    output.result(body, f"{body['name']}@{body['version']} is published.")


@server_command(jobs, "cancel")
def _cancel(session: Session, output: Output, job: JobId) -> None:
    """Cancel a job: at once if it is queued, at its next token or step if it runs."""
    body = session.fetch(call.cancel(job))
    output.result(body, "It will stop soon." if body["cancelling"] else f"It is {body['status']}.")


def _path(job: str) -> str:
    return f"/slm/jobs/{quote(job, safe='')}"
