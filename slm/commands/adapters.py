"""`slm adapters`: publishes, lists and deletes adapters, and moves aliases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from slm_client.call import Call

from slm.adapter_source import Advance, find_adapter
from slm.card import facts_of, show_gate
from slm.commands.aliases import write_alias
from slm.output import Output
from slm.server_command import server_command
from slm.session import Session

_FACTS = ("name", "version", "id", "base", "rank", "modules", "bytes", "created", "aliases", "workers")

adapters = typer.Typer(help="Publish, list and delete adapters, and move aliases.")

Adapter = Annotated[str, typer.Argument(metavar="NAME", help="An adapter (NAME), or one version of it (NAME@3).")]
Source = Annotated[Path, typer.Argument(metavar="PATH", help="A PEFT folder, or a tar.gz or zip archive of one.")]
BaseName = Annotated[
    str | None, typer.Option("--base", metavar="BASE", help="Its base model. Default: the server finds out.")
]
NewName = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Default: the name of PATH.")]
Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="The alias; it is made if there is none.")]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="A base model, an adapter (NAME or NAME@3) or an alias.")]
OldAlias = Annotated[str, typer.Argument(metavar="ALIAS", help="The alias.")]


@server_command(adapters, "list")
def _list(session: Session, output: Output) -> None:
    """List the adapters."""
    body = session.fetch(Call("GET", "/slm/adapters"))
    headings = ("NAME", "NEWEST", "BASE", "RANK", "SIZE", "ALIASES", "LOADED BY")
    output.listing(body, headings, [_row(one) for one in body["adapters"]])


@server_command(adapters, "show")
def _show(session: Session, output: Output, name: Adapter) -> None:
    """Show an adapter's newest version with the card of its training, or those of one version."""
    body = session.fetch(Call("GET", _path(name)))
    facts = {fact: body[fact] for fact in _FACTS}
    output.facts(body, facts | {"versions": [one["version"] for one in body.get("versions", [])] or None})
    if body["summary"] and not output.as_json:
        output.line("\nTraining")
        output.facts(body, facts_of(body["summary"]))
        show_gate(output, body["summary"].get("gate"))


@server_command(adapters, "add")
def _add(session: Session, output: Output, path: Source, name: NewName = None, base: BaseName = None) -> None:
    """Upload an adapter as the next version of its name."""
    source = find_adapter(path)
    with _progress(output, source.num_bytes) as advance:
        added = session.upload(name or source.name, source.send(advance), source.content_type, base)
    what = "added" if added["is_new"] else "was there already"
    output.result(added, f"{added['name']}@{added['version']} {what}")


@server_command(adapters, "rm")
def _remove(session: Session, output: Output, name: Adapter) -> None:
    """Delete a version, or all versions of an adapter."""
    body = session.fetch(Call("DELETE", _path(name)))
    output.result(body, "Deleted: " + ", ".join(f"{body['name']}@{number}" for number in body["versions"]))


@server_command(adapters, "alias")
def _alias(session: Session, output: Output, alias: Alias, target: Target) -> None:
    """Point an alias to a version of an adapter, or to a base model."""
    call = Call("PUT", f"/slm/aliases/{quote(alias, safe='')}", {"model": target})
    write_alias(session.fetch(call), output)


@server_command(adapters, "rollback")
def _rollback(session: Session, output: Output, alias: OldAlias) -> None:
    """Point an alias to its previous target again."""
    write_alias(session.fetch(Call("POST", f"/slm/aliases/{quote(alias, safe='')}/rollback")), output)


def _path(name: str) -> str:
    return f"/slm/adapters/{quote(name, safe='@')}"


def _row(one: Mapping[str, Any]) -> tuple[object, ...]:
    return (
        *(one[name] for name in ("name", "version", "base", "rank")),
        _size(one["bytes"]),
        *(one[name] for name in ("aliases", "workers")),
    )


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1_000_000:.1f} MB"


@contextmanager
def _progress(output: Output, num_bytes: int) -> Iterator[Advance]:
    """Show how much of the upload has been read, on a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.err, transient=True, disable=not output.is_live) as progress:
        task = progress.add_task("Uploading", total=num_bytes)

        def advance(count: int) -> None:
            progress.advance(task, count)
            if progress.finished:
                progress.update(task, description="Checking")  # now the server unpacks it

        yield advance
