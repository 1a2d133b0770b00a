"""The attacks of `benchmarks.abuse`: the ways in which one client can try to block others.

Each request contains its number, so that caches do not help. To add a kind, add an entry to `ATTACKS`.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from benchmarks.abuse_client import Body, Client

LONG_CHARS = 250_000
OPTIONAL = ".?" * 30_000
LONG_ANSWER = 1_900  # tokens; about the maximum in the default model's context
WRONG_BYTES = 750_000
FILE_BYTES = 9_000_000
NUM_JOBS = 1_000
NUM_RECEIVERS = 40
AT_ONCE = 30  # concurrent requests while an attack is prepared
FORM = "multipart/form-data; boundary=b"

Send = Callable[[int], str]


class Attack(NamedTuple):
    """`begin` prepares the attack; the returned function sends request number n and returns its status."""

    name: str
    what: str
    begin: Callable[[Client], Send]


def _get(path: str) -> Callable[[Client], Send]:
    return lambda client: lambda _number: client.send("GET", path)


def _post(path: str, make: Callable[[int], Body | bytes]) -> Callable[[Client], Send]:
    return lambda client: lambda number: client.send("POST", path, make(number))


def _generate(**fields: Any) -> Callable[[Client], Send]:
    """Return generations with the given fields, which may be functions of the request's number."""

    def body(number: int) -> Body:
        own = {name: value(number) if callable(value) else value for name, value in fields.items()}
        return {"prompt": f"Tell me {number} facts.", "max_new_tokens": 40} | own

    return _post("/slm/generate", body)


def _schema(make: Callable[[int], Body]) -> Callable[[int], Body]:
    return lambda number: {"type": "json_schema", "json_schema": {"name": "a", "schema": make(number)}}


def _wide_schema(number: int) -> Body:
    kinds = [{"type": "array", "items": {"type": "string", "maxLength": 3 + number + kind}} for kind in range(90)]
    return {"type": "array", "items": {"anyOf": kinds}}


def _text(number: int) -> str:
    words = f"{number} Never gonna give you up, said the {number}th robot. "
    return (words * (LONG_CHARS // len(words)))[:LONG_CHARS]


def _of_long_job(path: str) -> Callable[[Client], Send]:
    """Return requests for a path below one long job that has ended."""

    def begin(client: Client) -> Send:
        body = {"prompt": "Tell me everything.", "max_new_tokens": LONG_ANSWER, "ignore_eos": True}
        job_id = client.json("POST", "/slm/generate", body)["job_id"]
        return _get(f"/slm/jobs/{job_id}{path}")(client)

    return begin


def _of_many_jobs(client: Client) -> Send:
    """Create many jobs, and return requests that list them."""
    submit = _generate(max_new_tokens=1)(client)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(submit, range(NUM_JOBS)))
    return _get(f"/slm/jobs?limit={NUM_JOBS}")(client)


def _wrong(number: int) -> bytes:
    """Return a large invalid body; the reasons for its rejection alternate."""
    size = WRONG_BYTES - number % 1000
    bodies = [
        json.dumps({"prompt": "x", "stop": [7] * (size // 3)}),
        json.dumps({"messages": [{"role": "user", "content": [{"type": "x"}] * (size // 15)}]}),
        json.dumps({"prompt": "x", "logit_bias": {str(token): 1000 for token in range(size // 14)}}),
        '{"prompt": "' + "x" * size,
        "[" * size,
    ]
    return bodies[number % len(bodies)].encode()


def _form(number: int) -> bytes:
    line = json.dumps({"custom_id": str(number), "body": {"prompt": "x" * 900}}).encode() + b"\n"
    head = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n'
    parts = [
        head % (b"purpose", b"") + b"batch",
        head % (b"file", b'; filename="f"') + line * (FILE_BYTES // len(line)),
    ]
    return b"\r\n".join([*parts, b"--b--\r\n"])


def _upload(client: Client) -> Send:
    """Return uploads of files, which go on after the quota is reached."""
    form = _form(0)
    return lambda _number: client.send("POST", "/v1/files", form, FORM)


def _download(client: Client) -> Send:
    kept = client.json("POST", "/v1/files", _form(0), FORM)
    return _get(f"/v1/files/{kept['id']}/content")(client)


def _hanging_webhooks(client: Client) -> Send:
    """Return short generations, each with a webhook to a receiver that accepts the connection but never answers."""
    receivers = [socket.create_server(("127.0.0.1", 0)) for _ in range(NUM_RECEIVERS)]

    def send(number: int) -> str:
        url = f"http://127.0.0.1:{receivers[number % NUM_RECEIVERS].getsockname()[1]}/"
        return client.send("POST", "/slm/generate", {"prompt": f"{number}?", "max_new_tokens": 1, "webhook_url": url})

    return send


def _leave(after_s: float, pause_s: float = 0.0) -> Callable[[Client], Send]:
    """Return long generations: the clients disconnect after `after_s` s and ask again `pause_s` s later."""

    def begin(client: Client) -> Send:
        def send(number: int) -> str:
            body = {"prompt": f"Tell me {number} stories.", "max_new_tokens": 500, "ignore_eos": True}
            client.leave("/slm/generate", body, after_s)
            time.sleep(pause_s)
            return "left"

        return send

    return begin


ATTACKS = [
    Attack("ordinary", "ordinary answers of 40 tokens, for comparison", _generate()),
    Attack("regex", "`.?` 30,000 times", _generate(regex=lambda number: f"(a{number})?{OPTIONAL}")),
    Attack(
        "schema",
        "`multipleOf` 1,000,003 and up",
        _generate(response_format=_schema(lambda number: {"type": "integer", "multipleOf": 1_000_003 + number})),
    ),
    Attack("late regex", "the same after three letters", _generate(regex=lambda n: f"[a-z]{{3}}(a{n})?{OPTIONAL}")),
    Attack(
        "wide schema", "90 kinds of lists with the same beginning", _generate(response_format=_schema(_wide_schema))
    ),
    Attack(
        "tokenize",
        "`POST /slm/tokenize` of 250,000 characters",
        _post("/slm/tokenize", lambda number: {"raw_text": _text(number)}),
    ),
    Attack("long prompt", "prompts of 250,000 characters", _generate(prompt=_text)),
    Attack("replay", "the stream of an ended job of 1,900 tokens", _of_long_job("/stream")),
    Attack("job", "that job, `GET /slm/jobs/<id>`", _of_long_job("")),
    Attack("jobs", "the newest 1,000 jobs", _of_many_jobs),
    Attack("info", "`GET /slm/info`", _get("/slm/info")),
    Attack("wrong bodies", "invalid bodies of 750 KB", _post("/slm/generate", _wrong)),
    Attack("upload", "files of 9 MB, also beyond the quota", _upload),
    Attack("download", "a file of 9 MB", _download),
    Attack("webhooks", "webhooks to 40 receivers that hang", _hanging_webhooks),
    Attack("leave", "long plain requests; the clients disconnect after a second", _leave(1.0)),
    Attack("abandon", "the same, disconnecting immediately, 120 per second", _leave(0.0, 0.5)),
    Attack("open to all", "`GET /openapi.json`, which needs no key", _get("/openapi.json")),
]
