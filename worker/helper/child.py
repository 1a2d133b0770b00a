"""Runs tasks one after the other in a child of the helper, each within its limits."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from common.errors import InternalError, SLMError
from worker.helper.limits import Limits, limited
from worker.helper.messages import receive, send

RunTask = Callable[[str, Any], Any]  # name and arguments of a task -> result, all plain data; may raise `SLMError`


def serve_tasks(link: Connection, run: RunTask) -> None:
    """Reply to {"task", "args", "limits"} with {"value"} or {"error"} (an `SLMError`), or die from lack of memory."""
    while True:
        try:
            request = receive(link)
        except (EOFError, OSError):
            return
        send(link, _reply(request, run))


def _reply(request: dict[str, Any], run: RunTask) -> dict[str, Any]:
    """Run one task; return every error to the caller, since this is the boundary of the process."""
    try:
        with limited(Limits(**request["limits"])):
            return {"value": run(request["task"], request["args"])}
    except MemoryError:
        raise
    except SLMError as err:
        return {"error": err.to_dict()}
    except Exception:
        return {"error": InternalError(traceback.format_exc()).to_dict()}
