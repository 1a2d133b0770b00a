"""The command line of the training scripts, and the Python that they run in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from SLMInit import environment
from SLMInit.environment import ensure_packages
from SLMInit.options import default_options, parse_options

SCRIPTS = Path(environment.__file__).parent


def test_an_empty_command_line_gives_the_defaults() -> None:
    assert parse_options("cpu", []) == default_options("cpu")
    assert default_options("cpu").output == SCRIPTS / "cpu_lora_out"
    assert default_options("cuda").output == SCRIPTS / "cuda_lora_out"


def test_options_are_read() -> None:
    options = parse_options("cpu", ["--data", "x.jsonl", "--base-model", "gpt2", "--max-steps", "3", "--resume"])
    assert (options.data, options.base_model, options.max_steps, options.resume) == (Path("x.jsonl"), "gpt2", 3, True)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--rank", "0"], "argument --rank: 0 is not from 1 to 256"),
        (["--rank", "300"], "argument --rank: 300 is not from 1 to 256"),
        (["--max-steps", "0"], "argument --max-steps: 0 is not at least 1"),
        (["--epochs", "-1"], "argument --epochs: -1 is not greater than 0"),
        (["--learning-rate", "nan"], "argument --learning-rate: nan is not greater than 0"),
        (["--batch-size", "two"], "argument --batch-size: invalid whole_number value: 'two'"),
        (["--epoch-count", "2"], "unrecognized arguments"),
    ],
)
def test_a_wrong_option_is_named(argv: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_options("cpu", argv)
    assert caught.value.code == 2
    assert reason in capsys.readouterr().err


@pytest.mark.parametrize("script", ["cudaInit.py", "cudaInit_cpu.py"])
def test_every_option_has_a_help_text(script: str) -> None:
    out = subprocess.run(
        [sys.executable, script, "--help"], cwd=SCRIPTS, capture_output=True, text=True, check=True
    ).stdout
    assert out.startswith(f"usage: {script}")
    for name in ("data", "base-model", "output", "epochs", "max-steps", "batch-size", "learning-rate", "rank", "alpha"):
        assert f"--{name}" in out


@pytest.fixture
def lacking_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_spec", lambda name: None if name == "torch" else object())


@pytest.mark.usefixtures("lacking_torch")
def test_missing_packages_give_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        ensure_packages(["cudaInit_cpu.py"], root=tmp_path)
    line = str(caught.value)
    assert "lacks torch" in line
    assert "python start_slm_api.py" in line
    assert f"pip install -r {tmp_path / 'SLMInit' / 'requirements.txt'}" in line
    assert "\n" not in line


@pytest.mark.usefixtures("lacking_torch")
def test_the_script_continues_in_the_projects_own_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    started: list[tuple[Path, list[str]]] = []

    def execv(path: Path, argv: list[str]) -> None:
        started.append((path, argv))
        raise SystemExit

    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(SystemExit):
        ensure_packages(["cudaInit_cpu.py", "--rank", "4"], root=tmp_path)
    assert started == [(python, [str(python), "cudaInit_cpu.py", "--rank", "4"])]


@pytest.mark.usefixtures("lacking_torch")
def test_a_project_python_that_lacks_packages_too_does_not_start_itself_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    with pytest.raises(SystemExit, match="lacks torch"):
        ensure_packages(["cudaInit_cpu.py"], root=tmp_path)


def test_a_complete_python_just_continues(tmp_path: Path) -> None:
    ensure_packages(["cudaInit_cpu.py"], root=tmp_path)
