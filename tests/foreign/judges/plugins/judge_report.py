"""Writes the outcome of each test as a line of JSON. Standard library only: it runs in the environment of the tests."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

MAX_TEXT = 2000


def pytest_runtest_logreport(report: Any) -> None:
    """Note the call of a test, or what ended it before."""
    if report.when == "call" or (report.when == "setup" and report.outcome != "passed"):
        text = "" if report.outcome == "passed" else str(report.longrepr)[-MAX_TEXT:]
        line = json.dumps({"test": report.nodeid, "outcome": report.outcome, "text": text})
        with Path(os.environ["JUDGE_REPORT"]).open("a") as file:
            file.write(f"{line}\n")


def pytest_collectreport(report: Any) -> None:
    """Note a file that cannot be read: its tests are missing."""
    if report.outcome == "failed":
        line = json.dumps({"test": report.nodeid, "outcome": "failed", "text": str(report.longrepr)[-MAX_TEXT:]})
        with Path(os.environ["JUDGE_REPORT"]).open("a") as file:
            file.write(f"{line}\n")
