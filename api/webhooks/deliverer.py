"""Delivers due webhooks. Every API process has a deliverer; they share the work.

Delivery is at least once: if a process dies after a delivery but before it has recorded it, another process delivers
again. The receiver recognises the repetition by its webhook-id.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from redis.exceptions import RedisError

from api.service import JobView
from api.webhooks import message
from api.webhooks.sender import DeliveryFailed, Sender
from common.errors import JobNotFound
from common.jobs.webhook_queue import LeasedWebhook, Shares, WebhookQueue
from common.observation import context

RETRY_AFTER_S = (5, 30, 120, 600, 2700)  # six attempts within an hour
LOOK_S = 1.0  # pause between two queries for due webhooks
SHARES = Shares(total=256, owner=128, receiver=8)  # an attempt is a greenlet and a socket
LEASE_S = 60.0  # longer than any attempt takes

log = logging.getLogger(__name__)


class Deliverer:
    """Takes due webhooks and posts each on its own thread, so that a slow receiver does not delay others.

    Args:
        queue: the due webhooks.
        view: returns an ended job for its message; raises `JobNotFound`.
        sender: posts messages.
        key: signs the messages; None if the server has no secret.
    """

    def __init__(
        self, queue: WebhookQueue, view: Callable[[str], JobView], sender: Sender, *, key: bytes | None
    ) -> None:
        self._queue = queue
        self._view = view
        self._sender = sender
        self._key = key
        self._in_flight: set[LeasedWebhook] = set()
        self._has_room = threading.Event()  # set if an attempt has ended since the last query

    def start(self) -> None:
        """Start delivering on a thread, until the process ends."""
        threading.Thread(target=self._run, name="slm-webhooks", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._has_room.clear()
            try:
                self.start_due()
            except RedisError as err:
                log.warning("webhooks: Redis does not answer (%s); trying again", err)
            self._has_room.wait(LOOK_S)

    def start_due(self) -> list[threading.Thread]:
        """Start an attempt for each due webhook within the shares; return the threads."""
        due = self._queue.take(SHARES, self._in_flight.copy(), lease_s=LEASE_S)
        self._in_flight.update(due)
        attempts = [threading.Thread(target=self._attempt, args=(leased,), daemon=True) for leased in due]
        for attempt in attempts:
            attempt.start()
        return attempts

    def _attempt(self, leased: LeasedWebhook) -> None:
        try:
            with context.bound(job_id=leased.job_id):
                self._try(leased)
        finally:
            self._in_flight.discard(leased)
            self._has_room.set()

    def _try(self, leased: LeasedWebhook) -> None:
        try:
            self._note(leased, self._failure(leased))
        except RedisError as err:
            log.warning(
                "job %s: outcome of the webhook not stored (%s); it will be sent again soon", leased.job_id, err
            )

    def _failure(self, leased: LeasedWebhook) -> DeliveryFailed | None:
        """Send the webhook; return the failure, if any."""
        try:
            self._send(leased)
        except DeliveryFailed as err:
            return err
        except RedisError:
            raise
        except Exception:
            log.exception("job %s: webhook not sent", leased.job_id)
            return DeliveryFailed("internal error")
        return None

    def _send(self, leased: LeasedWebhook) -> None:
        if self._key is None:
            raise DeliveryFailed("the server has no SLM_WEBHOOK_SECRET to sign with", is_final=True)
        try:
            view = self._view(leased.job_id)
        except JobNotFound as err:
            raise DeliveryFailed("the job has expired", is_final=True) from err
        if view.record.webhook is not None:
            body = message.body_of(view)
            headers = message.headers(self._key, leased.job_id, body, now_s=int(time.time()))
            self._sender.post(view.record.webhook.url, headers, body)

    def _note(self, leased: LeasedWebhook, failure: DeliveryFailed | None) -> None:
        if failure is None:
            self._queue.note_delivered(leased)
        elif failure.is_final or leased.attempt > len(RETRY_AFTER_S):
            log.warning("job %s: gave up on the webhook after attempt %d (%s)", leased.job_id, leased.attempt, failure)
            self._queue.note_failed(leased, str(failure))
        else:
            self._queue.note_retry(leased, str(failure), delay_s=RETRY_AFTER_S[leased.attempt - 1])
