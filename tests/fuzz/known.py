"""Existing objects, whose names random requests would not find."""

from __future__ import annotations

import io
from typing import Any

from flask.testing import FlaskClient

from tests.api_in_process import MODEL, REPORT

ALIAS = "prod"
KEY = "guest"  # no admin's, if there is one of that name
ADAPTER = "support"  # which nothing needs


def known_names(client: FlaskClient, **headers: str) -> dict[str, str]:
    """A job with feedback, a model, an alias, a response, a conversation, a file, a batch, by their names."""

    def create(path: str, **request: Any) -> str:
        return str(client.post(path, headers=headers, **request).json["id"])

    response = create("/v1/responses", json={"model": MODEL, "input": "Hi", "background": True})
    generated = client.post("/slm/generate", headers=headers, json={"prompt": "Hi"})
    assert generated.status_code < 300, generated.text
    judged = generated.json["job_id"]
    client.post(f"/slm/jobs/{judged}/feedback", headers=headers, json={"rating": "up", "correction": "Ho"})
    conversation = create("/slm/conversations", json={})
    message = create(f"/slm/conversations/{conversation}/messages", json={"role": "user", "content": "Hi"})
    file = create("/v1/files", data={"purpose": "batch", "file": (io.BytesIO(b"{}"), "a.jsonl")})
    request = {"input_file_id": file, "endpoint": "/v1/completions", "completion_window": "24h"}
    for target in (MODEL, str(REPORT.base_model)):  # so that it can be rolled back
        client.put(f"/slm/aliases/{ALIAS}", headers=headers, json={"model": target})
    archive = {"data": b"archive", "content_type": "application/gzip"}
    client.post(f"/slm/adapters?name={ADAPTER}", headers=headers, **archive)
    client.post("/slm/keys", headers=headers, json={"name": KEY})
    return {
        "key_name": KEY,
        "name": ADAPTER,
        "alias": ALIAS,
        "model": MODEL,
        "model_id": MODEL,
        "job_id": judged,
        "response_id": response,
        "conversation_id": conversation,
        "message_id": message,
        "item_id": message,
        "file_id": file,
        "input_file_id": file,
        "validation_file_id": file,
        "batch_id": create("/v1/batches", json=request),
    }
