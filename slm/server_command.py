"""Declares commands that talk to a server: gives each the options --url, --api-key and --json, and a session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Concatenate, ParamSpec

import httpx
import typer
from slm_client.connection import DEFAULT_URL

from slm.failures import shown
from slm.options import Json, declare, parameters_of
from slm.output import Output
from slm.session import Session

P = ParamSpec("P")


def _checked_url(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as err:
        raise typer.BadParameter(f"{url!r} is not an address: {err}") from err
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise typer.BadParameter(f"{url!r} is not an address such as {DEFAULT_URL}")
    return url


def _checked_key(key: str) -> str:
    stripped = key.strip()
    if not (stripped.isascii() and stripped.isprintable()) or " " in stripped:
        raise typer.BadParameter("a key has only visible ASCII characters")
    return stripped


# The server's processes refuse unknown variables that begin with SLM_, so the clients' have another prefix.
Url = Annotated[
    str, typer.Option(envvar="SLMCLIENT_URL", metavar="URL", parser=_checked_url, help="Address of the server.")
]
ApiKey = Annotated[
    str | None,
    typer.Option(envvar="SLMCLIENT_API_KEY", metavar="KEY", parser=_checked_key, help="API key, if it has keys."),
]


def server_command(
    app: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Session, Output, P], None]], Callable[Concatenate[Session, Output, P], None]]:
    """Return a decorator that adds the function to `app` as command `name`; session and output are not its options."""

    def register(
        function: Callable[Concatenate[Session, Output, P], None],
    ) -> Callable[Concatenate[Session, Output, P], None]:
        def run(*, url: Url = DEFAULT_URL, api_key: ApiKey = None, as_json: Json = False, **arguments: Any) -> None:
            output = Output(as_json=as_json)
            with shown(output), Session(url, api_key) as session:
                session.reach()
                function(session, output, **arguments)  # type: ignore[call-arg]

        own = parameters_of(function)[2:]
        app.command(name, help=function.__doc__)(declare(run, [*own, *parameters_of(run)]))
        return function

    return register
