"""Ends an API process in order: it accepts no new work after the first signal, and ends open streams after a grace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from flask import Flask

from api.current import EXTENSION, Services

POLL_S = 0.1


def stop_in_order(app: Flask, is_alive: Callable[[], bool], *, grace_s: float) -> None:
    """Watch the process on a thread, and end its work in order when it must stop.

    Args:
        app: the application.
        is_alive: returns false when the process must stop.
        grace_s: how long open streams and waiting requests continue after that.
    """
    services: Services = app.extensions[EXTENSION]

    def run() -> None:
        while is_alive():
            time.sleep(POLL_S)
        services.jobs.stop_accepting()
        time.sleep(grace_s)
        services.jobs.end_open()

    threading.Thread(target=run, name="slm-shutdown", daemon=True).start()
