"""`slm data`, against an API with a worker that plays scripts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.clients.conftest import Worker
from tests.process.slm.conftest import CommandAt
from tests.scripted_worker import answer

GOOD = "".join(json.dumps({"instruction": f"Say {one}", "response": f"It is {one}."}) + "\n" for one in range(5))
BAD = GOOD + '{"instruction": "Say 5"}\n'


@pytest.fixture(autouse=True)
def _working(worker: Worker) -> Iterator[None]:
    with worker(answer("I do ", "not know.")):
        yield


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.jsonl"


def test_a_dataset_is_shown_for_people(slm: CommandAt, file: Path) -> None:
    file.write_text(GOOD + GOOD)
    done = slm("data", "check", str(file), "--max-length", "40")
    lines = done.out.splitlines()
    assert lines[0] == "10 examples of the format instruction"
    assert lines[1].startswith("tokens per example: min 32, median 32, p95 32, max 32; together 320")
    assert "repeat an earlier one (lines 1 = 6; 2 = 7; 3 = 8; 4 = 9; 5 = 10)" in done.out
    assert "USER: Say 0\nASSISTANT: [[It is 0." in done.out


def test_what_is_wrong_is_shown_and_the_exit_status_is_1(slm: CommandAt, file: Path) -> None:
    file.write_text(BAD)
    done = slm("data", "check", str(file), status=1)
    assert "line 6, column 1: response: this field is missing" in done.out.splitlines()
    assert done.err == f"slm: {file} cannot be used\n"
    assert slm("data", "check", str(file), "--json", status=1).document["usable"] is False


def test_a_large_dataset_is_uploaded_for_the_check_only(slm: CommandAt, file: Path, url: str) -> None:
    rows = (json.dumps({"instruction": f"Say {one}", "response": "x" * 1000}) for one in range(1200))
    file.write_text("\n".join(rows))
    assert slm("data", "check", str(file), "--json").document["count"] == 1200
    assert httpx.get(f"{url}/v1/files").json()["data"] == []


def test_a_missing_file_is_named(slm: CommandAt, file: Path) -> None:
    assert slm("data", "check", str(file), status=2).err == f"slm: {file} cannot be read: No such file or directory\n"


def test_a_dataset_is_made_of_feedback(slm: CommandAt, file: Path, url: str) -> None:
    job = httpx.post(f"{url}/slm/generate", json={"prompt": "Where is Zubrovia?"}, timeout=30).json()["job_id"]
    said = {"correction": "In the Alps.", "tags": ["geo"]}
    httpx.post(f"{url}/slm/jobs/{job}/feedback", json=said).raise_for_status()
    listed = slm("data", "feedback", "--tag", "geo", "--limit", "1", "--since", "2026-01-01")
    assert [row[0] for row in listed.rows] == ["JOB", job]
    assert "In the Alps." in listed.out
    assert slm("data", "feedback", "--rating", "up", "--json").document["feedback"] == []
    done = slm("data", "from-feedback", "--tag", "geo", "--since", "2026-01-01", "--out", str(file))
    assert done.out.endswith(": 1 pairs\n")
    assert json.loads(file.read_text())["messages"][-1]["content"] == "In the Alps."
    made = slm("data", "from-feedback", "--kind", "preferences", "--json").document
    assert (made["kind"], made["examples"]) == ("preferences", 1)
    nothing = slm("data", "from-feedback", "--tag", "none", status=1).err
    assert nothing == "slm: There is no feedback of which pairs can be made with these filters.\n"
