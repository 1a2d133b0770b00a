"""The options of generations on the command line."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from slm.generation_options import Model, More, given


def fields(*arguments: str) -> dict[str, Any]:
    """What a command with these arguments sends."""
    found: list[dict[str, Any]] = []

    def command(model: Model = None, more: More = None) -> None:
        found.append(given({"model": model, "seed": 0}, more))

    app = typer.Typer()
    app.command()(command)
    app(arguments, standalone_mode=False)
    return found[0]


def test_values_are_json_or_text_and_unset_options_are_not_sent() -> None:
    options = ["top_k=3", 'stop=["a"]', "regex=a=b", "priority=bulk"]
    arguments = [part for option in options for part in ("-o", option)]
    sent = {"seed": 0, "top_k": 3, "stop": ["a"], "regex": "a=b", "priority": "bulk"}
    assert fields(*arguments) == sent
    assert fields(*arguments, "--model", "m@2") == sent | {"model": "m@2"}


@pytest.mark.parametrize("option", ["top_k", "=3"])
def test_an_option_without_a_name_or_a_value_is_refused(option: str) -> None:
    with pytest.raises(Exception, match="FIELD=VALUE"):
        fields("-o", option)
