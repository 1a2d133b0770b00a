"""`/openapi.json` in other tools: a linter, and a generator of clients with its client."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import requests

from deploy import bootstrap
from tests import node_packages
from tests.foreign.conftest import Site
from tests.foreign.foreign_python import FOLDER, INSTALL_S, ForeignPython
from tests.scripted_worker import answer

pytestmark = pytest.mark.timeout(INSTALL_S)

NODE = Path(__file__).parent / "node"
STORY = answer("Once ", "upon ", "a time.")
CALLS = """
import sys
sys.path.insert(0, {folder!r})
from made import AuthenticatedClient
from made.api.generate import generate
from made.api.jobs import show_job
from made.api.open_ai import complete_chat
from made.models import ChatBody, GenerateBody, Message

client = AuthenticatedClient(base_url={url!r}, token={secret!r}, raise_on_unexpected_status=True)
done = generate.sync(client=client, body=GenerateBody(prompt="Hi", max_new_tokens=9))
out([type(done).__name__, done.response, done.usage.completion_tokens])
out(show_job.sync(done.job_id, client=client).status.value)
message = Message(role="user", content="Hi")
out(complete_chat.sync(client=client, body=ChatBody(model="gpt2", messages=[message])).choices[0].message.content)
refused = generate.sync(client=client, body=GenerateBody(prompt="Hi", webhook_url=""))
out([type(refused).__name__, refused.code, refused.param])
"""

FILES = ("application/jsonl", "text/csv")  # bodies that the generator does not know


@pytest.fixture(scope="module")
def described(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document in a file."""
    file = tmp_path_factory.mktemp("described") / "openapi.json"
    file.write_text(requests.get(f"{site.url.removesuffix('/v1')}/openapi.json", timeout=30).text)
    return file


@pytest.fixture(scope="module")
def made(described: Path, python: ForeignPython) -> Path:
    """The folder of the package `made`, a client generated from the document; a warning fails."""
    config = described.with_name("config.json")
    config.write_text(
        json.dumps({"post_hooks": [], "content_type_overrides": dict.fromkeys(FILES, "application/octet-stream")})
    )
    options = ["--path", described, "--output-path", described.with_name("made"), "--config", config, "--meta", "none"]
    done = subprocess.run(
        [bootstrap.python_of(FOLDER), "-m", "openapi_python_client", "generate", "--fail-on-warning", *options],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout
    return described.parent


def test_redocly_finds_no_error(described: Path) -> None:
    node_packages.install(NODE)
    done = subprocess.run(
        ["npx", "--no-install", "redocly", "lint", "--format", "json", described],
        cwd=NODE,
        env=os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["totals"], found["problems"]) == ({"errors": 0, "warnings": 0, "ignored": 0}, [])


def test_every_operation_is_in_the_generated_client(described: Path, made: Path) -> None:
    paths = json.loads(described.read_text())["paths"]
    operations = [operation for methods in paths.values() for operation in methods.values()]
    modules = [file for file in made.glob("made/api/*/*.py") if file.stem != "__init__"]
    assert len(modules) == len(operations)


def test_the_generated_client_works(site: Site, made: Path, python: ForeignPython) -> None:
    program = CALLS.format(folder=str(made), url=site.url.removesuffix("/v1"), secret=site.secret)
    with site.worker(STORY):
        done, state, said, refused = python.run(program)
    assert done == ["Generated", "Once upon a time.", 3]
    assert (state, said) == ("succeeded", "Once upon a time.")
    assert refused[1:] == ["invalid_request", "webhook_url"]
