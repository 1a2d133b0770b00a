"""Log context: binds the current request, job and attempt once, and adds them to every log line.

The fields belong to the thread or greenlet that bound them. A job carries the `request_id` to its worker, so that the
same id finds a request in the logs of every process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

Field = str | int | float

_EMPTY: Mapping[str, Field] = {}
_FIELDS: ContextVar[Mapping[str, Field]] = ContextVar("slm_context", default=_EMPTY)


def current() -> Mapping[str, Field]:
    """Return the bound fields, in the order in which they were bound."""
    return _FIELDS.get()


def begin(**fields: Field) -> None:
    """Replace all bound fields by these."""
    _FIELDS.set(fields)


def add(**fields: Field) -> None:
    """Bind more fields, until the next `begin` or the end of the enclosing `bound` block."""
    _FIELDS.set({**_FIELDS.get(), **fields})


@contextmanager
def bound(**fields: Field) -> Iterator[None]:
    """Bind more fields for the duration of a `with` block."""
    token = _FIELDS.set({**_FIELDS.get(), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)
