"""`slm data`: checks datasets, and makes them of people's feedback."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from slm.dataset_report import written
from slm.failures import CommandError
from slm.output import Output
from slm.server_command import server_command
from slm.session import Session

data = typer.Typer(help="Check datasets, and make them of feedback.")

File = Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines, a JSON list or CSV; - is the standard input.")]
Validation = Annotated[Path | None, typer.Option(metavar="FILE", help="A dataset to test with.")]
Model = Annotated[str | None, typer.Option(metavar="NAME", help="The base model to train, or an adapter to continue.")]
MaxLength = Annotated[int | None, typer.Option(min=8, metavar="TOKENS", help="Longer examples are left out.")]
Epochs = Annotated[float | None, typer.Option(metavar="N", help="Passes over the data, for the estimate.")]
BatchSize = Annotated[int | None, typer.Option(min=1, metavar="N", help="Examples per step, for the estimate.")]
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


def read(file: Path) -> bytes:
    """Return the content of a file, or the standard input. Raises `CommandError`."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as err:
        raise CommandError(f"{file} cannot be read: {err.strerror}", exit_status=2) from err
