"""`gunicorn app:app` in the project's folder is the one command."""

from __future__ import annotations

import shlex
import sys

import pytest

from common.settings import ROOT
from deploy import options
from deploy.gunicorn_command import start_command
from deploy.processes import stack

DOCUMENTED = "-w 4 -b 0.0.0.0:5000 app:app"


@pytest.mark.parametrize(
    ("given", "where"),
    [
        (DOCUMENTED, "--host 0.0.0.0 --port 5000"),
        ("app:app", ""),
        ("--bind=[::1]:80 app:app", "--host ::1 --port 80"),
        ("-b :8080 app:app", "--host 0.0.0.0 --port 8080"),
        ("-b localhost app:app", "--host localhost --port 8000"),
    ],
)
def test_it_listens_on_the_address_gunicorn_would_use(given: str, where: str) -> None:
    command = start_command(shlex.split(given))
    assert command == [sys.executable, str(ROOT / "start_slm_api.py"), *where.split(), "--gunicorn", *given.split()]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("-b unix:/run/slm.sock app:app", "HOST:PORT"),
        ("-b fd://3 app:app", "HOST:PORT"),
        ("-b 127.0.0.1:port app:app", "-b 127.0.0.1:port"),
        ("-b 127.0.0.1:1 -b 127.0.0.1:2 app:app", "2 addresses"),
    ],
)
def test_an_unusable_address_gives_one_line(given: str, why: str) -> None:
    with pytest.raises(SystemExit) as caught:
        start_command(shlex.split(given))
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_api_runs_with_gunicorns_options_and_our_configuration() -> None:
    command = start_command(shlex.split(DOCUMENTED))
    asked = options.parse(command[2:])
    assert (asked.host, asked.port, asked.gunicorn) == ("0.0.0.0", 5000, tuple(DOCUMENTED.split()))
    assert stack.api(asked.gunicorn) == ("gunicorn", *DOCUMENTED.split(), "--config", "api/gunicorn_conf.py")
    assert options.parse([]).gunicorn is None
