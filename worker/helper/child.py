"""A child of the helper: does one request after the other, each within its limits."""

from __future__ import annotations

import os
import traceback
from multiprocessing.connection import Connection
from typing import Any

from common.errors import InternalError, SLMError
from worker.helper.limits import limited, resident_bytes
from worker.helper.messages import Answer, Request, Tasks, receive, send

TOO_LARGE = "needs too much memory"
MAX_GROWTH = 64 * 2**20  # a child that holds more than that beyond what it began with is not used again


def serve(link: Connection, tasks: Tasks) -> None:
    """Answer requests until one is the last, or nobody asks any more."""
    _be_silent()
    size_at_start = resident_bytes()
    is_last = False
    while not is_last:
        try:
            request = Request.from_wire(receive(link))
        except (EOFError, OSError):
            return
        outcome = _run(tasks, request)
        is_last = "over" in outcome or resident_bytes() - size_at_start > MAX_GROWTH
        send(link, Answer(request.number, is_last=is_last, **outcome).to_wire())


def _run(tasks: Tasks, request: Request) -> dict[str, Any]:
    """A boundary: what goes wrong here is told, and is nobody else's business."""
    try:
        with limited(request.limits):
            return {"value": tasks.run(request.task, request.args)}
    except SLMError as err:
        return {"error": err.to_dict()}
    except MemoryError:
        return {"over": TOO_LARGE}
    except Exception:
        return {"error": InternalError(traceback.format_exc()).to_dict()}


def _be_silent() -> None:
    """Native code that runs out of memory prints a page before it dies."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
