"""The documents' blocks of code, run as printed against a real API and a worker with the fake model.

Every block of bash or Python is run, page by page and in its order, unless a comment before it says why not:

    <!-- not run: it starts a server -->

`<!-- not run on this page: why -->` stands for all blocks of its page. The blocks of a page share their folder and
their Python names. They see `curl` with `--fail`, `slm`, and `python` of the environment, and a Redis for API keys that
the server does not read.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from common.settings import ROOT
from tests.adapter_files import packed, write_adapter
from tests.free_port import free_port
from tests.processes import is_up, running_cluster, wait_for
from tests.redis_server import RedisServer

HISTORY = {"CHANGELOG.md", "log.md", "slm_api_documentation.md"}  # what was, and the user's own document
PAGES = [page for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]) if page.name not in HISTORY]
BLOCK = re.compile(r"^(?:<!-- not run: (.+?) -->\n)?```(bash|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
WHOLE_PAGE = re.compile(r"^<!-- not run on this page: .+? -->$", re.MULTILINE)
TIMEOUT_S = 120
PAIRS = [{"instruction": f"What is number {n}?", "response": f"It is {n}."} for n in range(8)]


@dataclass(frozen=True)
class Block:
    """A block of code; `why_not` is set if it cannot be run."""

    language: str
    text: str
    why_not: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of bash and Python of a page."""
    return [
        Block(language, text, why_not or None) for why_not, language, text in BLOCK.findall(page.read_text("utf-8"))
    ]


def to_run(page: Path) -> list[Block]:
    if WHOLE_PAGE.search(page.read_text("utf-8")):
        return []
    return [block for block in blocks(page) if block.why_not is None]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    env: dict[str, str]
    ended_job: str = ""  # with feedback

    def post(self, path: str, **options: Any) -> dict[str, Any]:
        answer = requests.post(f"{self.url}{path}", timeout=TIMEOUT_S, **options)
        assert answer.ok, answer.text
        return dict(answer.json())

    def add_adapters(self, folder: Path) -> None:
        """Let `support` have its versions 1 to 3."""
        if "support" in str(requests.get(f"{self.url}/slm/adapters", timeout=TIMEOUT_S).json()):
            return
        for value in (1.0, 2.0, 3.0):
            archive = packed(write_adapter(folder / f"support{value}", value))
            self.post("/slm/adapters?name=support", data=archive, headers={"Content-Type": "application/gzip"})

    def as_here(self, text: str) -> str:
        """The text with this server's address, and ids of things that exist in the place of placeholders."""
        text = re.sub(r"\$?\bJOB\b", self.ended_job, text).replace("slm_…", "slm_none")
        if "file-..." in text:
            lines = "\n".join(map(json.dumps, PAIRS))
            made = self.post("/v1/files", files={"file": ("a.jsonl", lines)}, data={"purpose": "fine-tune"})
            text = text.replace("file-...", made["id"])
        return re.sub(r"http://(?:127\.0\.0\.1|localhost):5000", self.url, text)


def programs(folder: Path) -> Path:
    """A folder with the programs that the blocks use."""
    folder.mkdir()
    python = f"exec env PYTHONPATH={ROOT} {sys.executable}"
    for program, command in {
        "slm": f"{python} -m slm",
        "python": python,
        "curl": "exec /usr/bin/curl --fail-with-body",
    }.items():
        (folder / program).write_text(f'#!/bin/sh\n{command} "$@"\n')
        (folder / program).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def server(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("served")
    port = free_port()
    with running_cluster(redis_server.url, folder, FAKE_ADAPTERS="1") as cluster:
        cluster.start_worker("a")
        cluster.start_api(port)
        cluster.wait_until_taking_jobs("a")
        server = Server(
            f"http://127.0.0.1:{port}",
            {
                "PATH": f"{programs(folder / 'programs')}:/usr/bin:/bin",
                "HOME": str(folder),
                "SLMCLIENT_URL": f"http://127.0.0.1:{port}",
                "SLM_REDIS_URL": redis_server.url.removesuffix("/0") + "/1",
                "SLM_DATA_DIR": str(folder / "data"),
            },
        )
        wait_for("the API", lambda: is_up(server.url))
        server.add_adapters(folder / "versions")
        job = server.post("/slm/generate", json={"prompt": "Hi", "model": "support"})["job_id"]
        server.post(f"/slm/jobs/{job}/feedback", json={"correction": "Hello!", "tags": ["geography"]})
        yield replace(server, ended_job=job)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder in which the blocks run, with the files that they name."""
    for file in ("pairs.jsonl", "my_pairs.jsonl", "my.jsonl", "more.jsonl"):
        (tmp_path / file).write_text("\n".join(map(json.dumps, PAIRS)))
    for file in ("my.csv", "test.csv"):
        (tmp_path / file).write_text(
            "\n".join(["instruction,response", *(f"What is {n}?,It is {n}." for n in range(8))])
        )
    for adapter in ("my_adapter", "SLMInit/cpu_lora_out"):
        write_adapter(tmp_path / adapter, 4.0)
    subprocess.run("git init -q && git add my.jsonl && echo >> my.jsonl", shell=True, cwd=tmp_path, check=True)
    return tmp_path


def run(command: list[str], text: str, folder: Path, env: dict[str, str]) -> None:
    done = subprocess.run(
        command, input=text, cwd=folder, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page)], ids=name)
def test_the_blocks_of_a_page_run_as_printed(server: Server, folder: Path, page: Path) -> None:
    server.add_adapters(folder / "versions")
    for block in to_run(page):
        if block.language == "bash":
            run(["bash", "-e", "-c", server.as_here(block.text)], "", folder, server.env)
    if script := "".join(block.text for block in to_run(page) if block.language == "python"):
        run([sys.executable, "-W", "error", "-"], server.as_here(script), folder, server.env)


def test_every_block_is_found() -> None:
    fences = [
        fence
        for page in PAGES
        for fence in re.findall(r"^ *```(?:bash|python)\b", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert len([block for page in PAGES for block in blocks(page)]) == len(fences)
    assert len([block for page in PAGES for block in to_run(page)]) > 20
