"""Entry point: `python -m worker.training.child DESCRIPTOR`. The first line of stdin is the task."""

from __future__ import annotations

import logging
import os
import signal
import sys

from common.errors import SLMError
from common.observation.logs import configure_logging
from common.settings import Settings
from worker.training.child.failures import failure_of
from worker.training.child.ownership import owned
from worker.training.child.reporter import Reporter
from worker.training.child.work import work
from worker.training.task import Kind, Task

log = logging.getLogger(__name__)


def main() -> None:
    """Compute one attempt. The exit status does not matter: the last message says how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # these reach the whole process group; the trainer decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    settings = Settings.from_env()
    os.nice(settings.train_nice)
    configure_logging(settings.log_level, settings.log_format)
    task = Task.from_line(sys.stdin.readline())
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as target:
        reporter = Reporter(sys.stdin, target)
        try:
            with owned(task.folder):
                result = work(task, settings, reporter)
        except Exception as err:  # the boundary of the process
            _report(reporter, failure_of(err))
        else:
            reporter.send(Kind.STOPPED) if result is None else reporter.send(Kind.RESULT, result=result)
    os._exit(0)  # unloading torch takes a second


def _report(reporter: Reporter, failure: SLMError) -> None:
    reporter.send(Kind.FAILED, error=failure.to_dict())


if __name__ == "__main__":
    main()
