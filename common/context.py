"""What the running code works for: the request, the job and the attempt. Bound once, named in every log line below it.

The fields belong to the thread or greenlet that bound them. A job carries the `request_id` to its worker, so that one
id finds a request in the logs of every process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

Field = str | int | float

_EMPTY: Mapping[str, Field] = {}
_FIELDS: ContextVar[Mapping[str, Field]] = ContextVar("slm_context", default=_EMPTY)


def current() -> Mapping[str, Field]:
    """The fields that hold here, in the order in which they were bound."""
    return _FIELDS.get()


def begin(**fields: Field) -> None:
    """Start over with these fields alone."""
    _FIELDS.set(fields)


def add(**fields: Field) -> None:
    """Bind further fields, until the next `begin` or the end of the `bound` block around this."""
    _FIELDS.set({**_FIELDS.get(), **fields})


@contextmanager
def bound(**fields: Field) -> Iterator[None]:
    """Bind further fields for the length of a `with` block."""
    token = _FIELDS.set({**_FIELDS.get(), **fields})
    try:
        yield
    finally:
        _FIELDS.reset(token)
