"""Checks that a running server behaves as documented, and prints one line for each check.

Standard library only: it runs on any machine that can reach the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any

from deploy.check.http_client import Answer, HttpClient

DEFAULT_PROMPT = "What is the capital of France?"
POLL_EVERY_S = 0.2
_MAX_NEW_TOKENS = 24
_COMPLETE = "Response complete!"


class CheckFailed(Exception):
    """The server does not behave as documented; the text says how it differs."""


def check_server(url: str, prompt: str, say: Callable[[str], None], *, api_key: str | None = None) -> bool:
    """Run every check against the server at `url` and `say` each result. Returns whether all of them passed.

    If the server has API keys, `api_key` must be an admin's: the checks load and unload the model.

    The model is unloaded once in between (unless other work is running) and is loaded at the end.

    Raises:
        OSError: no server answers at `url`.
    """
    client = HttpClient(url, api_key=api_key)
    client.get("/healthz")
    checks = ServerChecks(client, prompt)
    results = [_run(name, check, say) for name, check in checks.in_order().items()]
    say(f"{sum(results)} of {len(results)} checks ok: {url}")
    return all(results)


def _run(name: str, check: Callable[[], str], say: Callable[[str], None]) -> bool:
    began = time.monotonic()
    try:
        fact, is_ok = check(), True
    except (CheckFailed, OSError, HTTPException, ValueError) as err:  # ValueError: a frame is not JSON
        fact, is_ok = str(err), False
    say(f"{'ok' if is_ok else 'FAILED':<7}{name:<14}{fact} ({time.monotonic() - began:.1f} s)")
    return is_ok


class ServerChecks:
    """One method for each documented promise. Each returns the facts it saw, or raises `CheckFailed`."""

    def __init__(self, client: HttpClient, prompt: str) -> None:
        self._client = client
        self._request = {"prompt": prompt, "max_new_tokens": _MAX_NEW_TOKENS, "temperature": 0.7, "do_sample": True}

    def in_order(self) -> dict[str, Callable[[], str]]:
        """Return the checks by name; the later ones rely on the model that `load` loaded."""
        return {
            "info": self.info,
            "load": self.load,
            "generate": self.generate,
            "deterministic": self.deterministic,
            "stream": self.stream,
            "job": self.job,
            "unknown job": self.unknown_job,
            "bad input": self.bad_input,
            "unload": self.unload_and_stream,
        }

    def info(self) -> str:
        """Every documented key is present."""
        info = self._info()
        _has_keys(info, "device", "base_model", "lora_path", "cuda_available", "mps_available", "workers")
        shown = {key: info[key] for key in ("model_loaded", "device", "base_model", "lora_path")}
        return _facts(shown | {"workers": len(info["workers"])})

    def load(self) -> str:
        """Loading succeeds, and info then says so."""
        loaded = _expect(self._client.post("/slm/load"), 200, "success", "message", "device", "model_path")
        _is(loaded["success"], True, "success")
        _is(loaded["message"], f"Model loaded successfully on {loaded['device']}", "message")
        _is(self._info()["model_loaded"], True, "model_loaded in info")
        return _facts({"device": loaded["device"], "model_path": loaded["model_path"]})

    def generate(self) -> str:
        """A complete response comes with the settings used to generate it."""
        answer = self._generated(self._request)
        _is(answer["prompt"], self._request["prompt"], "prompt")
        for key in ("max_new_tokens", "temperature", "do_sample"):
            _is(answer["settings"].get(key), self._request[key], f"settings.{key}")
        if answer["response"] not in answer["full_response"]:
            raise CheckFailed("full_response does not contain the response")
        return _facts({"response": answer["response"], "device": answer["device"]})

    def deterministic(self) -> str:
        """Temperature 0 gives the same response twice."""
        greedy = self._request | {"temperature": 0}
        first, second = (self._generated(greedy)["response"] for _ in range(2))
        _is(second, first, "the second response at temperature 0")
        return "temperature 0 gave the same response twice"

    def stream(self) -> str:
        """The frames come in the documented order with the documented keys."""
        frames = self._streamed()
        return _facts({"frames": len(frames), "text": _text_of(frames)})

    def job(self) -> str:
        """An asynchronous request is a job that can be polled to its end."""
        accepted = self._client.post("/slm/generate", self._request | {"async": True})
        job_id = _expect(accepted, 202, "job_id")["job_id"]
        location = accepted.headers.get("Location")
        _is(location, f"/slm/jobs/{job_id}", "Location")
        job = self._poll(f"/slm/jobs/{job_id}")
        _is(job["status"], "succeeded", "status")
        return _facts({"job_id": job_id, "status": job["status"]})

    def unknown_job(self) -> str:
        """A job that nobody submitted is not found."""
        _refused(self._client.get("/slm/jobs/no-such-job"), 404)
        return "404"

    def bad_input(self) -> str:
        """Invalid input is rejected with the field's name."""
        post = self._client.post
        _refused(post("/slm/generate", {}), 400, "prompt")
        _refused(post("/slm/generate", {"prompt": ""}), 400, "prompt")
        _refused(post("/slm/stream", {"prompt": 7}), 400, "prompt")
        _refused(post("/slm/generate", self._request | {"max_new_tokens": "many"}), 400, "max_new_tokens")
        _refused(post("/slm/generate", self._request | {"no_such_field": 1}), 400, "no_such_field")
        _refused(post("/slm/generate", b"{not json"), 400)
        _refused(self._client.get("/slm/generate"), 405)
        return "6 requests rejected with 400, a wrong method with 405"

    def unload_and_stream(self) -> str:
        """Unloading succeeds, and a stream loads the model again and says so."""
        if any(self._info()["queue"].values()):
            return "skipped: the server is busy"
        unloaded = _expect(self._client.post("/slm/unload"), 200, "success", "message")
        _is(unloaded["message"], "Model unloaded successfully", "message")
        _is(self._info()["model_loaded"], False, "model_loaded in info")
        statuses = [frame["status"] for frame in self._streamed() if "status" in frame]
        _is(statuses[0], "Loading SLM model...", "the first frame of a stream without a model")
        _is(statuses[1].startswith("Model loaded on "), True, f"the second frame ({statuses[1]}) names the device")
        return "unloaded, and loaded again by a stream"

    def _info(self) -> dict[str, Any]:
        return _expect(self._client.get("/slm/info"), 200, "model_loaded", "queue")

    def _generated(self, request: Mapping[str, Any]) -> dict[str, Any]:
        keys = ("success", "prompt", "response", "full_response", "device", "settings")
        answer = _expect(self._client.post("/slm/generate", request), 200, *keys)
        _is(answer["success"], True, "success")
        return answer

    def _streamed(self) -> list[dict[str, Any]]:
        content_type, frames = self._client.stream("/slm/stream", self._request)
        _is(content_type.partition(";")[0], "text/event-stream", "Content-Type")
        check_frames(frames)
        return frames

    def _poll(self, path: str) -> dict[str, Any]:
        while True:
            job = _expect(self._client.get(path), 200, "status")
            if job["status"] not in ("queued", "running"):
                return job
            time.sleep(POLL_EVERY_S)


