"""Celery's transport for a Redis Cluster: kombu's for Redis, on the server that has our slot, with all names in it."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis

from common.redis.cluster import SlotConnection, SlotConnectionTls, SlotOwner, node_options


class ClusterChannel(redis.Channel):
    """kombu's channel. Its option `cluster_nodes` names some nodes; `global_keyprefix` must begin with our hash tag."""

    cluster_nodes: tuple[tuple[str, int], ...] = ()
    from_transport_options = (*redis.Channel.from_transport_options, "cluster_nodes")
    connection_class = SlotConnection
    connection_class_ssl = SlotConnectionTls

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = super()._connparams(asynchronous)  # type: ignore[misc]
        tls = {name: found[name] for name in found if name.startswith("ssl_")}
        login = node_options(found["username"], found["password"], tls)
        return found | {"find_primary": SlotOwner(self.cluster_nodes, login)}


class ClusterTransport(redis.Transport):
    """kombu's transport for Redis, with that channel."""

    Channel = ClusterChannel
