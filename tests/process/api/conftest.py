"""The API in this process, as its unit tests have it."""

from __future__ import annotations

from tests.unit.api.conftest import redis, start_api

__all__ = ["redis", "start_api"]
