"""Tensors are as small as in the engine's unit tests."""

from __future__ import annotations

from tests.unit.worker.engine.conftest import _single_thread

__all__ = ["_single_thread"]
