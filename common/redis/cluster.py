"""Uses a Redis Cluster: all keys are in one slot, on the server that has it, and connections follow it.

Scripts and transactions may only use keys of one slot, and ours use keys of a job, its owner, its lane and the whole
server at once. So all names begin with the hash tag `{slm}`: `slm:lanes` is `{slm}:lanes`, and Celery's list `slm` is
`{slm}:slm`. The connection writes them so; all other code, the channels included, uses the usual names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from redis import BlockingConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import SSLConnection
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ReadOnlyError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from common.redis import following, keys
from common.redis.address import RedisAddress
from common.redis.following import Following, Primary

ROOT = "{slm}"
CELERY_PREFIX = f"{ROOT}:"
SLOT = key_slot(ROOT.encode())
NODE_TIMEOUT_S = 1.0  # a node that does not answer in this time is passed over for the next

# Which arguments of a command are keys; of all others, the first.
_NONE, _FIRST, _ALL, _ALL_BUT_LAST = slice(0, 0), slice(0, 1), slice(0, None), slice(0, -1)
KEYS = {
    **dict.fromkeys(("ACL", "AUTH", "CLIENT", "HELLO", "PING", "SELECT"), _NONE),
    **dict.fromkeys(("CLUSTER", "CONFIG", "DBSIZE", "FLUSHALL", "INFO", "SCAN", "SCRIPT", "TIME", "WAIT"), _NONE),
    **dict.fromkeys(("DISCARD", "EXEC", "MULTI", "UNWATCH"), _NONE),
    **dict.fromkeys(("PSUBSCRIBE", "PUBLISH", "PUBSUB", "PUNSUBSCRIBE", "SUBSCRIBE", "UNSUBSCRIBE"), _NONE),
    **dict.fromkeys(("DEL", "EXISTS", "MGET", "TOUCH", "UNLINK", "WATCH"), _ALL),
    **dict.fromkeys(("BLPOP", "BRPOP"), _ALL_BUT_LAST),
    **dict.fromkeys(("LMOVE", "RENAME", "RENAMENX", "SMOVE"), slice(0, 2)),
}


class SlotOwner(Primary):
    """The server that has our slot, as the other nodes say.

    Args:
        nodes: some nodes of the cluster; those that they name are asked first.
        options: redis-py's arguments for connections to a node.
    """

    def __init__(self, nodes: Iterable[tuple[str, int]], options: Mapping[str, Any]) -> None:
        super().__init__()
        self._given = list(nodes)
        self._named: list[tuple[str, int]] = []  # the one that answered last, and all that it named
        self._options = options

    def _find(self) -> tuple[str, int]:
        failures = []
        for node in dict.fromkeys([*self._named, *self._given]):
            try:
                owner, others = self._ask(*node)
            except RedisError as err:
                failures.append(f"{node[0]}:{node[1]}: {err}")
                continue
            self._named = [node, *others]
            return owner
        raise RedisConnectionError(f"no node of the cluster has the keys ({'; '.join(failures)})")

    def _ask(self, host: str, port: int) -> tuple[tuple[str, int], list[tuple[str, int]]]:
        """Return the server of our slot, and all nodes with slots. A node that is cut off from the others is wrong."""
        with Redis(host=host, port=port, **self._options) as node:
            if b"cluster_state:ok" not in node.execute_command("CLUSTER", "INFO"):
                raise RedisConnectionError("its cluster is down")
            ranges = node.execute_command("CLUSTER", "SLOTS")
        places = [[_place(server, host) for server in servers] for _, _, *servers in ranges]
        owners = [found[0] for (first, last, *_), found in zip(ranges, places, strict=True) if first <= SLOT <= last]
        if not owners:
            raise RedisConnectionError(f"slot {SLOT} has no server")
        return owners[0], [place for found in places for place in found]


def _place(server: Sequence[Any], asked: str) -> tuple[str, int]:
    """Return the host and port of a server.

    A node that does not know an address names none: it is the host that was `asked`. "?" stands for a host name that
    was not announced; the details then have the address.
    """
    host, port, _, *details = server
    if host == b"?":
        host = details[0].get(b"ip") if details and isinstance(details[0], Mapping) else None
    return (host.decode() if host else asked), int(port)


class SlotConnection(Following):
    """A connection to the server with our slot, which writes our keys as the cluster needs them."""

    leave_on = (ReadOnlyError, MovedError, ClusterDownError, AskError, TryAgainError)  # the last two: it moves

    def send_command(self, *args: Any, **options: Any) -> None:
        """Send one command."""
        super().send_command(*in_slot(args), **options)  # type: ignore[no-untyped-call]

    def pack_commands(self, commands: Iterable[Sequence[Any]]) -> Any:
        """Return commands as they are sent."""
        return super().pack_commands(in_slot(command) for command in commands)  # type: ignore[no-untyped-call]


class SlotConnectionTls(SlotConnection, SSLConnection):
    """The same with TLS."""


def pool(address: RedisAddress, nodes: Iterable[tuple[str, int]], **options: Any) -> BlockingConnectionPool:
    """Return a pool of connections to the server with our slot; `options` are those of `BlockingConnectionPool`."""
    login = node_options(address.user, address.password, address.tls)
    connection_class = SlotConnectionTls if address.tls else SlotConnection
    return following.pool(address, SlotOwner(nodes, login), connection_class, **options)


def is_in_slot(redis: Redis) -> bool:
    """Return whether a client writes its keys into our slot."""
    return issubclass(redis.connection_pool.connection_class, SlotConnection)


def node_options(user: str | None, password: str | None, tls: Mapping[str, Any]) -> dict[str, Any]:
    """Return redis-py's arguments for the connections on which a node is asked."""
    return {
        "username": user,
        "password": password,
        "socket_timeout": NODE_TIMEOUT_S,
        "socket_connect_timeout": NODE_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "ssl": bool(tls),
        **tls,
    }


def in_slot(command: Sequence[Any]) -> tuple[Any, ...]:
    """Return a command with its keys in our slot. A script without keys gets one, which is the `ROOT` of its names."""
    name, *args = command
    kind = str(name).partition(" ")[0].upper()
    where = KEYS.get(kind, _FIRST)
    if kind in ("EVAL", "EVALSHA"):
        if int(args[1]) == 0:
            args[1:2] = [1, ROOT]
        where = slice(2, 2 + int(args[1]))
    args[where] = [_tagged(key) for key in args[where]]
    return (name, *args)


def _tagged(key: str) -> str:
    return key if key.startswith(ROOT) else f"{ROOT}:{key.removeprefix(keys.PREFIX)}"
