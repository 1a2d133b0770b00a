"""The fixtures of the API's unit tests."""

from __future__ import annotations

from tests.unit.api.conftest import redis, start_api

__all__ = ["redis", "start_api"]
