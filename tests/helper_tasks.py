"""The tasks of the helper's children in its own tests: `Helper("tests.helper_tasks:ServicesForTests")`."""

from __future__ import annotations

import os
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from common.errors import InvalidRequest
from worker.helper.child import serve_tasks
from worker.helper.messages import receive, send


class ServicesForTests:
    def __init__(self) -> None:
        self._configured: dict[str, Any] = {}
        self._made_in = os.getpid()

    def configure(self, name: str, value: Any) -> None:
        self._configured[name] = value

    def serve(self, service: str, link: Connection) -> None:
        if service == "tasks":
            serve_tasks(link, self._run)
        while service == "echo":
            send(link, receive(link))

    def _run(self, task: str, args: Any) -> Any:
        return getattr(self, task)(args)

    def echo(self, args: Any) -> Any:
        return args

    def configured(self, name: str) -> Any:
        return self._configured.get(name)

    def refuse(self, text: str) -> None:
        raise InvalidRequest(text, param="prompt")

    def fail(self, _: Any) -> None:
        raise ValueError("a bug")

    def sleep(self, seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    def wait_at_gate(self, folder: str) -> str:
        """Wait until there is a file named `open`."""
        Path(folder, f"waiting-{os.getpid()}").touch()
        while not Path(folder, "open").exists():
            time.sleep(0.01)
        return "passed"

    def compute(self, _: Any) -> int:
        while True:
            pass

    def compute_in_one_go(self, _: Any) -> int:
        return len(str(10**10**9))

    def allocate(self, num_bytes: int) -> int:
        return len(bytearray(num_bytes))

    def abort(self, _: Any) -> None:
        os.abort()

    def pids(self, _: Any) -> dict[str, int]:
        return {"child": os.getpid(), "helper": self._made_in}

    def niceness(self, seconds: float) -> int:
        """Return the child's own niceness after `seconds` of CPU time."""
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return os.getpriority(os.PRIO_PROCESS, 0)
