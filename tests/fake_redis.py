"""An emulated Redis, without a process.

A real server compiles each Lua script once. fakeredis does so at each call, and starts an interpreter for each server;
with our scripts that is most of its time. So here all servers of a process share an interpreter, and what it compiled.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any
from unittest.mock import patch

from fakeredis import FakeRedis, FakeRedisConnection, FakeServer
from fakeredis.commands_mixins import scripting_mixin
from redis import Redis
from redis.exceptions import TimeoutError as RedisTimeoutError

_LuaRuntime = scripting_mixin.LUA_MODULE.LuaRuntime
_lock = threading.Lock()  # of the interpreter, and so of every server
_scripts: dict[bytes, bytes] = {}  # by their hashes; as on a real server, they stay when a test empties it


class _CompilingRuntime:
    """lupa's `LuaRuntime`, which keeps what it compiled, and collects garbage only when Lua itself wants to."""

    def __init__(self, **options: Any) -> None:
        self._runtime = _LuaRuntime(**options)
        self._compiled: dict[bytes, Any] = {}

    def execute(self, script: bytes | str) -> Any:
        if isinstance(script, str):  # fakeredis' own `collectgarbage()` after each script
            return None
        if script not in self._compiled:
            self._compiled[script] = self._runtime.compile(script)
        return self._compiled[script]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)


@cache
def _interpreter() -> dict[str, Any]:
    """Return the attributes in which a server keeps its interpreter."""
    server = FakeServer()
    with patch.object(scripting_mixin.LUA_MODULE, "LuaRuntime", _CompilingRuntime):
        FakeRedis(server=server).eval("return 1", 0)
    return {name: value for name, value in vars(server).items() if name.startswith("_lua_")}


def fake_server() -> FakeServer:
    """Return a new, empty server."""
    server = FakeServer()
    server.lock, server.script_cache = _lock, _scripts
    vars(server).update(_interpreter())
    return server


class _Connection(FakeRedisConnection):
    """A connection whose reading can end without an answer, as a real one's."""

    def read_response(self, *, timeout: float | None = None, **options: Any) -> Any:
        if timeout is not None and not self.can_read(timeout):
            raise RedisTimeoutError("Timeout reading from the emulated server")
        return super().read_response(**options)


def fake_redis(server: FakeServer | None = None) -> Redis:
    """Return a client of this server; of a new one by default."""
    return FakeRedis(server=server or fake_server(), decode_responses=True, connection_class=_Connection)
