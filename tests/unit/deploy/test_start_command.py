"""The command that starts the server, in a checkout and in an installed package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from common.settings import ROOT
from deploy import options, start_command


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only a checkout has the script."""
    monkeypatch.setattr(start_command, "SCRIPT", tmp_path / "start_slm_api.py")


def usage(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        options.parse(["--help"])
    return capsys.readouterr().out.split("[")[0]


def test_a_checkout_starts_by_its_script(capsys: pytest.CaptureFixture[str]) -> None:
    script = str(ROOT / "start_slm_api.py")
    assert start_command.serve_command(["--port", "1"]) == [sys.executable, script, "--port", "1"]
    assert usage(capsys) == "usage: start_slm_api.py "


@pytest.mark.usefixtures("installed")
def test_a_package_starts_in_its_environment_whatever_is_in_the_current_folder(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert start_command.serve_command(["--port", "1"]) == [sys.executable, "-P", "-m", "deploy.start", "--port", "1"]
    assert usage(capsys) == "usage: slm serve "
