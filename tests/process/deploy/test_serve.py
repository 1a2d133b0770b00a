from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.settings import ROOT, Settings
from deploy.processes import serve


@pytest.fixture
def signal_handlers() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signal_handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_requests_a_stop(number: signal.Signals) -> None:
    asked: list[bool] = []
    serve.stop_on_signals(lambda: asked.append(True))
    signal.raise_signal(number)
    assert asked == [True]


@pytest.mark.usefixtures("signal_handlers")
def test_a_server_under_nohup_outlives_its_terminal() -> None:
    asked: list[bool] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    serve.stop_on_signals(lambda: asked.append(True))
    signal.raise_signal(signal.SIGHUP)
    assert asked == []


@pytest.mark.parametrize(
    ("host", "insecure", "warns"),
    [("127.0.0.1", True, False), ("0.0.0.0", True, True), ("192.0.2.7", True, True), ("0.0.0.0", False, False)],
)
def test_serving_other_machines_without_keys_gives_a_warning(
    host: str, insecure: bool, warns: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    serve._warn_if_open(Settings(host=host, insecure=insecure))
    assert ("WARNING" in capsys.readouterr().out) is warns


def test_a_console_that_has_gone_away_does_not_end_the_server() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code = "from deploy.processes.serve import say; say('one'); say('two')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=writing, check=False)
    os.close(writing)
    assert done.returncode == 0


def test_relative_paths_start_at_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    given = Settings(data_dir=Path("data"), lora_path=Path("adapter"), base_model="model")
    settings = serve._with_absolute_paths(given)
    assert settings.data_dir == tmp_path / "data"
    assert settings.lora_path == tmp_path / "adapter"
    assert settings.base_model == str(tmp_path / "model")


def test_a_relative_path_of_a_gguf_file_starts_there_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.gguf").touch()
    settings = serve._with_absolute_paths(Settings(base_model="model.gguf"))
    assert settings.base_model == str(tmp_path / "model.gguf")


def test_a_model_by_its_hub_id_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert serve._with_absolute_paths(Settings(base_model="gpt2")).base_model == "gpt2"
