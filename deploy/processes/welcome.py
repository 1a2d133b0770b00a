"""The message on the console when the server is ready: addresses, and commands to try."""

from __future__ import annotations

import shlex

from common.settings import Settings
from deploy.data_folder import BROKER_URL
from deploy.processes.stack import FLOWER, Stack, module

_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not listened on


def reachable_host(host: str) -> str:
    """Return the address at which a program on this machine reaches a server that listens on `host`."""
    return _ANY_ADDRESS.get(host, host)


def base_url(settings: Settings) -> str:
    """Return the API's address for programs on this machine."""
    host = reachable_host(settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def welcome(stack: Stack) -> str:
    """Return the message; its commands can be pasted into a shell unchanged."""
    url = base_url(stack.settings)
    rows = [
        ("Chat page", f"{url}/"),
        ("Generate", _post(f"{url}/slm/generate", '{"prompt": "What is Python?", "max_new_tokens": 80}')),
        ("Stream", _post(f"{url}/slm/stream", '{"prompt": "Write a short story about a robot"}', "-N")),
        ("Model info", f"curl {url}/slm/info"),
        ("Jobs", f"{_flower(stack)}  then open http://127.0.0.1:5555"),
        ("Logs", str(stack.logs)),
        ("Stop", "Ctrl-C (twice: immediately)"),
    ]
    return "\n".join(["", "The server is up.", *(f"  {name:<11} {text}" for name, text in rows), ""])


def _post(url: str, body: str, *options: str) -> str:
    return shlex.join(["curl", *options, url, "-H", "Content-Type: application/json", "-d", body])


def _flower(stack: Stack) -> str:
    """Return the command that starts Flower. Redis's address is read from a file because it may hold a password."""
    file = shlex.quote(str(stack.settings.data_dir / BROKER_URL))
    return f'CELERY_BROKER_URL="$(cat {file})" {shlex.join(module(*FLOWER))}'
