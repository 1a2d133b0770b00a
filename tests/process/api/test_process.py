"""What the API's process loads and how gunicorn is configured."""

from __future__ import annotations

import subprocess
import sys

import pytest

from common.redis.client import connect
from tests.api_process import COMMAND, ROOT, environment
from tests.free_port import free_port
from tests.redis_server import RedisServer

HEAVY = ("torch", "transformers", "peft", "worker", "training", "SLMInit", "numpy")


def test_importing_the_api_loads_no_model_library_and_connects_nowhere() -> None:
    code = f"""
import socket, sys, threading
def refuse(*_): raise AssertionError("a connection at import")
socket.socket.connect = refuse
import api.wsgi
assert threading.active_count() == 1
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_configuration_imports_nothing_that_gevent_must_patch_first() -> None:
    code = """
import runpy, sys
runpy.run_path("api/gunicorn_conf.py")
print([name for name in ("redis", "celery", "flask") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_invalid_secret_is_refused_and_not_shown() -> None:
    env = environment(webhook_secret="whsec_c2VjcmV0")  # too short
    done = subprocess.run(COMMAND, cwd=ROOT, env=env, capture_output=True, text=True)
    [line] = done.stderr.splitlines()
    assert line.startswith("SLM_WEBHOOK_SECRET has the value ***: ")
    assert "24 to 64 bytes" in line
    assert "c2VjcmV0" not in line


def test_a_server_open_to_others_does_not_start_without_keys(redis_server: RedisServer) -> None:
    connect(redis_server.url).flushall()
    env = environment(redis_url=redis_server.url, published_host="192.0.2.7", port=free_port())
    done = subprocess.run(COMMAND, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    assert "192.0.2.7 can be reached from other machines, and there are no API keys" in done.stderr


@pytest.mark.parametrize(("name", "value"), [("port", "0"), ("heartbeat_s", "soon"), ("colour", "red")])
def test_a_wrong_setting_gives_one_clear_line(name: str, value: str) -> None:
    done = subprocess.run(COMMAND, cwd=ROOT, env=environment(**{name: value}), capture_output=True, text=True)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"SLM_{name.upper()}" in line


@pytest.mark.parametrize("command", [COMMAND, (sys.executable, "-m", "celery", "-A", "worker.app", "worker")])
def test_a_process_without_the_address_of_redis_uses_none(command: tuple[str, ...]) -> None:
    env = environment(port=free_port())
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert "SLM_REDIS_URL is not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_options_of_gunicorn_in_the_environment_are_refused() -> None:
    env = environment(redis_url="redis://127.0.0.1:9/0") | {"GUNICORN_CMD_ARGS": f"--bind 0.0.0.0:{free_port()}"}
    done = subprocess.run(COMMAND, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert done.stderr == "GUNICORN_CMD_ARGS is set. Only SLM_ variables configure this server; unset it.\n"
