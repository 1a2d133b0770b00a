"""All commands together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from io import TextIOWrapper
from typing import Any

import typer

from slm.commands.adapters import adapters
from slm.commands.aliases import aliases
from slm.commands.chat import chat
from slm.commands.data import data
from slm.commands.doctor import doctor
from slm.commands.export import export
from slm.commands.generate import generate
from slm.commands.jobs import jobs
from slm.commands.keys import keys
from slm.commands.merge import merge
from slm.commands.models import models
from slm.commands.serve import serve
from slm.commands.train import train


def run(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit status: 0, 1 for an error, 2 for a wrong command, 130 if interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # an answer may have characters that the terminal does not
    try:
        command()(list(arguments), prog_name="slm")
    except SystemExit as err:
        return err.code if isinstance(err.code, int) else 0
    return 0


def command() -> Callable[..., Any]:
    """Return the whole command line; calling it with arguments ends in `SystemExit`."""
    app = typer.Typer(
        help="Use and manage an SLM server.",
        epilog="Exit status: 0 done; 1 an error; 2 the command is wrong; 130 interrupted.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for single in (serve, models, chat, generate, train, merge, export, doctor):
        app.add_typer(single)
    for name, group in (("adapters", adapters), ("aliases", aliases), ("data", data), ("jobs", jobs), ("keys", keys)):
        app.add_typer(group, name=name, no_args_is_help=True)
    return typer.main.get_command(app)
