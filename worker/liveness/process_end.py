"""Ends this process, so that the supervisor starts a new one."""

from __future__ import annotations

import os
import signal
import threading

FORCE_AFTER_S = 10.0  # how long an orderly end may take after the drain before the process is ended by force


def end_process(drain_s: float) -> None:
    """Ask Celery for an orderly end, after a drain of at most `drain_s`; end by force if it does not react."""
    os.kill(os.getpid(), signal.SIGTERM)
    force = threading.Timer(drain_s + FORCE_AFTER_S, os._exit, [1])
    force.daemon = True
    force.start()
