"""Checks every pinned package for known vulnerabilities: python -m deploy.audit

The audit is skipped with a message if no advisories are available: without a network, or if a mirror of the package
index does not serve them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence

from deploy.bootstrap import ROOT

CONSTRAINTS = ROOT / "requirements" / "constraints.txt"
PROBE_URL = "https://pypi.org/pypi/requests/2.34.2/json"  # an existing release; stands for all others
TIMEOUT_S = 10.0


def audit(fetch: Callable[[], bytes], run: Callable[[Sequence[str]], int]) -> int:
    """Run the audit if possible. Returns the exit status.

    Args:
        fetch: gets the index's metadata of one release; raises `OSError` if the index is not reachable.
        run: runs a command and returns its exit status.
    """
    if (obstacle := _obstacle(fetch)) is not None:
        print(f"Dependency audit skipped: {obstacle}.")
        return 0
    where = ["--requirement", str(CONSTRAINTS), "--no-deps", "--disable-pip"]
    return run([sys.executable, "-m", "pip_audit", "--progress-spinner=off", *where])


def _obstacle(fetch: Callable[[], bytes]) -> str | None:
    try:
        release = json.loads(fetch())
    except OSError as err:
        return f"the advisories are not reachable ({err})"
    except ValueError:
        return "the package index does not return information about a release"
    return None if "vulnerabilities" in release else "the package index has no advisories"


def _fetch() -> bytes:
    with urllib.request.urlopen(PROBE_URL, timeout=TIMEOUT_S) as answer:
        return bytes(answer.read())


def _run(command: Sequence[str]) -> int:
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(audit(_fetch, _run))
