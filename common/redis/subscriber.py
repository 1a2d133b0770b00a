"""Shares one pub/sub connection per process among all listeners.

Pub/sub loses messages if the connection breaks (redis-py silently subscribes again) or a listener is too slow. A
listener is then notified that it missed messages and reads the log instead, so its mailbox can be small.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from typing import Any

from redis import Redis
from redis.client import PubSub
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from common.errors import RedisUnavailable
from common.redis import keys
from common.redis.outage import Outage

MAILBOX_SIZE = 256  # messages a listener may lag behind before it must read the log
CONFIRM_TIMEOUT_S = 5.0
IDLE_POLL_S = 1.0  # how long the reader waits for a message before it checks whether to stop
UNANSWERED = 5  # pings, one per quiet `IDLE_POLL_S`, after which the connection is given up
RECONNECT_S = 0.5
_LISTENING = "subscription lost"

log = logging.getLogger(__name__)


class Listener:
    """The mailbox of one listener on one channel. `close` ends the subscription."""

    def __init__(self, subscriber: Subscriber, channel: str) -> None:
        self.channel = channel
        self._subscriber = subscriber
        self._messages: deque[str] = deque()
        self._missed = False
        self._closed = False
        self._nudged = False
        self._changed = threading.Condition()
        self.confirmed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether the subscription has ended."""
        return self._closed

    def take(self, timeout_s: float) -> tuple[list[str], bool]:
        """Return all messages since the last call, and whether some were missed; wait up to `timeout_s` for the first.

        Returns immediately if the listener is closed or nudged.
        """
        with self._changed:
            self._changed.wait_for(self._has_news, timeout_s)
            messages, missed = list(self._messages), self._missed
            self._messages.clear()
            self._missed = self._nudged = False
            return messages, missed

    def _has_news(self) -> bool:
        return bool(self._messages) or self._missed or self._closed or self._nudged

    def put(self, message: str) -> None:
        """Deliver one message; a full mailbox is emptied and marked as missed."""
        with self._changed:
            if len(self._messages) >= MAILBOX_SIZE:
                self._messages.clear()
                self._missed = True
            else:
                self._messages.append(message)
            self._changed.notify()

    def miss(self) -> None:
        """Notify the listener that messages may have been lost."""
        with self._changed:
            self._missed = True
            self._changed.notify()

    def nudge(self) -> None:
        """Make a waiting `take` return without a message."""
        with self._changed:
            self._nudged = True
            self._changed.notify()

    def close(self) -> None:
        """End the subscription and make a waiting `take` return. May be called twice and from any thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._subscriber.forget(self)


class Subscriber:
    """Owns the pub/sub connection. Only its thread uses it; other threads queue changes and wake it by a message."""

    def __init__(self, redis: Redis, outage: Outage | None = None) -> None:
        self._redis = redis
        self.outage = outage or Outage(log)
        self._wake_channel = keys.wake_channel(uuid.uuid4().hex)
        self._lock = threading.Lock()
        self._listeners: dict[str, set[Listener]] = {}
        self._confirmed: set[str] = set()
        self._touched: set[str] = set()  # channels that got their first listener or lost their last
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slm-subscriber", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Close the connection and end the thread."""
        self._stopping.set()
        self._wake_quietly()
        self._thread.join()

    def listen(self, channel: str) -> Listener:
        """Subscribe; return after Redis has confirmed, so that no later message is lost unnoticed.

        Raises:
            RedisUnavailable: no confirmation within `CONFIRM_TIMEOUT_S`.
        """
        listener = Listener(self, channel)
        with self._lock:
            self._listeners.setdefault(channel, set()).add(listener)
            if channel in self._confirmed:
                listener.confirmed.set()
            else:
                self._touched.add(channel)
        if not listener.confirmed.is_set() and not self._confirm(listener):
            listener.close()
            raise RedisUnavailable("The job store does not answer; try again.", retry_after_s=1)
        return listener

    def forget(self, listener: Listener) -> None:
        """Remove a listener; unsubscribe from the channel if it was the last."""
        with self._lock:
            listeners = self._listeners.get(listener.channel, set())
            listeners.discard(listener)
            if not listeners:
                self._listeners.pop(listener.channel, None)
                self._touched.add(listener.channel)

    def _confirm(self, listener: Listener) -> bool:
        try:
            self._redis.publish(self._wake_channel, "")
        except RedisError:
            return False
        return listener.confirmed.wait(CONFIRM_TIMEOUT_S)

    def _wake_quietly(self) -> None:
        try:
            self._redis.publish(self._wake_channel, "")
        except RedisError:
            log.debug("subscriber: not woken, Redis does not answer")

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._redis.pubsub() as pubsub:  # type: ignore[no-untyped-call]
                    self._serve(pubsub)
            except RedisError as err:
                self.outage.note_failure(_LISTENING, err)
                self._lose_all()
                self._stopping.wait(RECONNECT_S)

    def _serve(self, pubsub: PubSub) -> None:
        with self._lock:
            subscribed = {self._wake_channel, *self._listeners}
        pubsub.subscribe(*subscribed)
        unanswered = 0
        while not self._stopping.is_set():
            message = pubsub.get_message(timeout=IDLE_POLL_S)
            if message is not None:
                unanswered = 0
                self.outage.note_success(_LISTENING)
                self._dispatch(message)
            elif unanswered == UNANSWERED:
                raise RedisTimeoutError("the server is silent")  # frozen or cut off; a Sentinel may name another
            else:
                unanswered += 1
                pubsub.ping()
            self._follow_wishes(pubsub, subscribed)

    def _follow_wishes(self, pubsub: PubSub, subscribed: set[str]) -> None:
        if not self._touched:  # avoids the lock per message; a new listener publishes its wake-up after its wish
            return
        with self._lock:
            touched, self._touched = self._touched, set()
            wanted = {channel for channel in touched if channel in self._listeners}
            leaving = (touched - wanted) & subscribed
            self._confirmed -= leaving
        if joining := wanted - subscribed:
            pubsub.subscribe(*joining)
        if leaving:
            pubsub.unsubscribe(*leaving)  # type: ignore[no-untyped-call]
        subscribed |= joining
        subscribed -= leaving

    def _dispatch(self, message: dict[str, Any]) -> None:
        channel = message["channel"]
        with self._lock:
            listeners = tuple(self._listeners.get(channel, ()))
            if message["type"] == "subscribe" and listeners:
                self._confirmed.add(channel)
        for listener in listeners:
            if message["type"] == "message":
                listener.put(message["data"])
            elif message["type"] == "subscribe":
                self._confirm_or_miss(listener)

    @staticmethod
    def _confirm_or_miss(listener: Listener) -> None:
        """Confirm the subscription; a second confirmation means that the connection was lost in between."""
        if listener.confirmed.is_set():
            listener.miss()
        listener.confirmed.set()

    def _lose_all(self) -> None:
        with self._lock:
            self._confirmed.clear()
            listeners = [one for group in self._listeners.values() for one in group]
        for listener in listeners:
            listener.miss()
