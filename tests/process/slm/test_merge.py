"""`slm merge`, on a tiny base model."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from common.settings import ROOT
from tests.process.slm.conftest import Command
from tests.unit.worker.engine.tiny_models import save_adapter, save_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("base"), chat_template="{{ messages[0].content }}")


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapter"), base, "base")


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def test_it_writes_a_model_folder(command: Command, base: Path, adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    done = command("merge", str(base), str(adapter), str(out), "--dtype", "bfloat16", "--json")
    merged = load(out)
    assert done.document == {"folder": str(out), "parameters": merged.num_parameters(), "dtype": "bfloat16"}
    assert merged.dtype == torch.bfloat16
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        assert (merged(ids).logits - load(base)(ids).logits).abs().max() > 0.01


def test_people_see_the_steps_and_the_result(base: Path, adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "merged"
    command = [sys.executable, "-m", "slm", "merge", str(base), str(adapter), str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=200)
    assert done.stdout.startswith(f"{out}: 0.0 million parameters in float32")
    assert [line.split()[0] for line in done.stderr.splitlines()] == ["Reading", "Merging", "Writing", "Checking"]


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with an embedding for each token, as GGUF files need it."""
    folder = save_model(tmp_path_factory.mktemp("roomy"))
    model = load(folder)
    model.resize_token_embeddings(320, mean_resizing=False)
    model.save_pretrained(folder)
    return folder


def test_gguf_files_are_written_beside_the_folder(command: Command, roomy: Path, tmp_path: Path) -> None:
    adapter, out = save_adapter(tmp_path / "adapter", roomy, "roomy"), tmp_path / "merged"
    formats = ("--gguf", "F16", "--gguf", "Q8_0")
    done = command("merge", str(roomy), str(adapter), str(out), *formats, "--json")
    files = {kind: str(tmp_path / f"merged-{kind}.gguf") for kind in ("F16", "Q8_0")}
    assert done.document["gguf"] == files
    assert [Path(file).read_bytes()[:4] for file in files.values()] == [b"GGUF", b"GGUF"]
    done = command("merge", str(roomy), str(adapter), str(tmp_path / "merged"), *formats, status=1)
    assert "merged-F16.gguf' exists already" in done.err


def test_a_base_and_a_base_with_an_adapter_are_exported(command: Command, roomy: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", roomy, "roomy")
    plain, adapted = tmp_path / "plain.gguf", tmp_path / "adapted.gguf"
    done = command("export", str(roomy), str(plain), "--json")
    assert done.document == {"file": str(plain), "type": "F16", "bytes": plain.stat().st_size}
    command("export", str(roomy), str(adapted), "--adapter", str(adapter), "--type", "Q8_0")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapted.gguf", "adapter", "plain.gguf"]
    assert adapted.stat().st_size < plain.stat().st_size
    done = command("export", str(roomy), str(plain), status=1)
    assert "exists already" in done.err


def test_a_refusal_is_one_line(command: Command, base: Path, adapter: Path, tmp_path: Path) -> None:
    done = command("merge", str(base), str(adapter), str(base), status=1)
    assert f"{str(base)!r} exists already" in done.err
    done = command("merge", str(tmp_path / "none"), str(adapter), str(tmp_path / "merged"), status=1)
    assert done.err.startswith("slm: Base model ")
    assert done.err.count("\n") == 1
    assert not (tmp_path / "merged").exists()


def test_without_the_libraries_it_says_where_they_are(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    done = command("merge", "a", "b", "c", status=1)
    assert "the command needs torch" in done.err
    assert ".[worker]" in done.err
