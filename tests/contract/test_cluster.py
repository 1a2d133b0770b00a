"""The keys that our connection finds in a command are those that the server finds."""

from __future__ import annotations

from redis import Redis

from common.redis.cluster import KEYS, ROOT, in_slot


def test_the_server_finds_the_same_keys(cluster_redis: Redis) -> None:
    known = cluster_redis.command()
    for command in (*KEYS, "GET", "HSET", "ZADD", "LLEN"):
        _, *written = in_slot([command, "a", "b", "c"])
        ours = [place for place, text in enumerate(written, start=1) if text.startswith(ROOT)]
        first, last, step = (known[command.lower()][name] for name in ("first_key_pos", "last_key_pos", "step_count"))
        theirs = range(first, (last if last >= 0 else 4 + last) + 1, step) if first else []
        assert ours == [*theirs], command
