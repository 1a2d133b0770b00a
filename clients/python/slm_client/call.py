"""One HTTP request, before anybody sends it. All of them can be sent twice without a second effect."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from slm_client.options import GenerateOptions

CONNECT_S = 10.0
ANSWER_S = 30.0  # for what the server knows at once
GENERATION_S = 150.0  # the server's own limit is 120 s (SLM_SYNC_TIMEOUT_S); behind it it answers 202
SILENCE_S = 45.0  # an open stream has a heartbeat every 15 s


@dataclass(frozen=True, slots=True)
class Call:
    """`read_s`: how long the server may be silent before the connection counts as broken."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    read_s: float = ANSWER_S

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request, with what `http` adds to each of its own."""
        timeout = httpx.Timeout(CONNECT_S, read=self.read_s)
        return http.build_request(self.method, self.path, json=self.body, headers=dict(self.headers), timeout=timeout)


def generate(prompt: str, options: GenerateOptions, key: str | None) -> Call:
    """Wait for the answer."""
    return _post("/slm/generate", {"prompt": prompt, **options}, key, read_s=GENERATION_S)


def submit(prompt: str, options: GenerateOptions, key: str | None) -> Call:
    """Leave it to the server, and ask for it later."""
    return _post("/slm/generate", {"prompt": prompt, **options, "async": True}, key)


def stream(prompt: str, options: GenerateOptions, key: str | None) -> Call:
    """Have it piece by piece."""
    return _post("/slm/stream", {"prompt": prompt, **options}, key, read_s=SILENCE_S)


def change_model(what: str) -> Call:
    """`what` is "load" or "unload"."""
    return _post(f"/slm/{what}", {}, None, read_s=GENERATION_S)


def follow(job_id: str, last_event_id: str | None) -> Call:
    """A job's stream, behind the event that was seen last."""
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    return Call("GET", f"{_job(job_id)}/stream", headers=headers, read_s=SILENCE_S)


def info() -> Call:
    """What is served."""
    return Call("GET", "/slm/info")


def show(job_id: str) -> Call:
    """One job."""
    return Call("GET", _job(job_id))


def newest(limit: int) -> Call:
    """The newest jobs."""
    return Call("GET", f"/slm/jobs?limit={limit}")


def cancel(job_id: str) -> Call:
    """Ask for a job's end."""
    return Call("DELETE", _job(job_id))


def _job(job_id: str) -> str:
    return f"/slm/jobs/{quote(job_id, safe='')}"


def _post(path: str, body: Mapping[str, Any], key: str | None, *, read_s: float = ANSWER_S) -> Call:
    return Call("POST", path, body, {"Idempotency-Key": key or str(uuid.uuid4())}, read_s)
