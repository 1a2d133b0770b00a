"""`slm aliases`: lists and deletes aliases. `slm adapters alias` moves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer
from slm_client.call import Call

from slm.output import Output
from slm.server_command import server_command
from slm.session import Session

aliases = typer.Typer(help="List and delete aliases.")

Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="The alias.")]


@server_command(aliases, "list")
def _list(session: Session, output: Output) -> None:
    """List the aliases, with the targets that they had before."""
    body = session.fetch(Call("GET", "/slm/aliases"))
    rows = [(one["name"], one["model"], one["history"]) for one in body["aliases"]]
    output.listing(body, ("ALIAS", "TARGET", "BEFORE"), rows)


@server_command(aliases, "rm")
def _remove(session: Session, output: Output, alias: Alias) -> None:
    """Delete an alias. What it points to stays."""
    body = session.fetch(Call("DELETE", f"/slm/aliases/{quote(alias, safe='')}"))
    output.result(body, f"Deleted {alias}.")


def write_alias(body: Mapping[str, Any], output: Output) -> None:
    """Write where an alias points now."""
    output.result(body, f"{body['name']} -> {body['model']}")
