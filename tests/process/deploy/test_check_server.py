from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deploy.check.check_server import CheckFailed, check_frames, check_server
from deploy.check.http_client import read_frames
from deploy.verify import main
from tests.free_port import free_port

ANSWER = "Paris is the capital."
SETTINGS = ("max_new_tokens", "temperature", "do_sample")
DOCUMENTED: dict[str, type | tuple[type, ...]] = {
    "prompt": str,
    "max_new_tokens": int,
    "temperature": (int, float),
    "do_sample": bool,
    "async": bool,
}
END = {"status": "Response complete!", "device_used": "cpu"}


def text_frame(text: str, full_text: str, *, is_complete: bool = False) -> dict[str, Any]:
    return {"text": text, "full_text": full_text, "is_complete": is_complete}


FRAMES = [
    {"status": "Generating response..."},
    text_frame("Once ", "Once"),
    text_frame("upon", "Once upon", is_complete=True),
    END,
]


class DocumentedServer(ThreadingHTTPServer):
    """Answers as documented. A test changes one attribute to break a guarantee."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.loaded = False
        self.info: dict[str, Any] = {
            "device": "cpu",
            "base_model": "gpt2",
            "lora_path": None,
            "cuda_available": False,
            "mps_available": False,
            "queue": {"waiting": 0, "running": 0},
            "workers": [],
        }
        self.answer = ANSWER
        self.last_is_complete = True
        self.job_status = "succeeded"
        self.falls_over = False
        self.key: str | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: DocumentedServer

    def do_GET(self) -> None:
        if not self._has_key():
            return
        answers: dict[str, tuple[int, dict[str, Any]]] = {
            "/healthz": (200, {"status": "ok"}),
            "/slm/info": (200, {**self.server.info, "model_loaded": self.server.loaded}),
            "/slm/jobs/job-1": (200, {"status": self.server.job_status}),
            "/slm/generate": (405, {"success": False, "error": "POST only"}),
        }
        self._reply(*answers.get(self.path, (404, {"success": False, "error": "no such thing"})))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._has_key():
            return
        {
            "/slm/load": self._load,
            "/slm/unload": self._unload,
            "/slm/generate": self._generate,
            "/slm/stream": self._stream,
        }[self.path](body)

    def _has_key(self) -> bool:
        if self.server.key is None or self.headers["Authorization"] == f"Bearer {self.server.key}":
            return True
        self._reply(401, {"success": False, "error": "This needs an API key"})
        return False

    def _load(self, _body: bytes) -> None:
        self.server.loaded = True
        loaded = {"message": "Model loaded successfully on cpu", "device": "cpu", "model_path": "gpt2"}
        self._reply(200, {"success": True, **loaded})

    def _unload(self, _body: bytes) -> None:
        self.server.loaded = False
        self._reply(200, {"success": True, "message": "Model unloaded successfully"})

    def _generate(self, body: bytes) -> None:
        request = self._accepted(body)
        if request is None:
            return
        if request.get("async"):
            self._reply(202, {"job_id": "job-1"}, Location="/slm/jobs/job-1")
            return
        full = f"### Response:\n{self.server.answer}"
        shown = {"response": self.server.answer, "full_response": full, "device": "cpu"}
        settings = {key: request[key] for key in SETTINGS}
        self._reply(200, {"success": True, "prompt": request["prompt"], **shown, "settings": settings})

    def _stream(self, body: bytes) -> None:
        if self._accepted(body) is None:
            return
        frames: list[dict[str, Any]] = [{"status": "Generating response..."}]
        if not self.server.loaded:
            frames = [{"status": "Loading SLM model..."}, {"status": "Model loaded on cpu"}, *frames]
            self.server.loaded = True
        frames += [
            text_frame("Paris ", "Paris"),
            text_frame("it is", "Paris it is", is_complete=self.server.last_is_complete),
            END,
        ]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.end_headers()
        for number, frame in enumerate(frames):
            self.wfile.write(f": beat\n\nid: {number}\ndata: {json.dumps(frame)}\n\n".encode())

    def _accepted(self, body: bytes) -> dict[str, Any] | None:
        """Return a valid request; an invalid one is refused with the name of the field."""
        try:
            request: dict[str, Any] = json.loads(body)
        except ValueError:
            request = {}
        bad = [key for key, value in request.items() if not isinstance(value, DOCUMENTED.get(key, ()))]
        if not bad and request.get("prompt"):
            return request
        status = 500 if self.server.falls_over else 400
        self._reply(status, {"success": False, "error": f"{[*bad, 'prompt'][0]} cannot be used"})
        return None

    def _reply(self, status: int, body: dict[str, Any], **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_arguments: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[DocumentedServer]:
    with DocumentedServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def failed_checks(server: DocumentedServer) -> list[str]:
    """Return the names of the checks that the server fails."""
    said: list[str] = []
    is_good = check_server(server.url, "What is the capital of France?", said.append)
    failed = [line.split()[1] for line in said if line.startswith("FAILED")]
    assert is_good is not bool(failed)
    assert said[-1].startswith(f"{9 - len(failed)} of 9 checks ok")
    return failed


def test_a_server_that_works_as_documented_passes_and_keeps_its_model(server: DocumentedServer) -> None:
    assert failed_checks(server) == []
    assert server.loaded


def test_a_server_with_keys_is_checked_with_the_one_in_the_environment(
    server: DocumentedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "slm_secret"
    assert main(["--url", server.url]) == 1
    monkeypatch.setenv("API_KEY", "slm_secret")
    assert main(["--url", server.url]) == 0


def test_a_server_with_other_work_is_not_unloaded(server: DocumentedServer) -> None:
    server.info["queue"] = {"waiting": 0, "running": 1}
    said: list[str] = []
    assert check_server(server.url, "Hi", said.append)
    assert any("skipped: the server is busy" in line for line in said)


def lacks_a_key(server: DocumentedServer) -> None:
    del server.info["cuda_available"]


def never_completes(server: DocumentedServer) -> None:
    server.last_is_complete = False


def loses_jobs(server: DocumentedServer) -> None:
    server.job_status = "failed"


def falls_over_bad_input(server: DocumentedServer) -> None:
    server.falls_over = True


@pytest.mark.parametrize(
    ("fault", "failed"),
    [
        (lacks_a_key, ["info"]),
        (never_completes, ["stream", "unload"]),
        (loses_jobs, ["job"]),
        (falls_over_bad_input, ["bad"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_guarantee_fails_its_check_and_the_other_checks_still_run(
    server: DocumentedServer, fault: Callable[[DocumentedServer], None], failed: list[str]
) -> None:
    fault(server)
    assert failed_checks(server) == failed


def test_the_documents_own_frames_pass() -> None:
    check_frames(FRAMES)


@pytest.mark.parametrize(
    "frames",
    [
        [],
        FRAMES[:-1],
        FRAMES[:1] + FRAMES[-1:],
        [FRAMES[1], FRAMES[0], *FRAMES[2:]],
        [*FRAMES[:-1], {"status": "Response complete!"}],
        [*FRAMES[:-1], {"status": "Something else", "device_used": "cpu"}],
        [FRAMES[0], text_frame("Once ", "Once", is_complete=True), *FRAMES[2:]],
        [FRAMES[0], *FRAMES[2:]],
    ],
    ids=["none", "no end", "no text", "text first", "no device", "other end", "complete too soon", "a piece lost"],
)
def test_frames_in_another_shape_are_refused(frames: list[dict[str, Any]]) -> None:
    with pytest.raises(CheckFailed):
        check_frames(frames)


def test_comments_ids_and_event_names_between_frames_are_skipped() -> None:
    lines = [b": beat\n", b"\n", b"id: 1\n", b"event: message\r\n", b'data: {"a":\n', b"data:1}\n", b"\n", b"data: 2\n"]
    assert list(read_frames(lines)) == [{"a": 1}]


def test_the_exit_status_says_whether_all_checks_passed(
    server: DocumentedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--url", server.url, "--prompt", "Tell me about artificial intelligence"]) == 0
    never_completes(server)
    assert main(["--url", server.url]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_if_no_server_answers_one_line_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", f"http://127.0.0.1:{free_port()}"]) == 1
    said = capsys.readouterr().err
    assert "No server answers" in said
    assert "start_slm_api.py" in said
    assert said.count("\n") == 1