def check_frames(frames: list[dict[str, Any]]) -> None:
    """Check a stream's frames: status frames, then text frames (only the last is complete), then the end.

    Raises:
        CheckFailed: the order or the content differs.
    """
    shape = "".join("t" if "text" in frame else "s" for frame in frames)
    if not shape or shape.strip("s").strip("t") or not shape.endswith("ts"):
        raise CheckFailed(
            f"expected status, text and end frames, got {shape or 'none'} (s: status, t: text): {frames[-1:]}"
        )
    _is(frames[-1].get("status"), _COMPLETE, "the last status")
    _has_keys(frames[-1], "device_used")
    texts = [frame for frame in frames if "text" in frame]
    for frame in texts:
        _has_keys(frame, "full_text", "is_complete")
    _is(
        [frame["is_complete"] for frame in texts], [False] * (len(texts) - 1) + [True], "is_complete of the text frames"
    )
    _is("".join(frame["text"] for frame in texts).strip(), texts[-1]["full_text"].strip(), "the joined text")


def _text_of(frames: list[dict[str, Any]]) -> str:
    return str([frame for frame in frames if "text" in frame][-1]["full_text"])


def _expect(answer: Answer, status: int, *keys: str) -> dict[str, Any]:
    if answer.status != status or not isinstance(answer.json, dict):
        raise CheckFailed(f"status {answer.status} instead of {status}: {answer.json}")
    _has_keys(answer.json, *keys)
    return answer.json


def _refused(answer: Answer, status: int, named: str = "") -> None:
    body = _expect(answer, status, "success", "error")
    _is(body["success"], False, "success")
    if named not in body["error"]:
        raise CheckFailed(f"the error does not name {named}: {body['error']}")


def _has_keys(found: Mapping[str, Any], *keys: str) -> None:
    lacking = [key for key in keys if key not in found]
    if lacking:
        raise CheckFailed(f"missing {', '.join(lacking)} in {found}")


def _is(found: object, expected: object, what: str) -> None:
    if found != expected:
        raise CheckFailed(f"{what}: {found!r} instead of {expected!r}")


def _facts(facts: Mapping[str, object]) -> str:
    return ", ".join(f"{key} {value!r}" for key, value in facts.items())
