"""Judges a server from the command line; see the package."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from models import default_model
from tests.foreign.judges.judging import judge
from tests.foreign.judges.server import MODEL, MODELS, running, thinking
from tests.foreign.judges.suites import suite

NAMES = ("vllm", "llama.cpp")


def main() -> int:
    """Run the suites. Returns 1 if one has a failure that is not expected."""
    parser = argparse.ArgumentParser(prog="python -m tests.foreign.judges", description=__doc__)
    parser.add_argument("suites", nargs="*", choices=[*NAMES, []], help="the suites; all by default")
    parser.add_argument("--quick", action="store_true", help="only the part that CI runs")
    parser.add_argument("--url", help="a server with the default model; otherwise one is started")
    asked = parser.parse_args()
    default_model.install(MODELS, progress=print)
    with _server(asked.url) as url, _thinking(asked.quick) as thinking_url:
        verdicts = [
            judge(suite(name), url, MODEL, MODELS / MODEL, thinking_url=thinking_url, quick=asked.quick)
            for name in asked.suites or NAMES
        ]
    print(*verdicts, sep="\n")
    return 0 if all(verdict.is_good for verdict in verdicts) else 1


@contextmanager
def _server(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as started:
        yield started


@contextmanager
def _thinking(is_quick: bool) -> Iterator[str | None]:
    """Start a server whose model reasons, unless only the quick tests are run, which do not need one."""
    if is_quick:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, thinking(Path(folder)) as started:
        yield started


if __name__ == "__main__":
    sys.exit(main())
