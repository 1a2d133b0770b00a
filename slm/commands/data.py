"""`slm data`: checks datasets, and makes them of people's feedback."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from slm_client.call import Call

from slm.dataset_report import written
from slm.failures import CommandError
from slm.output import Output
from slm.server_command import server_command
from slm.session import Session

SHOWN_CHARS = 60  # of a text in a list


class DatasetKind(StrEnum):
    """What a dataset has of feedback."""

    PAIRS = "pairs"
    PREFERENCES = "preferences"


class Rating(StrEnum):
    """Whether an answer is good."""

    UP = "up"
    DOWN = "down"


data = typer.Typer(help="Check datasets, list feedback, and make datasets of it.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines, a JSON list or CSV; - is the standard input.")]
Validation = Annotated[Path | None, typer.Option(metavar="FILE", help="A dataset to test with.")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="The base model to train, or an adapter to continue.")]
MaxLength = Annotated[int | None, typer.Option(min=8, metavar="TOKENS", help="Longer examples are left out.")]
Epochs = Annotated[float | None, typer.Option(metavar="N", help="Passes over the data, for the estimate.")]
BatchSize = Annotated[int | None, typer.Option(min=1, metavar="N", help="Examples per step, for the estimate.")]
Kind = Annotated[
    DatasetKind,
    typer.Option(help="Pairs: good answers and corrections. Preferences: corrections and what they correct."),
]
WithTags = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="Only with this tag; repeatable.")]
OfModel = Annotated[str | None, typer.Option("--model", metavar="NAME", help="Only answers of this model.")]
Since = Annotated[datetime | None, typer.Option(help="Only feedback from then on.")]
Until = Annotated[datetime | None, typer.Option(help="Only feedback up to then.")]
OfOwner = Annotated[str | None, typer.Option(metavar="NAME", help="Only of this owner's jobs (with an admin's key).")]
OfRating = Annotated[Rating | None, typer.Option(help="Only with this rating.")]
Limit = Annotated[int, typer.Option(min=1, max=100, metavar="N", help="Maximum number to list.")]
After = Annotated[str | None, typer.Option(metavar="JOB", help="Continue after this job's.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Also write the dataset here.")]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Chooses the part that is held out.")]


@server_command(data, "check")
def _check(
    session: Session,
    output: Output,
    file: File,
    validation: Validation = None,
    model: Model = None,
    max_length: MaxLength = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
) -> None:
    """Report what is wrong with a dataset, and what a training would see of it. Exit status 1 if it cannot be used."""
    content, given = read(file), {"model": model, "max_length": max_length, "epochs": epochs, "batch_size": batch_size}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None} | {"seed": seed}
    held_out = None if validation is None else (validation.name, read(validation))
    with output.live_line("Checking"):
        report = session.check_dataset(file.name, content, options, held_out)
    output.result(report, written(report))
    if not report["usable"]:
        raise CommandError(f"{file} cannot be used")


@server_command(data, "from-feedback")
def _from_feedback(
    session: Session,
    output: Output,
    kind: Kind = DatasetKind.PAIRS,
    tag: WithTags = None,
    model: OfModel = None,
    since: Since = None,
    until: Until = None,
    owner: OfOwner = None,
    out: Out = None,
) -> None:
    """Make a dataset of the feedback on answers, and keep it on the server as a file to fine-tune with."""
    given = {"tags": tag, "model": model, "since": _moment(since), "until": _moment(until), "owner": owner}
    wanted = {name: value for name, value in given.items() if value} | {"kind": kind.value}
    if out is not None:
        wanted["filename"] = out.name
    made = session.fetch(Call("POST", "/slm/feedback/dataset", wanted))
    if out is not None:
        out.write_bytes(session.content(made["file_id"]))
    left_out = f"; {made['left_out']} more are not of that kind" if made["left_out"] else ""
    output.result(made, f"{made['file_id']}: {made['examples']} {made['kind']}{left_out}")


@server_command(data, "feedback")
def _feedback(
    session: Session,
    output: Output,
    rating: OfRating = None,
    tag: WithTags = None,
    model: OfModel = None,
    since: Since = None,
    until: Until = None,
    owner: OfOwner = None,
    limit: Limit = 20,
    after: After = None,
) -> None:
    """List the feedback on answers, the latest change first."""
    times = {"since": _moment(since), "until": _moment(until)}
    given = {"rating": rating, "tags": tag, "model": model, **times, "owner": owner, "limit": limit, "after": after}
    query = urlencode({name: value for name, value in given.items() if value}, doseq=True)
    body = session.fetch(Call("GET", f"/slm/feedback?{query}"))
    headings = ("JOB", "RATING", "TAGS", "MODEL", "CHANGED", "PROMPT", "CORRECTION")
    output.listing(body, headings, map(_row, body["feedback"]))
    if body["has_more"]:
        output.step(f"There is more: --after {body['last_id']}")


def _row(one: Mapping[str, Any]) -> tuple[object, ...]:
    prompt = one["prompt"] if isinstance(one["prompt"], str) else json.dumps(one["prompt"], ensure_ascii=False)
    texts = (shorten(text, SHOWN_CHARS) for text in (prompt, one["correction"] or ""))
    return (*(one[name] for name in ("job_id", "rating", "tags", "model", "updated_at")), *texts)


def _moment(time: datetime | None) -> str | None:
    """Return the time with its zone; without one it is of this machine's zone."""
    return None if time is None else time.astimezone().isoformat()


def read(file: Path) -> bytes:
    """Return the content of a file, or the standard input. Raises `CommandError`."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as err:
        raise CommandError(f"{file} cannot be read: {err.strerror}", exit_status=2) from err
