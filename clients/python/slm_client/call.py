"""Describes the HTTP requests, without sending them. Each can be sent twice without a second effect."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from slm_client.options import GenerateOptions

CONNECT_S = 10.0
ANSWER_S = 30.0  # for requests that the server answers immediately
GENERATION_S = 150.0  # after 120 s at the latest (SLM_SYNC_TIMEOUT_S) the server answers 202
SILENCE_S = 45.0  # an open stream has a heartbeat every 15 s


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. The connection counts as broken after a silence of `read_s` seconds."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    read_s: float = ANSWER_S

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Return the request, with the defaults of `http` added."""
        timeout = httpx.Timeout(CONNECT_S, read=self.read_s)
        return http.build_request(self.method, self.path, json=self.body, headers=dict(self.headers), timeout=timeout)


def generate(prompt: str, options: GenerateOptions, key: str | None) -> Call:
    """Generate, and wait for the answer."""
    return _post("/slm/generate", {"prompt": prompt, **options}, key, read_s=GENERATION_S)


def submit(prompt: str, options: GenerateOptions, key: str | None) -> Call:
    """Generate in the background."""
    return _post("/slm/generate", {"prompt": prompt, **options, "async": True}, key)


def stream(prompt: str, options: GenerateOptions, key: str | None) -> Call:
    """Generate, and stream the answer."""
    return _post("/slm/stream", {"prompt": prompt, **options}, key, read_s=SILENCE_S)


def change_model(what: str) -> Call:
    """Load or unload the model: `what` is "load" or "unload"."""
    return _post(f"/slm/{what}", {}, None, read_s=GENERATION_S)


def follow(job_id: str, last_event_id: str | None) -> Call:
    """Stream a job, from the event after `last_event_id`."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    return Call("GET", f"{_job(job_id)}/stream", headers=headers, read_s=SILENCE_S)


def info() -> Call:
    """Get the server's state."""
    return Call("GET", "/slm/info")


def show(job_id: str) -> Call:
    """Get one job."""
    return Call("GET", _job(job_id))


def newest(limit: int) -> Call:
    """Get the newest jobs."""
    return Call("GET", f"/slm/jobs?limit={limit}")


def cancel(job_id: str) -> Call:
    """Cancel a job."""
    return Call("DELETE", _job(job_id))


def _job(job_id: str) -> str:
    return f"/slm/jobs/{quote(job_id, safe='')}"


def _post(path: str, body: Mapping[str, Any], key: str | None, *, read_s: float = ANSWER_S) -> Call:
    return Call("POST", path, body, {"Idempotency-Key": key or str(uuid.uuid4())}, read_s)
