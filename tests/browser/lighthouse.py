"""Lighthouse's scores of the page's views: python -m tests.browser.lighthouse

Downloads Lighthouse with npx. Takes the median of several runs, on a desktop and on a phone with a slow network and a
slow processor. The worker is scripted. Performance needs a quiet machine: a busy one is a slower phone.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from common.redis.client import connect
from tests.api_process import running_api
from tests.browser.chromium import find_chromium
from tests.redis_server import running_server
from tests.scripted_worker import ScriptedWorker, answer

LIGHTHOUSE = "lighthouse@13.5.0"
WANTED = 95
RUNS = 3
TIMEOUT_S = 180
CATEGORIES = ("performance", "accessibility", "best-practices")
VIEWS = ("chat", "jobs", "models", "training", "system")
FORMS = {"desktop": ["--preset=desktop"], "phone": []}  # without a preset it is a phone
TIMES = ("first-contentful-paint", "largest-contentful-paint", "total-blocking-time")


def measure(url: str, form: str, folder: Path) -> dict[str, Any]:
    """Return Lighthouse's report of one visit."""
    report = folder / "report.json"
    subprocess.run(
        [
            *("npx", "--yes", LIGHTHOUSE, url, *FORMS[form]),
            *("--quiet", "--output=json", f"--output-path={report}", f"--only-categories={','.join(CATEGORIES)}"),
            "--chrome-flags=--headless=new --no-sandbox",
        ],
        env=os.environ | {"CHROME_PATH": find_chromium() or ""},
        check=True,
        timeout=TIMEOUT_S,
    )
    found: dict[str, Any] = json.loads(report.read_bytes())
    return found


def row(url: str, view: str, form: str, folder: Path) -> tuple[str, int]:
    """Return a row of the table, and the lowest score in it."""
    reports = [measure(f"{url}/#/{view}", form, folder) for _ in range(RUNS)]
    scores = [
        round(100 * statistics.median(one["categories"][name]["score"] for one in reports)) for name in CATEGORIES
    ]
    times = [statistics.median(one["audits"][name]["numericValue"] for one in reports) for name in TIMES]
    cells = [view, form, *map(str, scores), *(f"{ms:.0f} ms" for ms in times)]
    return f"| {' | '.join(cells)} |", min(scores)


def main() -> int:
    """Print a table; the exit status says whether every score is high enough."""
    with (
        TemporaryDirectory() as name,
        running_server(Path(name)) as redis,
        connect(redis.url) as client,
        ScriptedWorker(client, answer("Hello there.")),
        running_api(Path(name), redis_url=redis.url, drain_s=0) as api,
    ):
        heading = ("view", "form", *CATEGORIES, *TIMES)
        print(f"| {' | '.join(heading)} |\n{'|---' * len(heading)}|", flush=True)
        lowest = 100
        for view in VIEWS:
            for form in FORMS:
                line, score = row(api.url, view, form, Path(name))
                print(line, flush=True)
                lowest = min(lowest, score)
    return 0 if lowest >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
