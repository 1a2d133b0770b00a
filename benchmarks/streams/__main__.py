"""The command line of the benchmark; see the package."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from benchmarks.streams.fake_worker import Load
from benchmarks.streams.run import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print the result; returns status 1 if a stream lost or duplicated tokens."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams", description="Many open streams.")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=20, help="tokens of each stream (default: 20)")
    parser.add_argument("--rate", type=float, default=1, help="tokens per second of each stream (default: 1)")
    parser.add_argument("--rows", type=int, default=32, help="sequences that step together (default: 32)")
    parser.add_argument("--apis", type=int, default=1, help="API processes (default: 1)")
    parser.add_argument("--at-once", type=int, default=1000, help="streams that are opening at once (default: 1000)")
    options = parser.parse_args(argv)
    print(f"load average before: {os.getloadavg()[0]:.1f}")
    measurements = run(Load(options.streams, options.tokens, options.rate, options.rows), options.apis, options.at_once)
    print(measurements.report())
    return int(bool(measurements.wrong or measurements.not_connected))


if __name__ == "__main__":
    raise SystemExit(main())
