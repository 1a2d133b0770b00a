"""A small client in one file, based on requests. Copy it, or start from it.

    slm = SLM("http://127.0.0.1:5000")
    print(slm.generate("What is the capital of France?", max_new_tokens=50)["response"])

docs/api.md of the server lists the options. An unsuccessful response raises `requests.HTTPError` with the server's
message. `slm_client`, next to this file, also reconnects broken streams.
"""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import requests

CONNECT_S, ANSWER_S = 10, 150  # streams have a heartbeat every 15 s; other answers take at most 120 s
POLL_S = 0.5


class SLM:
    """One server. `api_key` is needed if the server has keys."""

    def __init__(self, base_url: str = "http://127.0.0.1:5000", api_key: str | None = None) -> None:
        self.base_url = base_url
        self.session = requests.Session()
        if api_key is not None:
            self.session.headers["Authorization"] = f"Bearer {api_key}"

    def info(self) -> dict[str, Any]:
        """Return the server's state: model, device, queue, workers."""
        return dict(self._ask("GET", "/slm/info").json())

    def load(self) -> dict[str, Any]:
        """Load the model on every worker."""
        return dict(self._ask("POST", "/slm/load").json())

    def generate(self, prompt: str, **options: object) -> dict[str, Any]:
        """Return the complete answer; `["response"]` is its text."""
        answer = self._ask("POST", "/slm/generate", json={"prompt": prompt, **options})
        body = dict(answer.json())
        return self.wait(body["job_id"]) if answer.status_code == requests.codes.accepted else body

    def stream(self, prompt: str, **options: object) -> Iterator[str]:
        """Yield the pieces of the answer as they are generated.

        Raises:
            RuntimeError: the job failed; the text is the server's message.
            requests.ConnectionError: the stream ended before the job did.
        """
        with self._ask("POST", "/slm/stream", json={"prompt": prompt, **options}, stream=True) as answer:
            for line in answer.iter_lines(chunk_size=None):
                if not line.startswith(b"data: "):
                    continue
                data = json.loads(line.removeprefix(b"data: "))
                if "error" in data:
                    raise RuntimeError(data["error"])
                if "device_used" in data:
                    return
                if data.get("text"):
                    yield data["text"]
        raise requests.ConnectionError("The stream ended before the job did.")

    def submit(self, prompt: str, **options: object) -> str:
        """Start a generation in the background; returns the job's id for `poll`, `wait` and `cancel`."""
        return str(
            self._ask("POST", "/slm/generate", json={"prompt": prompt, "async": True, **options}).json()["job_id"]
        )

    def poll(self, job_id: str) -> dict[str, Any]:
        """Return the job's state: `status`, `position` in the queue, `text` so far, `result`, `error`."""
        return dict(self._ask("GET", f"/slm/jobs/{job_id}").json())

    def wait(self, job_id: str) -> dict[str, Any]:
        """Poll until the job has ended; returns its result.

        Raises:
            RuntimeError: it failed or was cancelled.
        """
        while (job := self.poll(job_id))["status"] in ("queued", "running"):
            time.sleep(POLL_S)
        if job["status"] != "succeeded":
            raise RuntimeError(job["error"]["message"] if job["error"] else f"The job was {job['status']}.")
        return dict(job["result"])

    def cancel(self, job_id: str) -> None:
        """Cancel the job."""
        self._ask("DELETE", f"/slm/jobs/{job_id}")

    def _ask(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        answer = self.session.request(
            method, self.base_url + path, headers=headers, timeout=(CONNECT_S, ANSWER_S), **options
        )
        if not answer.ok:
            raise requests.HTTPError(_words_of(answer), response=answer)
        return answer


def _words_of(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason}"


def main() -> None:
    """Send the prompt from the command line, and print the answer as it is generated."""
    slm = SLM(os.environ.get("SLMCLIENT_URL", "http://127.0.0.1:5000"), os.environ.get("SLMCLIENT_API_KEY"))
    for piece in slm.stream(sys.argv[1] if len(sys.argv) > 1 else "Tell me a joke"):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main()
