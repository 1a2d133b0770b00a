"""The base models of a server, as the setting SLM_MODELS names them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from common.adapters.names import DEFAULT_ALIAS, is_name

MAX_WORKERS = 64
EXAMPLE = "smol=SmolLM2-135M-Instruct; chat=/models/qwen,workers=2,device=cpu,dtype=int8"
OPTIONS = ("device", "dtype", "kv_cache_dtype")  # with the names and the values of settings
_RESERVED = (DEFAULT_ALIAS, "control", "train", "embed")  # an alias, and Celery queues such as slm.control


@dataclass(frozen=True, slots=True)
class Base:
    """A base model: its name for requests and where it comes from, as in SLM_BASE_MODEL.

    `workers`: how many workers `start_slm_api.py` starts for it; None: as many as its option says. `device`, `dtype`
    and `kv_cache_dtype`: None means those of the settings.
    """

    name: str
    source: str
    workers: int | None = None
    device: str | None = None
    dtype: str | None = None
    kv_cache_dtype: str | None = None

    def to_text(self) -> str:
        """Return the text form; `parse_bases` reads it back."""
        options = {name: getattr(self, name) for name in ("workers", *OPTIONS)}
        given: dict[str, object] = {self.name: self.source} | {name: value for name, value in options.items() if value}
        return ",".join(f"{name}={value}" for name, value in given.items())


def parse_bases(text: str, choices: Mapping[str, Sequence[str]]) -> tuple[Base, ...]:
    """Parse the value of SLM_MODELS: `name=model,option=value,...` for each base, separated by semicolons.

    Args:
        text: the value.
        choices: the values that each of `OPTIONS` may have.

    Raises:
        ValueError: the text names the part that is wrong, and what would be right.
    """
    bases = tuple(_base(part.strip(), choices) for part in text.split(";") if part.strip())
    if not bases:
        raise ValueError(f"it names no base model; expected, for example, {EXAMPLE}")
    names = [base.name for base in bases]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice!r} names two base models; give each its own name")
    return bases


def _base(entry: str, choices: Mapping[str, Sequence[str]]) -> Base:
    first, *options = (part.strip() for part in entry.split(","))
    name, _, source = (part.strip() for part in first.partition("="))
    if not source:
        raise ValueError(f"{entry!r} must be name=model, where model is what SLM_BASE_MODEL takes: {EXAMPLE}")
    _check_name(name)
    base = Base(name, source)
    for option in options:
        base = _with_option(base, option, choices)
    return base


def _check_name(name: str) -> None:
    if not is_name(name):
        raise ValueError(
            f"{name!r} cannot be a name: a name has 1 to 64 letters, digits, '.', '_' and '-', and begins with a "
            "letter or digit"
        )
    if name in _RESERVED:
        raise ValueError(f"{name!r} cannot name a base model, because the server uses the name; choose another")


def _with_option(base: Base, text: str, choices: Mapping[str, Sequence[str]]) -> Base:
    name, _, value = (part.strip() for part in text.partition("="))
    if name == "workers":
        if not value.isdecimal() or not 1 <= int(value) <= MAX_WORKERS:
            raise ValueError(f"workers of {base.name!r} must be a whole number from 1 to {MAX_WORKERS}; got {value!r}")
        return replace(base, workers=int(value))
    if name not in choices:
        known = ("workers", *choices)
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"{base.name!r} has an unknown option {name!r}: {hint}")
    if value not in choices[name]:
        raise ValueError(f"{name} of {base.name!r} must be one of {', '.join(choices[name])}; got {value!r}")
    options: dict[str, Any] = {name: value}
    return replace(base, **options)
