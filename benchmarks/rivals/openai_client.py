"""A client of any server with OpenAI's `POST /v1/completions`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from benchmarks.rivals.system import DATA, post
from benchmarks.serving import NEW_TOKENS

END = b"[DONE]"


class CompletionsClient:
    """A client that closes the connection after each stream.

    Args:
        port: of the server on this machine.
        fields: what the server needs beside the prompt, such as the model's name.
    """

    def __init__(self, port: int, fields: Mapping[str, object]) -> None:
        self._port = port
        self._fields = {"max_tokens": NEW_TOKENS, "temperature": 0, "stream": True, **fields}
        self._tokens = 0

    def stream(self, prompt: str) -> list[float]:
        """Send one streamed request; return when each piece of text arrived, in seconds after it was sent.

        Raises:
            RuntimeError: the server refused the request, or sent no count of tokens.
        """
        times, usage = [], None
        with post(self._port, "/v1/completions", {"prompt": prompt} | self._fields) as (sent, lines):
            for line in lines:
                event = line.removeprefix(DATA).strip()
                if event == line.strip() or event == END:
                    continue
                now = time.perf_counter() - sent
                chunk = json.loads(event)
                usage = chunk.get("usage") or usage
                if any(choice.get("text") for choice in chunk["choices"]):
                    times.append(now)
        if usage is None:
            raise RuntimeError("the stream ended without a usage chunk")
        self._tokens += usage["completion_tokens"]
        return times

    def count_tokens(self) -> int:
        """Return the number of generated tokens according to the server."""
        return self._tokens
