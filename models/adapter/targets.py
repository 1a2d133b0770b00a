"""Determines the modules that an adapter's config targets, by peft's rules for names and patterns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

ALL_LINEAR = "all-linear"  # every linear layer: in a config saved before peft replaced it with the names
_LAYER = r".*?\.[^.]*\.(?P<layer>\d+)\."  # the first number in a module's name counts, as in peft


class BadPattern(ValueError):
    """A pattern of the config is not a regular expression."""


@dataclass(frozen=True, slots=True)
class Targets:
    """The fields of `adapter_config.json` that select the adapted modules. A list has names or endings of names."""

    modules: list[str] | str
    excluded: list[str] | str
    layers: list[int] | int | None  # only in these layers; None or empty: in all layers
    layers_pattern: list[str] | str | None  # the name of the module list with the layers; None or empty: any


def targeted(targets: Targets, modules: Iterable[str]) -> set[str]:
    """Return those of `modules` that are adapted.

    Raises:
        BadPattern: a pattern is not valid.
    """
    return {name for name in modules if _is_target(targets, name)}


def from_patterns(patterns: Mapping[str, float], module: str, default: float) -> float:
    """Return the value of the first pattern that matches the end of the module's name, else `default`.

    Raises:
        BadPattern: a pattern is not valid.
    """
    for pattern, value in patterns.items():
        if _compiled(rf"(.*\.)?({pattern})$", pattern).match(module):
            return value
    return default


def _is_target(targets: Targets, module: str) -> bool:
    if _matches(targets.excluded, module) or not _matches(targets.modules, module):
        return False
    if isinstance(targets.modules, str) or targets.layers in (None, []):
        return True
    layers = [targets.layers] if isinstance(targets.layers, int) else targets.layers
    return _layer_of(targets.layers_pattern, module) in (layers or ())


def _matches(names: list[str] | str, module: str) -> bool:
    if isinstance(names, str):
        return _compiled(names, names).fullmatch(module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _layer_of(patterns: list[str] | str | None, module: str) -> int | None:
    expressions = [_LAYER]
    if patterns:
        given = [patterns] if isinstance(patterns, str) else patterns
        expressions = [rf"(?:^|.*?\.){pattern}\.(?P<layer>\d+)\." for pattern in given]
    matches = (_compiled(expression, expression).match(module) for expression in expressions)
    found = next((match for match in matches if match), None)
    return int(found["layer"]) if found else None


def _compiled(expression: str, shown: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as err:
        raise BadPattern(f"adapter_config.json holds {shown!r}, which is not a valid pattern: {err}.") from err
