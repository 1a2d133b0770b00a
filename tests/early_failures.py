"""Prints each failure when it happens, if tests are spread over processes; pytest-xdist shows them only at the end."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Protocol

import pytest


class CaptureManager(Protocol):
    """pytest's capture of what is printed."""

    def global_and_fixture_disabled(self) -> AbstractContextManager[None]:
        """Capture nothing within the block."""
        ...


class EarlyFailures:
    """A plugin for the process that collects the reports. It writes to the standard error, which no run redirects."""

    def __init__(self, capture: CaptureManager) -> None:
        self._capture = capture

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Print a failed report, as one text so that two runs at once do not mix theirs."""
        if report.failed:
            text = f"\nFAILED {report.nodeid} ({report.when})\n{report.longreprtext}\n"
            with self._capture.global_and_fixture_disabled():
                sys.stderr.write(text)
                sys.stderr.flush()


def register(config: pytest.Config) -> None:
    """Add the plugin if this process spreads the tests over others."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(EarlyFailures(config.pluginmanager.getplugin("capturemanager")))
