"""Describes the HTTP requests, without sending them. Nearly all can be sent twice without a second effect."""

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
CONVERSATIONS, ADAPTERS, ALIASES = "/slm/conversations", "/slm/adapters", "/slm/aliases"
SILENCE_S = 45.0  # an open stream has a heartbeat every 15 s


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request, with a JSON body or with `content`.

    The connection counts as broken after a silence of `read_s` seconds. It `is_safe` if it can be sent twice without a
    second effect.
    """

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    read_s: float = ANSWER_S
    content: bytes | None = None
    is_safe: bool = True

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Return the request, with the defaults of `http` added."""
        timeout = httpx.Timeout(CONNECT_S, read=self.read_s)
        sent: dict[str, Any] = {"json": self.body} if self.content is None else {"content": self.content}
        return http.build_request(self.method, self.path, headers=dict(self.headers), timeout=timeout, **sent)


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


def newest(limit: int, text: str | None = None) -> Call:
    """Get the newest jobs; those with a text if there is one."""
    return Call("GET", f"/slm/jobs?{urlencode({'limit': limit} | ({} if text is None else {'q': text}))}")


def cancel(job_id: str) -> Call:
    """Cancel a job."""
    return Call("DELETE", _job(job_id))


def give_feedback(job_id: str, judgement: Mapping[str, Any]) -> Call:
    """Say what you think of an answer; replaces what you said before."""
    return Call("POST", _feedback(job_id), judgement)


def feedback(job_id: str) -> Call:
    """Get the feedback on a job."""
    return Call("GET", _feedback(job_id))


def delete_feedback(job_id: str) -> Call:
    """Delete the feedback on a job."""
    return Call("DELETE", _feedback(job_id))


def feedback_page(wanted: Mapping[str, Any]) -> Call:
    """List feedback."""
    return Call("GET", f"/slm/feedback?{urlencode(_given(wanted), doseq=True)}")


def feedback_dataset(wanted: Mapping[str, Any]) -> Call:
    """Make a dataset of feedback."""
    return Call("POST", "/slm/feedback/dataset", wanted, is_safe=False)


def models() -> Call:
    """Get everything that a request can name."""
    return Call("GET", "/slm/models")


def adapters() -> Call:
    """List the adapters."""
    return Call("GET", ADAPTERS)


def adapter(name: str) -> Call:
    """Get an adapter, or one of its versions."""
    return Call("GET", f"{ADAPTERS}/{quote(name, safe='')}")


def publish(name: str, archive: bytes, base: str | None) -> Call:
    """Publish an archive as an adapter's newest version; a repetition finds it published."""
    wanted = urlencode({"name": name} if base is None else {"name": name, "base": base})
    headers = {"Content-Type": "application/octet-stream"}
    return Call("POST", f"{ADAPTERS}?{wanted}", headers=headers, read_s=GENERATION_S, content=archive)


def delete_adapter(name: str) -> Call:
    """Delete an adapter, or one of its versions."""
    return Call("DELETE", f"{ADAPTERS}/{quote(name, safe='')}", is_safe=False)


def aliases() -> Call:
    """List the aliases."""
    return Call("GET", ALIASES)


def set_alias(alias: str, model: str) -> Call:
    """Point an alias to a model."""
    return Call("PUT", _alias(alias), {"model": model})


def roll_back(alias: str) -> Call:
    """Point an alias to its target before."""
    return Call("POST", f"{_alias(alias)}/rollback", is_safe=False)


def delete_alias(alias: str) -> Call:
    """Delete an alias."""
    return Call("DELETE", _alias(alias), is_safe=False)


def embed(texts: Sequence[str], options: Mapping[str, Any], key: str | None) -> Call:
    """Compute the vectors of texts, and wait for them."""
    return _post("/v1/embeddings", {"input": list(texts), **options}, key, read_s=CHAT_S)


def chat(messages: Sequence[Mapping[str, Any]], options: Mapping[str, Any], key: str | None) -> Call:
    """Generate the next message of a chat, and wait for it."""
    return _post("/v1/chat/completions", {"messages": list(messages), **options}, key, read_s=CHAT_S)


def train(name: str, data: Sequence[Mapping[str, Any]], options: Mapping[str, Any], key: str | None) -> Call:
    """Train an adapter in the background."""
    return _post("/slm/train", {"name": name, "data": list(data), **options}, key)


def create_conversation(about: Mapping[str, Any], key: str | None) -> Call:
    """Create a conversation."""
    return _post(CONVERSATIONS, about, key)


def conversations(limit: int, after: str | None, text: str | None) -> Call:
    """List or search conversations."""
    wanted = {"limit": limit, "after": after, "q": text}
    return Call("GET", f"{CONVERSATIONS}?{urlencode(_given(wanted))}")


def conversation(conversation_id: str) -> Call:
    """Get a conversation with its messages."""
    return Call("GET", _conversation(conversation_id))


def change_conversation(conversation_id: str, changes: Mapping[str, Any]) -> Call:
    """Change a conversation."""
    return Call("PATCH", _conversation(conversation_id), changes)


def delete_conversation(conversation_id: str) -> Call:
    """Delete a conversation."""
    return Call("DELETE", _conversation(conversation_id))


def export_conversation(conversation_id: str, form: str) -> Call:
    """Export a conversation: `form` is "json" or "markdown"."""
    return Call("GET", f"{_conversation(conversation_id)}/export?format={form}")


def import_conversation(exported: str) -> Call:
    """Create a conversation from an export in JSON."""
    headers = {"Content-Type": "application/json"}
    return Call("POST", f"{CONVERSATIONS}/import", headers=headers, content=exported.encode(), is_safe=False)


def append(conversation_id: str, message: Mapping[str, Any]) -> Call:
    """Append a message."""
    return _post(f"{_conversation(conversation_id)}/messages", message, None)


def respond(
    conversation_id: str, parent_id: str | None, text: str, options: Mapping[str, Any], key: str | None
) -> Call:
    """Answer a text in a conversation after a message, in the background."""
    place = {"id": conversation_id, "parent_id": parent_id}
    return _post("/v1/responses", {"input": text, "conversation": place, "background": True, **options}, key)


def delete_message(conversation_id: str, message_id: str, *, keep_replies: bool) -> Call:
    """Delete a message."""
    return Call("DELETE", f"{_message(conversation_id, message_id)}?keep_replies={str(keep_replies).lower()}")


def change_message(conversation_id: str, message_id: str, changes: Mapping[str, Any]) -> Call:
    """Change a message."""
    return Call("PATCH", _message(conversation_id, message_id), changes)


def _message(conversation_id: str, message_id: str) -> str:
    return f"{_conversation(conversation_id)}/messages/{quote(message_id, safe='')}"


def _conversation(conversation_id: str) -> str:
    return f"{CONVERSATIONS}/{quote(conversation_id, safe='')}"


def _alias(alias: str) -> str:
    return f"{ALIASES}/{quote(alias, safe='')}"


def _job(job_id: str) -> str:
    return f"/slm/jobs/{quote(job_id, safe='')}"


def _given(wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if value is not None}


def _feedback(job_id: str) -> str:
    return f"{_job(job_id)}/feedback"


def _post(path: str, body: Mapping[str, Any], key: str | None, *, read_s: float = ANSWER_S) -> Call:
    return Call("POST", path, body, {"Idempotency-Key": key or str(uuid.uuid4())}, read_s)
