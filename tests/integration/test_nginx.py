"""The API behind the real nginx, with the configuration of docker-compose.yml."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from redis import Redis

from common.settings import ROOT
from tests.api_process import running_api
from tests.free_port import free_port
from tests.missing import need_program
from tests.nginx import Nginx, running_nginx
from tests.redis_server import RedisServer
from tests.scripted_worker import Play, ScriptedWorker, answer
from tests.tls_proxy import can_make_certificates, make_certificate

TIMEOUT_S = 90
BODY_BYTES = 300_000
FILE_BYTES = 8_000_000


@pytest.fixture(scope="module")
def api(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    limits = {"max_body_bytes": BODY_BYTES, "max_file_bytes": FILE_BYTES}
    folder = tmp_path_factory.mktemp("api")
    with running_api(
        folder, redis_url=redis_server.url, data_dir=folder, proxies=1, reader_grace_s=2, drain_s=2, **limits
    ) as running:
        yield running.url.removeprefix("http://")


@pytest.fixture(scope="module")
def nginx(api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    with running_nginx(tmp_path_factory.mktemp("nginx"), api) as server:
        yield server


@pytest.fixture(scope="module")
def secure(api: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Nginx, Path]]:
    if not can_make_certificates():
        pytest.skip("there is no openssl")
    folder = tmp_path_factory.mktemp("tls")
    made = make_certificate(folder)
    with running_nginx(folder, api, config="nginx-tls.conf") as server:
        yield server, made.certificate


def lines_of(response: requests.Response) -> Iterator[bytes]:
    return (line for line in response.iter_lines(chunk_size=None) if line.startswith(b"data: {"))


STREAMS = {
    "slm": ("/slm/stream", {"prompt": "Hi"}),
    "openai": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hi"}], "model": "gpt2", "stream": True},
    ),
    "ollama": ("/api/generate", {"prompt": "Hi", "model": "gpt2"}),
}


@pytest.mark.parametrize("name", STREAMS)
def test_tokens_are_passed_on_as_they_come(nginx: Nginx, real_redis: Redis, name: str) -> None:
    seen = threading.Event()

    def script(play: Play) -> None:
        play.say("first ")
        assert seen.wait(TIMEOUT_S)
        play.end("second")

    path, body = STREAMS[name]
    with (
        ScriptedWorker(real_redis, script),
        requests.post(nginx.url + path, json=body, stream=True, timeout=TIMEOUT_S) as response,
    ):
        assert response.status_code == 200, response.text
        lines = response.iter_lines(chunk_size=None)
        assert any(b"first" in line for line in lines)
        seen.set()
        assert any(b"second" in line for line in lines)


def test_a_stream_resumes_behind_nginx(nginx: Nginx, real_redis: Redis) -> None:
    with ScriptedWorker(real_redis, answer("a ", "b ", "c")):
        job_id = requests.post(f"{nginx.url}/slm/generate", json={"prompt": "Hi"}, timeout=TIMEOUT_S).json()["job_id"]
        whole = requests.get(f"{nginx.url}/slm/jobs/{job_id}/stream", timeout=TIMEOUT_S).text
        number = next(line for line in whole.splitlines() if line.startswith("id: ")).removeprefix("id: ")
        rest = requests.get(
            f"{nginx.url}/slm/jobs/{job_id}/stream", headers={"Last-Event-ID": number}, timeout=TIMEOUT_S
        ).text
    assert f"id: {number}\n" not in rest
    assert '"is_complete": true' in rest or "Response complete!" in rest


def test_a_client_that_goes_ends_its_generation(nginx: Nginx, real_redis: Redis) -> None:
    ended = threading.Event()

    def script(play: Play) -> None:
        play.say("first ")
        play.run_until_cancelled()
        ended.set()

    with ScriptedWorker(real_redis, script):
        with requests.post(f"{nginx.url}/slm/stream", json={"prompt": "Hi"}, stream=True, timeout=TIMEOUT_S) as reading:
            assert b"first" in next(line for line in lines_of(reading) if b"text" in line)
        assert ended.wait(TIMEOUT_S)


def test_the_api_refuses_a_large_body_in_its_own_words(nginx: Nginx, real_redis: Redis) -> None:
    body = {"prompt": "x" * 2 * BODY_BYTES}
    refused = requests.post(f"{nginx.url}/slm/generate", json=body, timeout=TIMEOUT_S)
    assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


def test_a_file_as_large_as_the_api_admits_passes(nginx: Nginx, real_redis: Redis) -> None:
    line = json.dumps({"custom_id": "x" * 1000}) + "\n"
    files = {"file": ("batch.jsonl", line * 5000)}
    done = requests.post(f"{nginx.url}/v1/files", data={"purpose": "batch"}, files=files, timeout=TIMEOUT_S)
    assert (done.status_code, done.json()["bytes"]) == (200, len(line) * 5000)


@contextmanager
def echo() -> Iterator[str]:
    """A server that answers with the headers that it got."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(dict(self.headers)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_api_learns_the_address_of_the_client_and_not_what_it_claims(tmp_path: Path) -> None:
    with echo() as api, running_nginx(tmp_path, api) as nginx:
        sent = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
        got = requests.get(nginx.url, headers=sent, timeout=TIMEOUT_S).json()
    assert (got["X-Forwarded-For"], got["X-Forwarded-Proto"]) == ("127.0.0.1", "http")
    assert got["Host"] == f"127.0.0.1:{nginx.http}"
    assert "203.0.113.9" not in nginx.log.read_text()
    entry = next(json.loads(line) for line in nginx.log.read_text().splitlines() if line.startswith("{"))
    assert (entry["client"], entry["status"], entry["path"]) == ("127.0.0.1", 200, "/")


