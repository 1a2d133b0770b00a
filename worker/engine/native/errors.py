"""The reasons why the native runner cannot be used."""

from __future__ import annotations


class NativeUnavailable(Exception):
    """The native runner cannot be used on this machine; the text says why. Another runner can be used instead.

    NativeUnavailable
    └── BuildFailed   there is no C compiler, or it failed
    """


class BuildFailed(NativeUnavailable):
    """There is no C compiler, or it failed."""
