"""From which checkpoint a run may continue."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import TrainingError
from SLMInit.checkpoints import Checkpoints

RUN = {"base model": "tiny", "rank": 8}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "out" / "checkpoints")


def add_checkpoint(checkpoints: Checkpoints, step: int, *, complete: bool = True) -> Path:
    folder = checkpoints.folder / f"checkpoint-{step}"
    folder.mkdir()
    if complete:
        (folder / "trainer_state.json").write_text("{}")
    return folder


def test_a_run_continues_from_its_last_checkpoint(checkpoints: Checkpoints) -> None:
    checkpoints.begin(RUN)
    add_checkpoint(checkpoints, 20)
    last = add_checkpoint(checkpoints, 100)
    assert checkpoints.resume(RUN) == last


def test_an_incomplete_checkpoint_is_skipped(checkpoints: Checkpoints) -> None:
    checkpoints.begin(RUN)
    whole = add_checkpoint(checkpoints, 20)
    add_checkpoint(checkpoints, 40, complete=False)
    assert checkpoints.resume(RUN) == whole


def test_without_a_checkpoint_there_is_nothing_to_resume(checkpoints: Checkpoints) -> None:
    with pytest.raises(TrainingError, match="has no checkpoint"):
        checkpoints.resume(RUN)
    checkpoints.begin(RUN)
    with pytest.raises(TrainingError, match="has no checkpoint"):
        checkpoints.resume(RUN)


def test_a_checkpoint_of_another_run_is_refused_with_the_option_that_differs(checkpoints: Checkpoints) -> None:
    checkpoints.begin(RUN)
    add_checkpoint(checkpoints, 20)
    with pytest.raises(TrainingError, match="made with rank = 8; now it is 4"):
        checkpoints.resume(RUN | {"rank": 4})


def test_a_new_run_deletes_the_checkpoints_of_the_old_one(checkpoints: Checkpoints) -> None:
    checkpoints.begin(RUN)
    add_checkpoint(checkpoints, 20)
    checkpoints.begin(RUN | {"rank": 4})
    with pytest.raises(TrainingError, match="has no checkpoint"):
        checkpoints.resume(RUN | {"rank": 4})
