"""`slm train` and `slm eval`: train an adapter on a dataset, and measure models on one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from slm_client.call import Call

from slm.failures import CommandError
from slm.output import Output
from slm.results import show_evaluated, show_trained
from slm.server_command import server_command
from slm.session import Session
from slm.watching import watch

train = typer.Typer()

File = Annotated[Path, typer.Argument(metavar="FILE", help="The dataset: JSON lines, a JSON list or CSV.")]
Name = Annotated[str, typer.Option("--name", metavar="NAME", help="The adapter; the run becomes its newest version.")]
Base = Annotated[str | None, typer.Option("--base", metavar="NAME", help="The base model; default: the server's.")]
From = Annotated[str | None, typer.Option("--from", metavar="NAME", help="The adapter to continue training.")]
Validation = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Examples to test with; default: a part of FILE.")
]
Epochs = Annotated[float | None, typer.Option(help="Passes over the data; default: enough for its size.")]
LearningRate = Annotated[float | None, typer.Option(help="The highest learning rate.")]
Rank = Annotated[int | None, typer.Option(help="Rank of the LoRA matrices.")]
Seed = Annotated[int | None, typer.Option(help="Of the order of the examples, and of what is held out.")]
Publish = Annotated[bool, typer.Option(help="Publish the adapter if it passes the gate.")]
Force = Annotated[bool, typer.Option("--force", help="Publish it although it does not pass.")]
Watch = Annotated[bool, typer.Option("--watch", help="Wait for the end, and show steps, losses and sample answers.")]
Models = Annotated[
    list[str], typer.Option("--model", "-m", metavar="NAME", help="A model to measure; may be given several times.")
]


@server_command(train, "train")
def _train(
    session: Session,
    output: Output,
    file: File,
    name: Name,
    base: Base = None,
    start_from: From = None,
    validation: Validation = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    rank: Rank = None,
    seed: Seed = None,
    publish: Publish = True,
    force: Force = False,
    watch_it: Watch = False,
) -> None:
    """Train an adapter on a dataset, compare it with the base, and publish it if it is better."""
    wanted = {
        "name": name,
        "file_id": _uploaded(session, output, file),
        "validation_file_id": validation and _uploaded(session, output, validation),
        "base": base,
        "from": start_from,
        "epochs": epochs,
        "learning_rate": learning_rate,
        "rank": rank,
        "seed": seed,
        "publish": publish,
        "force": force,
    }
    job = session.fetch(Call("POST", "/slm/train", _given(wanted)))
    if not watch_it:
        output.result(job, f"{job['job_id']}\nFollow it: slm jobs watch {job['job_id']}")
        return
    result = watch(session, output, job["job_id"])["result"]
    if not output.as_json:
        show_trained(output, result)


@server_command(train, "eval")
def _eval(session: Session, output: Output, file: File, models: Models, seed: Seed = None) -> None:
    """Measure models side by side on a dataset: loss, perplexity, and how many of their answers are right."""
    wanted = {"models": models, "file_id": _uploaded(session, output, file), "seed": seed}
    job = session.fetch(Call("POST", "/slm/evaluate", _given(wanted)))
    result = watch(session, output, job["job_id"])["result"]
    if not output.as_json:
        show_evaluated(output, result)


def _uploaded(session: Session, output: Output, file: Path) -> str:
    """Upload a dataset; return its id."""
    if not file.is_file():
        raise CommandError(f"there is no file {str(file)!r}", exit_status=2)
    with output.live_line(f"Uploading {file.name}"):
        return session.send_dataset(file.name, file.read_bytes())


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
