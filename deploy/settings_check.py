"""Wrong `SLM_*` variables, found before the installation that would make the real check possible.

Standard library only. The settings are read out of the source of `common.settings`, which stays the one place that
states them. What this lets pass, that module still checks (`Settings.from_env`).
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.redis_address import RedisAddress
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
    """Look at every variable with our prefix.

    Raises:
        SetupError: one is no setting, or has a value that its setting cannot take.
    """
    fields = setting_fields(source)
    for name in sorted(name for name in environment if name.upper().startswith(_PREFIX)):
        field = fields.get(name.upper())
        if field is None:
            raise SetupError(f"{name} is not a setting.{_hint(name.upper(), list(fields))}")
        if environment[name]:  # an empty one counts as unset
            _check_value(name, field, environment[name])


def _check_value(name: str, field: ast.AnnAssign, text: str) -> None:
    wanted = _objection(field, text.strip())
    if wanted is not None:
        raise SetupError(f"{name} has the value {text!r}: it takes {wanted}.")
    if name.upper() == "SLM_REDIS_URL":
        try:
            RedisAddress.parse(text)
        except ValueError as err:
            raise SetupError(f"{name} cannot be used: {err}.") from None  # the value may hold a password


def setting_fields(source: Path = SOURCE) -> dict[str, ast.AnnAssign]:
    """The variables with the statements that state their settings."""
    (found,) = [
        node
        for node in ast.parse(source.read_text("utf-8")).body
        if isinstance(node, ast.ClassDef) and node.name == "Settings"
    ]
    fields = [node for node in found.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    return {f"{_PREFIX}{node.target.id}".upper(): node for node in fields if isinstance(node.target, ast.Name)}


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.removeprefix(_PREFIX), [one.removeprefix(_PREFIX) for one in known], n=1)
    return f" Did you mean {_PREFIX}{near[0]}?" if near else f" Known: {', '.join(sorted(known))}."


def _objection(field: ast.AnnAssign, text: str) -> str | None:
    """What the setting takes instead of `text`; None where it may take that."""
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
    """The bounds that `Field(…)` states, by pydantic's names."""
    keywords = value.keywords if isinstance(value, ast.Call) else []
    return {one.arg: ast.literal_eval(one.value) for one in keywords if one.arg in _COMPARE}
