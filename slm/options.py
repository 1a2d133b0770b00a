"""The options that many commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Write JSON: a document, or a line for each event of a stream.")]


def parameters_of(function: Callable[..., Any]) -> list[Parameter]:
    """Return the parameters with their types, as keyword arguments: typer passes all of them by name."""
    found = inspect.signature(function, eval_str=True).parameters.values()
    return [one.replace(kind=Parameter.KEYWORD_ONLY) for one in found if one.kind is not Parameter.VAR_KEYWORD]


def declare(function: Callable[..., None], parameters: Iterable[Parameter]) -> Callable[..., None]:
    """Tell typer which parameters the function takes, in place of its `**arguments`. Returns the function."""
    declared = list(parameters)
    function.__annotations__ = {one.name: one.annotation for one in declared}
    setattr(function, "__signature__", Signature(declared))  # noqa: B010 - functions do not declare it
    return function
