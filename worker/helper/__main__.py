"""The helper process: `python -m worker.helper <descriptor of the pipe> <module:class of the tasks>`."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from multiprocessing.connection import Connection

from worker.helper.server import Server


def main() -> None:
    """Serve until the worker is gone."""
    descriptor, name = sys.argv[1:]
    # They are sent to the whole group. The worker still needs its helper then, and its end is the helper's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    module, _, tasks = name.partition(":")
    Server(Connection(int(descriptor)), getattr(import_module(module), tasks)()).run()


if __name__ == "__main__":
    main()
