"""The fixtures of the engine's unit tests."""

from __future__ import annotations

from tests.unit.worker.engine.conftest import _single_thread, each_engine

__all__ = ["_single_thread", "each_engine"]
