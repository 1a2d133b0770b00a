"""Shares one pub/sub connection per process among all listeners.

Pub/sub loses messages if the connection breaks (redis-py silently subscribes again) or a listener is too slow. A
listener is then notified that it missed messages and reads the log instead, so its mailbox can be small.
"""

from __future__ import annotations

import logging
import queue
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Any, cast

from redis import Redis
from redis.client import PubSub
from redis.exceptions import ConnectionError as RedisConnectionError
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


class _Notice(Enum):
    """What a mailbox has apart from messages."""

    MISSED = auto()
    WAKE = auto()


class Listener:
    """The mailbox of one listener on one channel. `close` ends the subscription.

    A queue rather than a condition variable, which costs several times as much under gevent.
    """

    def __init__(self, subscriber: Subscriber, channel: str) -> None:
        self.channel = channel
        self._subscriber = subscriber
        self._inbox: queue.SimpleQueue[str | _Notice] = queue.SimpleQueue()
        self._closed = False
        self.confirmed = threading.Event()

    @property
    def closed(self) -> bool:
        """Whether the subscription has ended."""
        return self._closed

    def take(self, timeout_s: float) -> tuple[list[str], bool]:
        """Return all messages since the last call, and whether some were missed; wait up to `timeout_s` for the first.

        Returns immediately if the listener is closed or nudged.
        """
        found: list[str | _Notice] = []
        with suppress(queue.Empty):
            found.append(self._inbox.get(timeout=0 if self._closed else timeout_s))
            while not self._inbox.empty():
                found.append(self._inbox.get_nowait())
        return [one for one in found if isinstance(one, str)], _Notice.MISSED in found

    def put(self, message: str) -> None:
        """Deliver one message; a full mailbox is emptied and marked as missed."""
        if self._inbox.qsize() < MAILBOX_SIZE:
            self._inbox.put(message)
            return
        with suppress(queue.Empty):
            while not self._inbox.empty():
                self._inbox.get_nowait()
        self.miss()

    def miss(self) -> None:
        """Notify the listener that messages may have been lost."""
        self._inbox.put(_Notice.MISSED)

    def nudge(self) -> None:
        """Make a waiting `take` return without a message."""
        self._inbox.put(_Notice.WAKE)

    def close(self) -> None:
        """End the subscription and make a waiting `take` return. May be called twice and from any thread."""
        self._closed = True
        self._inbox.put(_Notice.WAKE)
        self._subscriber.forget(self)


class Subscriber:
    """Owns the pub/sub connection. Only its thread uses it; other threads queue changes and wake it by a message."""

    def __init__(self, redis: Redis, outage: Outage | None = None) -> None:
        self._redis = redis
        self.outage = outage or Outage(log)
        self._wake_channel = keys.wake_channel(uuid.uuid4().hex)
        self._lock = threading.Lock()
        self._listeners: dict[str, tuple[Listener, ...]] = {}  # tuples, so that a message is passed on without the lock
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
            self._listeners[channel] = (*self._listeners.get(channel, ()), listener)
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
            left = tuple(one for one in self._listeners.get(listener.channel, ()) if one is not listener)
            if left:
                self._listeners[listener.channel] = left
            else:
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
                with self._redis.pubsub(push_handler_func=_unlogged) as pubsub:  # type: ignore[no-untyped-call]
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
            response = _read(pubsub)
            if response is not None:
                unanswered = 0
                self.outage.note_success(_LISTENING)
                self._dispatch(pubsub, response)
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

    def _dispatch(self, pubsub: PubSub, response: Sequence[str]) -> None:
        """Pass a response on. Messages do not go through redis-py's bookkeeping, which is for subscriptions."""
        if response[0] == "message":
            _, channel, data = response
            for listener in self._listeners.get(channel, ()):
                listener.put(data)
            return
        message = pubsub.handle_message(response)  # type: ignore[no-untyped-call]
        if message["type"] == "subscribe":
            self._confirm_all(message["channel"])

    def _confirm_all(self, channel: str) -> None:
        with self._lock:
            listeners = self._listeners.get(channel, ())
            if listeners:
                self._confirmed.add(channel)
        for listener in listeners:
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


def _read(pubsub: PubSub) -> Sequence[str] | None:
    """Return the next response; None if there is none for `IDLE_POLL_S`.

    Not by `parse_response`, which asks the system three times if there is something to read, and costs twice as much.
    """
    connection: Any = pubsub.connection
    try:
        response = connection.read_response(disconnect_on_error=False, push_request=True, timeout=IDLE_POLL_S)
    except RedisTimeoutError:
        return None
    except RedisConnectionError:  # `parse_response` finds that, too, connects again, and subscribes to everything
        response = pubsub.parse_response(block=False, timeout=IDLE_POLL_S)  # type: ignore[no-untyped-call]
    return cast("Sequence[str] | None", response)


def _unlogged(response: Sequence[str]) -> Sequence[str]:
    """Receive a message in place of redis-py's own function, which writes each into a text for its log."""
    return response
