"""Configures Celery for the API and the workers, and sends the wake-up messages.

Celery over Redis alone can lose a message (popped into the socket of a worker that dies) and run a long task twice (the
visibility timeout). So a message here only wakes up a worker: it has a job's id, and the job itself is in the
`JobStore`. Therefore there are no acknowledgements, no result backend and no retries by Celery, and workers do not
prefetch.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from amqp.exceptions import AMQPError
from celery import Celery
from kombu import Queue
from kombu.exceptions import OperationalError

from common.fleet import MAX_PREPARING
from common.jobs.job import Lane
from common.jobs.store import WakeUp
from common.observation.logs import fields
from common.rabbitmq import RabbitAddress
from common.redis.address import RedisAddress
from common.redis.cluster import CELERY_PREFIX
from common.redis.sentinel import broker_options
from common.settings import Settings

QUEUE = "slm"
CONTROL_QUEUE = f"{QUEUE}.control"  # jobs that any worker can run
TRAIN_QUEUE = f"{QUEUE}.{Lane.TRAIN}"  # the trainers'
EMBED_QUEUE = f"{QUEUE}.{Lane.EMBED}"  # the embedders'
HEARTBEAT_S = 10  # RabbitMQ: a connection without a sign of life for that long is given up
CONNECT_S = 2  # RabbitMQ: what waits for a connection may have leases of a few seconds to renew
SEND_S = 2  # RabbitMQ: nobody waits longer, for the same reason; during its memory alarm a send does not return
CLUSTER_TRANSPORT = "common.redis.celery_transport:ClusterTransport"  # kombu has none for a cluster
SPARE_THREADS = 2 + MAX_PREPARING  # pool threads beyond max_num_seqs: two stay free for load and unload
_TRANSPORT = {
    "ack_emulation": False,  # no acknowledgements, so no copies outside the queue and no redelivery
    "priority_steps": [0],  # a single list
    "socket_timeout": 5,
    "health_check_interval": 5,  # a queue read is answered within 0.2 s; after 5 s more, the connection is replaced
    "socket_keepalive": True,
}

log = logging.getLogger(__name__)


def worker_queues(base: str) -> list[str]:
    """Return the Celery queues of a worker: `base` is its base model if that has its own queue, else empty."""
    return [f"{QUEUE}.{base}" if base else QUEUE, CONTROL_QUEUE]


def configure(app: Celery, settings: Settings) -> Celery:
    """Configure the Celery application of the API or of a worker, and return it; makes no connection."""
    app.conf.update(
        **_broker(settings),
        task_default_queue=QUEUE,
        task_queues=queues(settings, worker_queues(settings.lane_base)),
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend_thread_safe=True,  # we use no backend; without this each thread (request) looks for its own
        task_acks_late=False,
        worker_concurrency=settings.max_num_seqs + SPARE_THREADS,
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        worker_send_task_events=True,  # Flower
        task_send_sent_event=False,  # a worker receives a message at once, and tells Flower; the event costs as much
        task_track_started=True,
        broker_connection_retry_on_startup=True,
        broker_channel_error_retry=True,
    )
    return app


def queues(settings: Settings, names: Sequence[str]) -> list[Queue]:
    """Return Celery queues of ours. RabbitMQ gives a message of a dead worker to another, and counts those unread."""
    return [Queue(name, no_ack=settings.redis_has_queues) for name in names]


def keys_of(settings: Settings, names: Sequence[str]) -> list[str]:
    """Return the keys of Celery queues in Redis: none if RabbitMQ has the queues, whatever was left in Redis before."""
    return list(names) if settings.redis_has_queues else []


def _broker(settings: Settings) -> dict[str, Any]:
    """Return where the messages are kept: in RabbitMQ if that is wanted, else in the Redis of the jobs."""
    if settings.broker_url is not None:
        rabbitmq = RabbitAddress.parse(settings.broker_url)
        return {
            "broker_url": rabbitmq.url,
            "broker_use_ssl": dict(rabbitmq.tls) or None,
            "broker_heartbeat": HEARTBEAT_S,
            "broker_connection_timeout": CONNECT_S,
            "broker_transport_options": {"max_retries": 0},
        }
    address = RedisAddress.parse(settings.required_redis_url())
    in_cluster = {"cluster_nodes": address.cluster, "global_keyprefix": CELERY_PREFIX} if address.cluster else {}
    return {
        "broker_url": address.broker_url,
        "broker_transport": CLUSTER_TRANSPORT if address.cluster else None,
        "broker_use_ssl": dict(address.tls) or None,
        "broker_transport_options": _TRANSPORT | broker_options(address) | in_cluster,
        "worker_disable_prefetch": True,
    }


class Dispatcher:
    """Sends the Celery wake-up messages of dispatched jobs. Flower shows the task id (the job id) and the model."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._may_hang = (app.conf.broker_url or "").startswith("amqp")
        self._hanging: threading.Thread | None = None

    def __call__(self, wake_ups: Sequence[WakeUp]) -> None:
        """Send the messages. If one fails, a worker's reaper sends it later: the job is safe in the store.

        If the broker cannot be reached, it is tried only once for all of them.
        """
        if not wake_ups:
            return
        if self._may_hang:
            self._send_in_time(wake_ups)
        else:
            self._send_all(wake_ups)

    def _send_in_time(self, wake_ups: Sequence[WakeUp]) -> None:
        """Send on another thread, and leave it alone if it hangs; until it returns, nothing else is sent."""
        if self._hanging is None or not self._hanging.is_alive():
            sending = threading.Thread(target=self._send_all, args=(wake_ups,), name="slm-dispatch", daemon=True)
            sending.start()
            sending.join(SEND_S)
            if not sending.is_alive():
                return
            self._hanging = sending
        _note_failure(wake_ups[0], "the broker does not answer", more=len(wake_ups) - 1)

    def _send_all(self, wake_ups: Sequence[WakeUp]) -> None:
        for index, wake_up in enumerate(wake_ups):
            try:
                self._send(wake_up)
            except OperationalError as err:
                _note_failure(wake_up, err, more=len(wake_ups) - index - 1)
                return
            except AMQPError as err:  # RabbitMQ refuses the login, or this queue
                _note_failure(wake_up, err)

    def _send(self, wake_up: WakeUp) -> None:
        self._app.send_task(
            wake_up.kind.task_name,
            args=[wake_up.job_id],
            task_id=wake_up.job_id,
            queue=wake_up.queue,
            retry=False,
            kwargsrepr=_shown(wake_up),
        )


def _note_failure(wake_up: WakeUp, err: Exception | str, *, more: int = 0) -> None:
    others = f" and {more} more" if more else ""
    message = "job %s%s: not dispatched (%s); the reaper will"
    log.warning(message, wake_up.job_id, others, err, extra=fields(job_id=wake_up.job_id))


def _shown(wake_up: WakeUp) -> str:
    """Return what Flower shows as the task's keyword arguments, which do not exist: the model."""
    return repr({"model": wake_up.model, "base": wake_up.base} if wake_up.model else {})
