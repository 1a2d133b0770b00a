"""`slm models`: everything that a request can name."""

from __future__ import annotations

import typer
from slm_client.call import Call

from slm.output import Output
from slm.server_command import server_command
from slm.session import Session

models = typer.Typer()


@server_command(models, "models")
def _models(session: Session, output: Output) -> None:
    """List everything that a request can name: base models, adapters and aliases."""
    body = session.fetch(Call("GET", "/slm/models"))
    rows = [(one["name"], one["kind"], one["model"], one["base"], one["workers"]) for one in body["models"]]
    output.listing(body, ("NAME", "KIND", "STANDS FOR", "BASE", "LOADED BY"), rows)
