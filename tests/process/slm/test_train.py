"""`slm train` and `slm eval` against an API process with a scripted trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from common.errors import InvalidRequest
from tests.clients.conftest import Worker
from tests.process.slm.conftest import CommandAt
from tests.scripted_worker import Play, answer, trained

HELLO = answer("Hello.")


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    path = tmp_path / "pairs.jsonl"
    rows = [{"instruction": "Who?", "response": "Ottoline."}, {"instruction": "Where?", "response": "Brindle Cove."}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_watched_run_shows_its_steps_and_what_became_of_it(slm: CommandAt, worker: Worker, pairs: str) -> None:
    def run(play: Play) -> None:
        play.sample(step=0, prompt="Who?", expected="Ottoline.", response="Nobody.")
        trained()(play)

    with worker(HELLO) as running:
        running.training = run
        lines = slm("train", pairs, "--name", "support", "--watch").out.splitlines()
    assert "Step 1 of 2" in lines
    assert 'Sample: "Who?" -> "Nobody." (expected: "Ottoline.")' in lines
    assert "Checkpoint at step 2" in lines
    assert lines[-1] == "support@1 is now the newest version."
    assert any(line.split()[:2] == ["held_out", "3"] and "yes" in line for line in lines)


def test_an_unwatched_run_returns_its_id(slm: CommandAt, worker: Worker, pairs: str) -> None:
    with worker(HELLO):
        job = slm("train", pairs, "--name", "support", "--epochs", "3", "--json").document
        assert job["status"] == "queued"
        watched = slm("jobs", "watch", job["job_id"], "--json").events
        shown = slm("jobs", "show", job["job_id"]).out
    assert watched[-1]["result"]["name"] == "support"
    assert "Step 2 of 2" in shown
    assert "held_out" in shown
    assert shown.endswith("support@1 is now the newest version.\n")


def test_a_refused_adapter_says_how_to_publish_it(slm: CommandAt, worker: Worker, pairs: str) -> None:
    with worker(HELLO) as running:
        running.training = trained(published=False, version=None, message="support was not published: it forgot")
        out = slm("train", pairs, "--name", "support", "--watch").out
        job_id = out.split()[-1]
        assert f"slm jobs publish {job_id}" in out
        assert slm("jobs", "publish", job_id).out == "support@1 is published.\n"


def test_a_bad_dataset_or_file_is_an_error(slm: CommandAt, worker: Worker, pairs: str) -> None:
    assert "there is no file" in slm("train", "missing.jsonl", "--name", "a", status=2).err
    with worker(HELLO) as running:
        running.training = lambda play: play.fail(InvalidRequest("line 1: no", param="file_id"))
        assert "line 1: no" in slm("train", pairs, "--name", "support", "--watch", status=1).err


def test_a_run_is_paused_and_resumed(slm: CommandAt, worker: Worker, pairs: str) -> None:
    def wait(_play: Play) -> None:
        """Never end."""

    with worker(HELLO) as running:
        running.training = wait
        slm("train", pairs, "--name", "first")
        job_id = slm("train", pairs, "--name", "second", "--json").document["job_id"]
        assert slm("jobs", "pause", job_id).out == "It is paused.\n"
        assert slm("jobs", "resume", job_id).out == "It is queued.\n"


def test_models_are_measured_side_by_side(slm: CommandAt, worker: Worker, pairs: str) -> None:
    with worker(HELLO):
        rows = slm("eval", pairs, "-m", "gpt2", "-m", "default").rows
    assert [row[0] for row in rows[-2:]] == ["gpt2", "default"]
    assert rows[-1][2:4] == ["2.000", "7.390"]
    job = next(row[0] for row in slm("jobs", "list").rows if "evaluate" in row)
    assert slm("jobs", "show", job).rows[-2:] == rows[-2:]
