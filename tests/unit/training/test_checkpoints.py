from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import TrainingError
from training.checkpoints import Checkpoints, write_whole


def write(checkpoints: Checkpoints, step: int) -> None:
    folder = checkpoints.unfinished / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    found = Checkpoints(tmp_path / "checkpoints")
    found.begin({"rank": 8, "seed": 0})
    return found


def test_a_new_run_has_none(checkpoints: Checkpoints) -> None:
    assert checkpoints.last() is None


def test_the_last_is_the_one_of_the_highest_step(checkpoints: Checkpoints) -> None:
    for step in (5, 10, 9):
        write(checkpoints, step)
        checkpoints.accept(step)
    assert checkpoints.last() == checkpoints.of(10)


def test_what_was_not_finished_does_not_count_and_is_deleted(checkpoints: Checkpoints) -> None:
    write(checkpoints, 5)
    assert checkpoints.last() is None
    checkpoints.begin({"rank": 8, "seed": 0})
    assert not checkpoints.unfinished.exists()


def test_two_and_the_best_are_kept(checkpoints: Checkpoints) -> None:
    for step in (1, 2, 3, 4, 5):
        write(checkpoints, step)
        checkpoints.accept(step)
        checkpoints.keep_only_last_and(2)
    assert {path.name for path in checkpoints.folder.glob("checkpoint-*")} == {f"checkpoint-{n}" for n in (2, 4, 5)}


def test_another_run_is_refused_by_what_differs(checkpoints: Checkpoints) -> None:
    with pytest.raises(TrainingError, match="it was made with rank = 8; now it is 4"):
        checkpoints.begin({"rank": 4, "seed": 0})
    checkpoints.discard()
    checkpoints.begin({"rank": 4, "seed": 0})


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_whole(file, {"é": 1})
    write_whole(file, {"é": 2})
    assert file.read_text(encoding="utf-8") == '{\n  "é": 2\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
