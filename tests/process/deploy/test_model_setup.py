from __future__ import annotations

from pathlib import Path

import pytest

from common.settings import Settings
from deploy.data_folder import claim_data_dir
from deploy.processes import model_setup
from deploy.processes.model_setup import ModelProgress, make_model
from deploy.processes.stack import Stack
from deploy.setup.preflight import PreflightError


def test_the_line_shows_the_step_and_its_progress() -> None:
    progress = ModelProgress()
    for line, shown in [
        ("Downloading the model (93 MB, once)\n", "Downloading the model (93 MB, once)"),
        ("  10 %\n", "Downloading the model (93 MB, once) 10 %"),
        ("  20 %\n", "Downloading the model (93 MB, once) 20 %"),
        ("\n", "Downloading the model (93 MB, once) 20 %"),
        ("Checking the download\n", "Checking the download"),
    ]:
        progress.note(line)
        assert str(progress) == shown


def test_an_unavailable_model_gives_one_line_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(model_setup, "MODEL", ("models.base_model",))
    claim = claim_data_dir(tmp_path)
    stack = Stack(Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:9/0"), 1, None, claim.inherited, "abc123")
    with pytest.raises(PreflightError, match=r"the folder does not exist.*model\.log") as caught:
        make_model(stack, "./no/such/folder")
    claim.release()
    assert "\n" not in str(caught.value)
    assert "the folder does not exist" in (tmp_path / "logs" / "model.log").read_text()
    assert capsys.readouterr().out.splitlines()[-1].endswith("failed")
