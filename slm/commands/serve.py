"""`slm serve`: the whole server on this machine, as `start_slm_api.py` starts it in a checkout of the project."""

from __future__ import annotations

import os

import typer

from common.environment import ours
from deploy.start_command import serve_command

serve = typer.Typer()

_ANY = {"allow_extra_args": True, "ignore_unknown_options": True}


@serve.command("serve", context_settings=_ANY, add_help_option=False)
def _serve(context: typer.Context) -> None:
    """Start the server on this machine: Redis, a worker with the model, and the API with its page."""
    command = serve_command(context.args)
    os.execve(command[0], command, ours(os.environ))  # noqa: S606 - no shell is wanted
