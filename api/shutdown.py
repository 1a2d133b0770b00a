"""The end of an API process: no new work from the first signal on, and no open stream beyond the grace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from flask import Flask

from api.current import EXTENSION, Services

POLL_S = 0.1


def stop_in_order(app: Flask, is_alive: Callable[[], bool], *, grace_s: float) -> None:
    """Watch the process on a thread of its own, and end its work in order once it is told to stop.

    Args:
        is_alive: becomes false when the process has been told to stop.
        grace_s: how long open streams and waiting requests then go on.
    """
    services: Services = app.extensions[EXTENSION]

    def run() -> None:
        while is_alive():
            time.sleep(POLL_S)
        services.jobs.stop_taking()
        time.sleep(grace_s)
        services.jobs.end_open()

    threading.Thread(target=run, name="slm-shutdown", daemon=True).start()
