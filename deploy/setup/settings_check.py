"""Finds wrong `SLM_*` variables before the packages that the full check needs are installed.

Standard library only. The settings are read from the source of `common.settings`, which stays their only definition.
`Settings.from_env` still checks everything that passes here.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.environment import RENAMED
from common.redis.address import RedisAddress
from deploy.bootstrap import ROOT, SetupError

SOURCE = ROOT / "common" / "settings.py"
_PREFIX = "SLM_"
_BOOLEANS = frozenset({"0", "1", "f", "false", "n", "no", "off", "on", "t", "true", "y", "yes"})
_COMPARE: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "ge": ("at least", float.__ge__),
    "gt": ("more than", float.__gt__),
    "le": ("at most", float.__le__),
}


def check_settings(environment: Mapping[str, str], source: Path = SOURCE) -> None:
    """Check every variable with our prefix.

    Raises:
        SetupError: a variable is not a setting, or its value is not valid.
    """
    fields = setting_fields(source)
    for name in sorted(name for name in environment if name.upper().startswith(_PREFIX)):
        field = fields.get(RENAMED.get(name.upper(), name.upper()))
        if field is None:
            raise SetupError(f"{name} is not a setting.{_hint(name.upper(), list(fields))}")
        if environment[name]:  # an empty one counts as unset
            _check_value(name, field, environment[name])


def _check_value(name: str, field: ast.AnnAssign, text: str) -> None:
    wanted = _objection(field, text.strip())
    if wanted is not None:
        raise SetupError(f"{name} has the value {text!r}; it must be {wanted}.")
    if name.upper() == "SLM_REDIS_URL":
        try:
            RedisAddress.parse(text)
        except ValueError as err:
            raise SetupError(f"{name} cannot be used: {err}.") from None  # the value may hold a password


def setting_fields(source: Path = SOURCE) -> dict[str, ast.AnnAssign]:
    """Return the variables with the statements that define their settings, aliases of types replaced."""
    body = ast.parse(source.read_text("utf-8")).body
    aliases = {ast.unparse(node.targets[0]): node.value for node in body if isinstance(node, ast.Assign)}
    (found,) = [node for node in body if isinstance(node, ast.ClassDef) and node.name == "Settings"]
    fields: dict[str, ast.AnnAssign] = {}
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            node.annotation = aliases.get(ast.unparse(node.annotation), node.annotation)
            fields[f"{_PREFIX}{node.target.id}".upper()] = node
    return fields


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.removeprefix(_PREFIX), [one.removeprefix(_PREFIX) for one in known], n=1)
    return f" Did you mean {_PREFIX}{near[0]}?" if near else f" Known: {', '.join(sorted(known))}."


def _objection(field: ast.AnnAssign, text: str) -> str | None:
    """Return a description of the valid values; None if `text` may be valid."""
    kind = ast.unparse(field.annotation)
    if kind == "bool":
        return None if text.lower() in _BOOLEANS else "true or false"
    if kind in ("int", "float"):
        return _number(text, field.value, is_whole=kind == "int")
    if kind.startswith("Literal["):
        choices = ast.literal_eval(field.annotation.slice) if isinstance(field.annotation, ast.Subscript) else ()
        return None if text in choices else f"one of {', '.join(choices)}"
    return None


def _number(text: str, value: ast.expr | None, *, is_whole: bool) -> str | None:
    bounds = _bounds(value)
    words = [f"{_COMPARE[name][0]} {bound:g}" for name, bound in bounds.items()]
    wanted = f"a {'whole ' if is_whole else ''}number, {' and '.join(words)}"
    try:
        number = float(text)
    except ValueError:
        return wanted
    if is_whole and not number.is_integer():
        return wanted
    return None if all(_COMPARE[name][1](number, float(bound)) for name, bound in bounds.items()) else wanted


def _bounds(value: ast.expr | None) -> dict[str, Any]:
    """Return the bounds given to `Field(…)`, by pydantic's names."""
    keywords = value.keywords if isinstance(value, ast.Call) else []
    return {one.arg: ast.literal_eval(one.value) for one in keywords if one.arg in _COMPARE}
