"""The Lua scripts of `lua/`: each runs in Redis as one atomic step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

_FOLDER = Path(__file__).parent / "lua"

Argument = str | int | float


class Script:
    """One script, called by its hash; loaded where the server does not know it (yet, or since it restarted)."""

    def __init__(self, name: str) -> None:
        self._text = _source("prelude") + _source(name)
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, redis: Redis, *args: Argument) -> Any:
        """Run it.

        Raises:
            redis.exceptions.RedisError: the server cannot be reached or the script failed.
        """
        try:
            return redis.evalsha(self._sha, 0, *args)
        except NoScriptError:
            redis.script_load(self._text)
            return redis.evalsha(self._sha, 0, *args)

    def many(self, redis: Redis, calls: Sequence[Sequence[Argument]]) -> list[Any]:
        """Run it once per argument list, all in one round trip; the answers in order."""
        if len(calls) == 1:
            return [self(redis, *calls[0])]
        try:
            return self._pipelined(redis, calls)
        except NoScriptError:
            redis.script_load(self._text)
            return self._pipelined(redis, calls)

    def _pipelined(self, redis: Redis, calls: Sequence[Sequence[Argument]]) -> list[Any]:
        with redis.pipeline(transaction=False) as pipe:
            for args in calls:
                pipe.evalsha(self._sha, 0, *args)
            return list(pipe.execute())


@cache
def _source(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
