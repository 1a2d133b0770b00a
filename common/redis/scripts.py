"""The Lua scripts of `lua/`: each runs in Redis as one atomic step."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

_FOLDER = Path(__file__).parent / "lua"

Argument = str | int | float


class Script:
    """One script on one server, called by its hash; loaded if the server does not know it (yet, or since a restart)."""

    def __init__(self, redis: Redis, name: str) -> None:
        self._redis = redis
        self._script = redis.register_script(_text(name))

    def __call__(self, *args: Argument) -> Any:
        """Run it.

        Raises:
            redis.exceptions.RedisError: the server cannot be reached or the script failed.
        """
        return self._script(args=args)

    def on_replicas(self, replicas: int, timeout_s: float, args: Sequence[Argument]) -> tuple[Any, int]:
        """Run it, and wait until that many replicas have everything that was written before; for up to `timeout_s`.

        Returns the answer, and how many have it. WAIT is for the writes of its own connection, so both are sent as one
        pipeline, and a script that finds an earlier call's work must write nevertheless.
        """
        wait = ("WAIT", replicas, round(timeout_s * 1000))
        answer, copies = self._pipelined([("EVALSHA", self._script.sha, 0, *args), wait])
        return answer, int(copies)

    def many(self, calls: Sequence[Sequence[Argument]]) -> list[Any]:
        """Run it once per argument list, all in one round trip; the answers in order.

        Not by redis-py's own way: its pipelines spend another round trip each time to ask if the script is loaded.
        """
        if len(calls) == 1:
            return [self(*calls[0])]
        return self._pipelined([("EVALSHA", self._script.sha, 0, *args) for args in calls])

    def _pipelined(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Run commands in one round trip; if the server does not know the script, load it and run them again."""
        try:
            return self._sent(commands)
        except NoScriptError:
            self._redis.script_load(self._script.script)
            return self._sent(commands)

    def _sent(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        with self._redis.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call]
            return list(pipe.execute())


@cache
def _text(name: str) -> bytes:
    """Return the script after what it uses of the prelude: Redis makes all of these functions again at every call."""
    source, definitions = _source(name), _prelude()
    needed = _names_in(source) & definitions.keys()
    unread = list(needed)
    while unread:
        found = _names_in(definitions[unread.pop()]) & definitions.keys() - needed
        needed |= found
        unread += found
    return "".join([*(text for one, text in definitions.items() if one in needed), source]).encode()


@cache
def _prelude() -> dict[str, str]:
    """Return the prelude's constants and functions by their names, in their order, without the comments above them."""
    code = re.sub(r"^--.*\n", "", _source("prelude"), flags=re.MULTILINE)
    _, *found = re.split(r"^(?=local (?:function )?(\w+))", code, flags=re.MULTILINE)
    return dict(zip(found[::2], found[1::2], strict=True))


def _names_in(lua: str) -> set[str]:
    return set(re.findall(r"[A-Za-z_]\w*", lua))


@cache
def _source(name: str) -> str:
    return (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")


def or_empty(number: int | None) -> Argument:
    """Return a number as a script's argument; None becomes ''."""
    return "" if number is None else number
