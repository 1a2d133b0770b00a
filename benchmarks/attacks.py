"""What one client can do to stop the others: the entries of `benchmarks.abuse`, one request each.

A request's number is in what it sends, so that nothing remembered from the one before helps. Further kinds are
further entries of `ATTACKS`.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

TIMEOUT_S = 120.0
LEAVE_AFTER_S = 1.0
LONG_CHARS = 250_000
OPTIONAL = ".?" * 30_000

Body = dict[str, Any]


class Client:
    """Somebody with an API key."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}

    def send(self, method: str, path: str, body: Body | None = None) -> str:
        """Send a request, read the whole answer, and return its status."""
        return str(max((status for status, _ in self.lines(method, path, body)), default="?"))

    def lines(self, method: str, path: str, body: Body | None = None) -> Iterator[tuple[int, bytes]]:
        """The status of the answer, with each line as it comes."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            with closing(connection.getresponse()) as answer:
                for line in answer:
                    yield answer.status, line

    def leave(self, path: str, body: Body) -> None:
        """Send a request and close the connection a little later, whatever there is to read."""
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)) as connection:
            connection.request("POST", path, json.dumps(body), self._headers)
            time.sleep(LEAVE_AFTER_S)


class Attack(NamedTuple):
    """`send` sends request number so-and-so, and returns what it was answered with."""

    name: str
    what: str
    send: Callable[[Client, int], str]


def _generate(**fields: Any) -> Callable[[Client, int], str]:
    """A generation whose fields may be functions of the number."""

    def send(client: Client, number: int) -> str:
        body = {name: value(number) if callable(value) else value for name, value in fields.items()}
        return client.send("POST", "/slm/generate", {"prompt": f"Tell me {number} facts.", "max_new_tokens": 40} | body)

    return send


def _schema(make: Callable[[int], Body]) -> Callable[[int], Body]:
    return lambda number: {"type": "json_schema", "json_schema": {"name": "a", "schema": make(number)}}


def _wide_schema(number: int) -> Body:
    kinds = [{"type": "array", "items": {"type": "string", "maxLength": 3 + number + kind}} for kind in range(90)]
    return {"type": "array", "items": {"anyOf": kinds}}


def _text(number: int) -> str:
    words = f"{number} Never gonna give you up, said the {number}th robot. "
    return (words * (LONG_CHARS // len(words)))[:LONG_CHARS]


def _leave(client: Client, number: int) -> str:
    """Ask for a long answer, and go."""
    client.leave("/slm/generate", {"prompt": f"Tell me {number} stories.", "max_new_tokens": 500, "ignore_eos": True})
    return "left"


class _Replay:
    """Reads the stream of one long job that has ended, again and again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._job_id = ""

    def __call__(self, client: Client, _number: int) -> str:
        with self._lock:
            self._job_id = self._job_id or self._run_job(client)
        return client.send("GET", f"/slm/jobs/{self._job_id}/stream")

    @staticmethod
    def _run_job(client: Client) -> str:
        body = {"prompt": "Tell me everything.", "max_new_tokens": 1500, "ignore_eos": True}
        lines = [line for _, line in client.lines("POST", "/slm/generate", body)]
        job_id: str = json.loads(b"".join(lines))["job_id"]
        return job_id


def _tokenize(client: Client, number: int) -> str:
    return client.send("POST", "/slm/tokenize", {"raw_text": _text(number)})


ATTACKS = [
    Attack("ordinary", "ordinary answers of 40 tokens, for comparison", _generate()),
    Attack("regex", "`.?` 30,000 times", _generate(regex=lambda number: f"(a{number})?{OPTIONAL}")),
    Attack(
        "schema",
        "`multipleOf` 1,000,003 and up",
        _generate(response_format=_schema(lambda number: {"type": "integer", "multipleOf": 1_000_003 + number})),
    ),
    Attack("late regex", "the same behind three letters", _generate(regex=lambda n: f"[a-z]{{3}}(a{n})?{OPTIONAL}")),
    Attack("wide schema", "90 kinds of lists that begin alike", _generate(response_format=_schema(_wide_schema))),
    Attack("tokenize", "`POST /slm/tokenize` of 250,000 characters", _tokenize),
    Attack("long prompt", "prompts of 250,000 characters", _generate(prompt=_text)),
    Attack("replay", "the stream of an ended job of 1,500 tokens, again and again", _Replay()),
    Attack("leave", "long plain requests whose clients go after a second", _leave),
]
