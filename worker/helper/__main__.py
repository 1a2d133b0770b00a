"""The helper process: `python -m worker.helper <descriptor of the pipe> <module:class of the services>`."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from multiprocessing.connection import Connection

from worker.helper.forker import Forker


def main() -> None:
    """Serve until the worker ends."""
    descriptor, name = sys.argv[1:]
    # These signals reach the whole process group. The worker still needs its helper then; the helper ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    module, _, services = name.partition(":")
    Forker(Connection(int(descriptor)), getattr(import_module(module), services)()).run()


if __name__ == "__main__":
    main()
