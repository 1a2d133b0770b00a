"""Receives urgent messages to workers and trainers: end a job, release it, pause it; the model or an alias changed."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable

from common.redis import keys
from common.redis.subscriber import Subscriber

WAIT_S = 60.0

log = logging.getLogger(__name__)


class ControlListener:
    """Follows the control channel on its own thread.

    The heartbeat and the model manager's polling make up for missed messages.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        *,
        on_cancel: Callable[[str], None],
        on_yield: Callable[[str], None],
        on_pause: Callable[[str], None],
        on_model: Callable[[], None],
    ) -> None:
        self._listener = subscriber.listen(keys.CONTROL_CHANNEL)
        self._on_cancel = on_cancel
        self._on_yield = on_yield
        self._on_pause = on_pause
        self._on_model = on_model
        self._thread = threading.Thread(target=self._run, name="slm-control", daemon=True)

    def start(self) -> None:
        """Start to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while not self._listener.closed:
            messages, missed = self._listener.take(WAIT_S)
            for text in messages:
                self._dispatch(_read(text))
            if missed:
                self._on_model()

    def _dispatch(self, message: dict[str, str]) -> None:
        if "cancel" in message:
            self._on_cancel(message["cancel"])
        if "yield" in message:
            self._on_yield(message["yield"])
        if "pause" in message:
            self._on_pause(message["pause"])
        if "model" in message or "adapters" in message:
            self._on_model()


def _read(text: str) -> dict[str, str]:
    """Return the message; empty if it cannot be read."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if isinstance(message, dict):
        return message
    log.warning("dropped an unreadable message: %.100r", text)
    return {}
