"""Says what went wrong, and what to do about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer
from slm_client import ApiError, SLMClientError
from slm_client.errors import Forbidden, Unauthorized

from slm.output import Output

_HINTS: Mapping[str, str] = {
    "job_not_found": "'slm jobs list' shows the jobs that the server still has.",
    "adapter_not_found": "'slm adapters list' shows the adapters.",
    "model_not_found": "'slm models' shows what a request can name.",
    "body_too_large": "The server's settings SLM_MAX_ADAPTER_BYTES (adapters) and SLM_MAX_BODY_BYTES have the limits.",
    "model_unavailable": "The log of the worker has the reason.",
    "no_worker": "'slm serve' starts the server with a worker.",
}
_KEY_HINT = (
    "Pass an API key with --api-key or SLMCLIENT_API_KEY. On the server's machine, "
    "'python -m slm keys create --name me --role admin' creates one."
)


class CommandError(Exception):
    """The command cannot do its work; the text says why. `exit_status` 2: the command itself is wrong."""

    def __init__(self, message: str, *, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


@contextmanager
def shown(output: Output) -> Iterator[None]:
    """Write an error of the block to the standard error, and exit with its status."""
    try:
        yield
    except SLMClientError as err:
        show(err, output)
        raise typer.Exit(1) from err
    except CommandError as err:
        show(err, output)
        raise typer.Exit(err.exit_status) from err


def show(err: SLMClientError | CommandError, output: Output) -> None:
    """Write an error to the standard error: a line for people and a hint, or a JSON document."""
    if output.as_json:
        print(json.dumps(_fields(err), ensure_ascii=False), file=sys.stderr)
        return
    output.note(f"slm: {err}")
    if isinstance(err, ApiError) and (hint := _hint(err)):
        output.note(hint)


def _fields(err: Exception) -> dict[str, Any]:
    fields: dict[str, Any] = {"success": False, "error": str(err)}
    if isinstance(err, ApiError):
        given = {name: getattr(err, name) for name in ("code", "status", "param", "request_id", "retry_after_s")}
        fields |= {name: value for name, value in given.items() if value}
    return fields


def _hint(err: ApiError) -> str | None:
    if isinstance(err, Unauthorized):
        return _KEY_HINT
    if isinstance(err, Forbidden):
        return "Pass the key of an admin with --api-key or SLMCLIENT_API_KEY."
    if err.retry_after_s is not None:
        return f"Try again in {err.retry_after_s:.0f} s."
    if err.status >= 500 and err.request_id:
        return f"The server's log has the details under the request id {err.request_id}."
    if err.code == "not_found" and err.param is None:  # else there is the path, but not what it names
        return "The server may be older than this command."
    return _HINTS.get(err.code)
