"""Tensors are as small as in the engine's unit tests, and Triton's interpreter repeats no work."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from types import FunctionType

import pytest

from tests.unit.worker.engine.conftest import _single_thread

__all__ = ["_single_thread"]


@pytest.fixture(scope="session", autouse=True)
def _language_is_patched_once() -> Iterator[None]:
    """Let the interpreter patch Triton's language once.

    It would do so at each launch of a kernel and at each call of a function inside it, a third of its time.
    """
    if "TRITON_INTERPRET" not in os.environ or find_spec("triton") is None:
        yield
        return
    from triton import language
    from triton.runtime import interpreter

    seeing_both = FunctionType((lambda: None).__code__, {"tl": language, "core": language.core})
    scope = interpreter._patch_lang(seeing_both)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_patch_lang", lambda _: interpreter._LangPatchScope())
        yield
    scope.restore()
