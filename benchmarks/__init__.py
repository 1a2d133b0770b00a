"""Benchmarks of speed and endurance: `python -m benchmarks.<name>`. They are not part of the tests.

SIGTERM ends a benchmark as Ctrl-C does, so that it stops the servers that it has started.
"""

import signal
import sys

if sys.argv[:1] == ["-m"]:  # Python is looking for the benchmark to run; a test imports parts of one
    signal.signal(signal.SIGTERM, signal.default_int_handler)
