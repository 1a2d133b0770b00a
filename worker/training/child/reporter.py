"""Sends what happens in the child process to the trainer."""

from __future__ import annotations

import json
import os
import threading
from typing import Any, TextIO

from worker.training.task import PUBLISH, STOP, Kind


class Reporter:
    """Writes messages to the trainer, and reads from it whether to stop. If the trainer is gone, the process ends.

    Args:
        source: the trainer's end of the pipe to this process, after the task was read.
        target: the pipe to the trainer.
    """

    def __init__(self, source: TextIO, target: TextIO) -> None:
        self._source = source
        self._target = target
        self._stopping = threading.Event()
        self._may_publish = False
        self._answered = threading.Event()
        threading.Thread(target=self._listen, name="slm-parent", daemon=True).start()

    def send(self, kind: Kind, **values: Any) -> None:
        """Send a message."""
        self._target.write(json.dumps({"kind": kind.value, **values}) + "\n")
        self._target.flush()

    def status(self, line: str) -> None:
        """Say what happens now, for people."""
        self.send(Kind.STATUS, line=line)

    def should_stop(self) -> bool:
        """Return whether the trainer asked this process to stop."""
        return self._stopping.is_set()

    def ask_to_publish(self) -> bool:
        """Wait until the trainer lets this process publish, or asks it to stop; return whether it may publish.

        After a yes, the run is no longer cancelled or paused: what is published must be the result of its job.
        """
        self.send(Kind.PUBLISHING)
        self._answered.wait()
        return self._may_publish

    def _listen(self) -> None:
        for line in self._source:
            if line == STOP:
                self._stopping.set()
            elif line == PUBLISH:
                self._may_publish = True
            self._answered.set()
        os._exit(1)  # the trainer is dead, and another one may continue the run in the same folder