def test_too_many_requests_from_an_address_are_refused_as_the_api_would(tmp_path: Path) -> None:
    strict = {"rate=100r/s": "rate=1r/m", "burst=400": "burst=2"}
    with echo() as api, running_nginx(tmp_path, api, changes=strict) as nginx:
        answers = [requests.get(nginx.url, timeout=TIMEOUT_S) for _ in range(4)]
    assert [one.status_code for one in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["code"] == "rate_limit_exceeded"
    assert answers[-1].headers["Retry-After"] == "1"


def test_too_many_connections_of_an_address_are_refused(
    nginx: Nginx, api: str, tmp_path: Path, real_redis: Redis
) -> None:
    with (
        ScriptedWorker(real_redis, Play.run_until_cancelled),
        running_nginx(tmp_path, api, changes={"slm_connections 512": "slm_connections 1"}) as strict,
        requests.post(f"{strict.url}/slm/stream", json={"prompt": "Hi"}, stream=True, timeout=TIMEOUT_S),
    ):
        assert requests.get(f"{strict.url}/healthz", timeout=TIMEOUT_S).json()["code"] == "rate_limit_exceeded"


def test_without_an_api_clients_are_told_to_come_back(tmp_path: Path) -> None:
    with running_nginx(tmp_path, f"127.0.0.1:{free_port()}") as nginx:
        refused = requests.post(f"{nginx.url}/slm/generate", json={"prompt": "Hi"}, timeout=TIMEOUT_S)
    assert (refused.status_code, refused.json()["code"]) == (503, "server_stopping")
    assert refused.json()["request_id"] == refused.headers["X-Request-Id"]


def test_https_serves_the_api_and_http_leads_there(secure: tuple[Nginx, Path], real_redis: Redis) -> None:
    nginx, certificate = secure
    with ScriptedWorker(real_redis, answer("a ", "b")):
        done = requests.post(
            f"{nginx.url}/slm/generate", json={"prompt": "Hi"}, verify=str(certificate), timeout=TIMEOUT_S
        )
    assert [one.status_code for one in done.history] == [308]
    assert done.url == f"https://127.0.0.1:{nginx.https}/slm/generate"
    assert (done.status_code, done.json()["response"]) == (200, "a b")
    assert done.headers["Strict-Transport-Security"] == "max-age=31536000"


def test_the_sample_for_a_machine_fits_into_the_configuration_of_nginxs_package(tmp_path: Path) -> None:
    """That configuration has some directives already, and no directive may be there twice."""
    need_program("nginx")
    if not can_make_certificates():
        pytest.skip("there is no openssl")
    made = make_certificate(tmp_path)
    for source in (ROOT / "deploy" / "nginx").iterdir():
        text = source.read_text().replace("/etc/nginx/slm", str(tmp_path)).replace("/var/log/nginx", str(tmp_path))
        for name, file in (("fullchain", made.certificate), ("privkey", made.key)):
            text = text.replace(f"/etc/letsencrypt/live/slm.example.com/{name}.pem", str(file))
        (tmp_path / source.name).write_text(text)
    of_the_package = f"keepalive_timeout 65; access_log {tmp_path}/access.log; include {tmp_path}/site.conf;"
    (tmp_path / "main.conf").write_text(f"pid {tmp_path}/pid; events {{}} http {{ {of_the_package} }}")
    command = ["nginx", "-t", "-c", str(tmp_path / "main.conf"), "-e", str(tmp_path / "start.log")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("version", ["h2", "http/1.1"])
def test_tls_offers_http_2_and_no_old_version(secure: tuple[Nginx, Path], version: str) -> None:
    """A browser opens at most six connections by HTTP/1.1, and each stream would take one."""
    nginx, certificate = secure
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols([version])
    with (
        socket.create_connection(("127.0.0.1", nginx.https), TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
    ):
        assert secured.selected_alpn_protocol() == version
        assert secured.version() in {"TLSv1.2", "TLSv1.3"}
