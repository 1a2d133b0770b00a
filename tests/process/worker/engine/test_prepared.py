"""A prepared model starts without torch, transformers and the weights, and gives the same answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from common.settings import ROOT
from models.text.plain_tokenizer import PlainTokenizer
from tests.compiled_kernels import SHARED, share_kernels
from tests.prepared_answers import answers, config
from tests.unit.worker.engine.tiny_models import CONFIGS, from_config, make_tokenizer
from worker.engine import native
from worker.engine.loading.loader import load_model, load_prepared
from worker.engine.loading.prepared import find_prepared, plain_state
from worker.engine.native.build import build_library

CHAT = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"
BASE_ID = "base-id"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    shape = CONFIGS["llama"]()
    shape.head_dim = 16  # which the native kernels need
    shape.vocab_size += 1
    torch.manual_seed(0)
    from_config(shape).save_pretrained(folder)
    make_tokenizer(CHAT).save_pretrained(folder)
    return folder


@pytest.fixture
def build_dir(tmp_path: Path) -> Path:
    """A folder with the compiled kernels and no prepared model."""
    share_kernels(tmp_path / "data")
    folder = tmp_path / "native"
    folder.mkdir()
    shutil.copy(build_library(SHARED), folder)
    return folder


def prepare(base: Path, build_dir: Path) -> dict[str, list[object]]:
    """Load the model from its weights, answer, and keep it."""
    with closing(load_model(str(base), config(build_dir), base_name="tiny")) as model:
        found = answers(model)
        model.keep_prepared(BASE_ID)
    return found


def prepared_files(build_dir: Path) -> list[Path]:
    return sorted(build_dir.glob("model-*.bin"))


def test_a_prepared_model_gives_the_same_answers_without_torch_transformers_and_the_weights(
    base: Path, build_dir: Path, tmp_path: Path
) -> None:
    expected = prepare(base, build_dir)
    without_weights = Path(shutil.copytree(base, tmp_path / "copy"))
    (without_weights / "model.safetensors").unlink()
    command = [sys.executable, "-m", "tests.prepared_answers", str(without_weights), str(build_dir), BASE_ID]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert finished.returncode == 0, finished.stderr
    found, modules = json.loads(finished.stdout)
    assert found == expected
    assert not {"torch", "transformers", "peft", "safetensors.torch"} & set(modules)


def test_it_is_for_one_content_number_format_and_context_on_a_cpu(base: Path, build_dir: Path) -> None:
    prepare(base, build_dir)
    same = config(build_dir)
    longer = replace(same, runner=replace(same.runner, context_length=128))
    others = [replace(same, dtype="float32"), replace(same, dtype="bfloat16"), replace(same, device="cuda"), longer]
    assert [find_prepared(other, BASE_ID) for other in others] == [None] * len(others)
    assert find_prepared(same, "other files") is None
    found = find_prepared(same, BASE_ID)
    assert found is not None
    found.close()


def test_it_serves_with_any_cache(base: Path, build_dir: Path) -> None:
    prepare(base, build_dir)
    runners = []
    for dtype in ("auto", "int8"):
        found = find_prepared(config(build_dir), BASE_ID)
        assert found is not None
        runner, name = found.make_runner(replace(config(build_dir).runner, kv_cache_dtype=dtype))
        runners.append((name, runner.block_bytes))
        runner.close()
    (exact, exact_bytes), (short, short_bytes) = runners
    assert (exact, short) == ("int8", "int8 with a cache in int8")
    assert short_bytes < exact_bytes


def test_an_update_of_the_server_makes_it_again(
    base: Path, build_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def install(name: str) -> Path:
        folder = Path(shutil.copytree(Path(native.__file__).parent, tmp_path / name))
        monkeypatch.setattr("worker.engine.loading.prepared._SOURCES", (folder,))
        return folder

    install("old")
    prepare(base, build_dir)
    install("same")
    found = find_prepared(config(build_dir), BASE_ID)
    assert found is not None
    found.close()
    with (install("new") / "weights.py").open("a") as source:
        source.write("# packs in another way\n")
    assert find_prepared(config(build_dir), BASE_ID) is None


def test_a_damaged_file_is_made_again(base: Path, build_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = prepare(base, build_dir)
    [file] = prepared_files(build_dir)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert load_prepared(str(base), config(build_dir), base_name="tiny", base_id=BASE_ID) is None
    assert "is damaged" in caplog.text
    assert prepare(base, build_dir) == expected
    found = find_prepared(config(build_dir), BASE_ID)
    assert found is not None
    found.close()


def test_a_folder_that_cannot_be_written_to_is_only_logged(
    base: Path, build_dir: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("read-only file system")

    monkeypatch.setattr("worker.engine.loading.prepared.write_model", refuse)
    prepare(base, build_dir)
    assert "not prepared for a faster start: read-only" in caplog.text
    assert prepared_files(build_dir) == []


def test_a_plain_tokenizer_does_what_transformers_one_does(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    state = plain_state(tokenizer)
    assert state is not None
    plain = PlainTokenizer(state, tokenizer.chat_template)
    assert len(plain) == len(tokenizer)
    assert plain.get_vocab() == tokenizer.get_vocab()
    for name in (
        *("added_tokens_decoder", "added_tokens_encoder", "all_special_ids", "all_special_tokens", "bos_token"),
        *("eos_token", "eos_token_id", "chat_template"),
    ):
        assert getattr(plain, name) == getattr(tokenizer, name), name
    text = "a ,b <|im_end|> ü"
    for special in (True, False):
        assert plain.encode(text, add_special_tokens=special) == tokenizer.encode(text, add_special_tokens=special)
    ids = [*tokenizer.encode(text), 999_999]
    for skip in (True, False):
        options = {"skip_special_tokens": skip, "clean_up_tokenization_spaces": False}
        assert plain.decode(ids[:-1], **options) == tokenizer.decode(ids[:-1], **options)
    assert plain.convert_ids_to_tokens(ids) == tokenizer.convert_ids_to_tokens(ids)
    assert plain.convert_ids_to_tokens(ids[1]) == tokenizer.convert_ids_to_tokens(ids[1])
    names = ["a", "</s>", "no such token"]
    assert plain.convert_tokens_to_ids(names) == tokenizer.convert_tokens_to_ids(names)


def test_a_tokenizer_with_methods_of_its_own_is_not_replaced() -> None:
    class Own(type(make_tokenizer())):  # type: ignore[misc]
        def decode(self, *_: object, **__: object) -> str:
            return "something else"

    tokenizer = make_tokenizer()
    tokenizer.__class__ = Own
    assert plain_state(tokenizer) is None
