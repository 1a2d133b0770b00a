"""What the doctor says of folders that a user may not read or write."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from common.settings import Settings
from deploy.doctor.files import check_files, nearest
from deploy.doctor.finding import Level

Forbid = Callable[[Path, int], None]


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Forbid:
    """Take a right on a path from this user, who may be root."""
    access, forbidden = os.access, dict[Path, int]()

    def answer(path: Path, mode: int) -> bool:
        return not mode & forbidden.get(Path(path), 0) and access(path, mode)

    monkeypatch.setattr(os, "access", answer)
    return forbidden.__setitem__


def complaints(level: Level, **settings: object) -> list[str]:
    found = list(check_files(Settings(**settings)))  # type: ignore[arg-type]
    assert all(bool(one.advice) == (one.level is not Level.OK) for one in found)
    return [one.found for one in found if one.level is level]


problems = partial(complaints, Level.PROBLEM)


def test_a_folder_that_can_be_created_is_good(tmp_path: Path) -> None:
    assert problems(data_dir=tmp_path / "not" / "yet") == []
    assert nearest(tmp_path / "not" / "yet") == tmp_path


def test_a_folder_that_cannot_be_created_is_a_problem(tmp_path: Path, forbid: Forbid) -> None:
    forbid(tmp_path, os.W_OK)
    [found] = problems(data_dir=tmp_path / "not" / "yet")
    assert found.endswith(f"this user cannot write {tmp_path}")


@pytest.mark.parametrize("name", ["file/data", "a" * 300], ids=["below_a_file", "too_long"])
def test_a_folder_that_cannot_be_is_a_problem(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    [found] = problems(data_dir=tmp_path / name)
    assert "cannot be used" in found


def test_a_folder_that_the_user_may_not_enter_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", refuse)
        [found] = problems(data_dir=tmp_path / "x")
    assert found == f"{tmp_path / 'x'} cannot be used (Permission denied)"


def test_what_another_user_has_left_in_the_folder_is_a_problem(tmp_path: Path, forbid: Forbid) -> None:
    for name in ("redis", "logs", "models", "lost+found", "adapters"):
        (tmp_path / name).mkdir()
        forbid(tmp_path / name, os.W_OK)
    forbid(tmp_path / "adapters", 0)
    assert problems(data_dir=tmp_path) == [f"this user cannot write logs, redis in {tmp_path}"]


def test_a_model_that_cannot_be_read_is_a_problem(tmp_path: Path, forbid: Forbid) -> None:
    model = tmp_path / "models" / "smol"
    model.mkdir(parents=True)
    assert problems(data_dir=tmp_path, base_model="smol") == []
    forbid(model, os.R_OK)
    assert problems(data_dir=tmp_path, base_model="smol") == [f"this user cannot read {model}"]


@pytest.mark.parametrize("setting", ["embed_model", "lora_path", "adapters_dir"])
def test_a_folder_that_is_named_must_be_there(tmp_path: Path, setting: str) -> None:
    there = tmp_path / "there"
    there.mkdir()
    assert complaints(Level.WARNING, data_dir=tmp_path, **{setting: str(there)}) == []
    [found] = complaints(Level.WARNING, data_dir=tmp_path, **{setting: str(tmp_path / "nowhere")})
    assert f"SLM_{setting.upper()}" in found
