"""Describes the HTTP requests, without sending them. Each can be sent twice without a second effect."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from slm_client.options import GenerateOptions

CONNECT_S = 10.0
ANSWER_S = 30.0  # for requests that the server answers immediately
GENERATION_S = 150.0  # after 120 s at the latest (SLM_SYNC_TIMEOUT_S) the server answers 202
CHAT_S = 600.0  # a chat completion waits for its end
CONVERSATIONS = "/slm/conversations"
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


def models() -> Call:
    """Get everything that a request can name."""
    return Call("GET", "/slm/models")


def chat(messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any], key: str | None) -> Call:
    """Generate the next message of a chat, and wait for it."""
    return _post("/v1/chat/completions", {"messages": list(messages), **options}, key, read_s=CHAT_S)


def train(name: str, data: Sequence[Mapping[str, Any]], options: Mapping[str, Any], key: str | None) -> Call:
    """Train an adapter in the background."""
    return _post("/slm/train", {"name": name, "data": list(data), **options}, key)


def create_conversation(about: Mapping[str, Any]) -> Call:
    """Create a conversation."""
    return _post(CONVERSATIONS, about, None)


def conversations(limit: int, after: str | None, text: str | None) -> Call:
    """List or search conversations."""
    wanted = {"limit": limit, "after": after, "q": text}
    return Call("GET", f"{CONVERSATIONS}?{urlencode({name: one for name, one in wanted.items() if one is not None})}")


def conversation(conversation_id: str) -> Call:
    """Get a conversation with its messages."""
    return Call("GET", _conversation(conversation_id))


def change_conversation(conversation_id: str, changes: Mapping[str, Any]) -> Call:
    """Change a conversation."""
    return Call("PATCH", _conversation(conversation_id), changes)


def delete_conversation(conversation_id: str) -> Call:
    """Delete a conversation."""
    return Call("DELETE", _conversation(conversation_id))


def append(conversation_id: str, message: Mapping[str, Any]) -> Call:
    """Append a message."""
    return _post(f"{_conversation(conversation_id)}/messages", message, None)


def change_message(conversation_id: str, message_id: str, changes: Mapping[str, Any]) -> Call:
    """Change a message."""
    return Call("PATCH", f"{_conversation(conversation_id)}/messages/{quote(message_id, safe='')}", changes)


def _conversation(conversation_id: str) -> str:
    return f"{CONVERSATIONS}/{quote(conversation_id, safe='')}"


def _job(job_id: str) -> str:
    return f"/slm/jobs/{quote(job_id, safe='')}"


def _post(path: str, body: Mapping[str, Any], key: str | None, *, read_s: float = ANSWER_S) -> Call:
    return Call("POST", path, body, {"Idempotency-Key": key or str(uuid.uuid4())}, read_s)
