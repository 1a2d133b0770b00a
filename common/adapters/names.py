"""The forms of names: `support` is an adapter, an alias or a base model, and `support@3` a version of an adapter."""

from __future__ import annotations

import re
from pathlib import Path

from common.errors import InvalidRequest

DEFAULT_ALIAS = "default"  # the alias of requests without a name
FORM = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_VERSION = re.compile(rf"({FORM})@([1-9][0-9]{{0,8}})")


def is_name(text: str) -> bool:
    """Return whether an adapter or an alias can have this name."""
    return re.fullmatch(FORM, text) is not None


def check_name(text: str, param: str) -> None:
    """Check the name of a new adapter or alias.

    Raises:
        InvalidRequest: it has another form; the error is about the field `param`.
    """
    if not is_name(text):
        raise InvalidRequest(
            f"{text[:80]!r} cannot be a name: a name has 1 to 64 letters, digits, '.', '_' and '-', and begins with a "
            "letter or digit.",
            param=param,
        )


def split_version(text: str) -> tuple[str, int | None]:
    """Return the name and the number of `name@number`; without a number, the text and None."""
    match = _VERSION.fullmatch(text)
    return (text, None) if match is None else (match[1], int(match[2]))


def version_name(name: str, number: int) -> str:
    """Return the name of one version of an adapter."""
    return f"{name}@{number}"


def public_name(source: str) -> str:
    """Return the name of a base model for requests: the last part of a path; a hub id although it has a slash."""
    return Path(source).name if source.startswith((".", "/", "~")) else source
