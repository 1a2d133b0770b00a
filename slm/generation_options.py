"""The options of `slm generate` and `slm chat`. The server checks the values, and names a wrong field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="NAME", help="A base model, an adapter (NAME or NAME@3) or an alias."),
]
MaxNewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", "-n", metavar="N", help="Maximum number of tokens of the answer.")
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", "-t", metavar="T", help="0 always takes the most probable token.")
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="The same seed and request give the same answer.")]


def _field(option: str) -> tuple[str, Any]:
    name, equals, value = option.partition("=")
    if not (name and equals):
        raise typer.BadParameter(f"must be FIELD=VALUE; got {option!r}")
    return name, _json_or_text(value)


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


More = Annotated[
    list[Any] | None,
    typer.Option(
        "--option",
        "-o",
        metavar="FIELD=VALUE",
        parser=_field,
        help="Any other field of the request; VALUE is JSON, or else text. Can be repeated.",
    ),
]


def given(named: Mapping[str, Any], more: list[tuple[str, Any]] | None) -> dict[str, Any]:
    """Return the fields of a request that the command names."""
    return {name: value for name, value in named.items() if value is not None} | dict(more or [])
