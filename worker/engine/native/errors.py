"""What can keep the native runner from being used."""

from __future__ import annotations


class NativeUnavailable(Exception):
    """The native runner cannot be used here; the text says why. Another runner can.

    NativeUnavailable
    ├── BuildFailed        there is no C compiler, or it failed
    └── UnsupportedModel   the model has a part that the native code does not compute
    """


class BuildFailed(NativeUnavailable):
    """There is no C compiler, or it failed."""


class UnsupportedModel(NativeUnavailable):
    """The model has a part that the native code does not compute."""
