"""The training scripts as a user starts them, with a tiny random model; and the default model."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer

from common.settings import Settings
from models.adapter.check import check_adapter
from models.base_model import DEFAULT_BASE_MODEL, resolve_base_model
from tests.sliminit_models import EOS, llama, save

SCRIPTS = Path(__file__).resolve().parents[2] / "SLMInit"
PAIRS = [
    {"instruction": f"Say {word}", "response": f"{word}!"} for word in ("one", "two", "three", "four", "five", "six")
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(f"{json.dumps(pair)}\n" for pair in PAIRS))
    return file


def run(script: str, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """Start a script in its own folder, as the documentation says."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, script, *map(str, options)],
        cwd=SCRIPTS,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def train(base: Path, data: Path, output: Path, *options: str) -> str:
    done = run(
        "cudaInit_cpu.py",
        *("--base-model", base, "--data", data, "--output", output),
        *("--rank", "2", "--batch-size", "1", "--learning-rate", "0.01", "--threads", "1", "--save-steps", "2"),
        *options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_leaves_an_adapter_that_can_be_served_and_trained_further(tmp_path: Path, data: Path) -> None:
    base, output = save(llama(), tmp_path / "tiny"), tmp_path / "out"
    said = train(base, data, output, "--max-steps", "3", "--force")
    assert "LoRA of rank 2 on all linear layers" in said
    assert "general_questions" in said, "the table of the gate"
    assert f"slm adapters add {output} --name NAME" in said

    for file in ("adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "card.json", "README.md"):
        assert (output / file).is_file()
    assert (output / "loss.png").read_bytes().startswith(b"\x89PNG")
    card = json.loads((output / "card.json").read_text())
    assert (card["steps"], card["base"], card["recipe"]["rank"]) == (3, str(base), 2)
    assert (card["data"]["examples_trained"], card["data"]["examples_held_out"]) == (5, 1)
    assert card["data"]["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    held_out = {point["step"]: point["held_out_loss"] for point in card["curve"]}
    assert card["held_out_loss"] == {"before": held_out[0], "after": held_out[card["best_step"]]}
    assert held_out[3] != held_out[0], "the run has changed the model"
    samples = [(sample["step"], sample["trained"]) for sample in card["samples"]]
    assert samples == [(card["best_step"], True), (card["best_step"], False)]
    assert [row["name"] for row in card["gate"]["rows"]] == ["trained", "held_out", "general_text", "general_questions"]

    shapes = {name: tuple(weight.shape) for name, weight in llama().state_dict().items()}
    assert check_adapter(output, str(base), shapes).rank == 2
    template = (output / "chat_template.jinja").read_text()
    turns = [{"role": "user", "content": "Say one"}, {"role": "assistant", "content": "one!"}]
    text = AutoTokenizer.from_pretrained(base).apply_chat_template(turns, tokenize=False, chat_template=template)
    assert text == f"### Instruction:\nSay one\n\n### Response:\none!{EOS}"

    train(base, data, output, "--max-steps", "5", "--resume", "--skip-gate")
    resumed = json.loads((output / "card.json").read_text())
    assert (resumed["steps"], resumed["gate"]) == (5, None)
    assert resumed["held_out_loss"]["before"] == card["held_out_loss"]["before"]
    assert resumed["curve"][:4] == card["curve"][:4]

    options = ("--base-model", base, "--data", data, "--output", output, "--batch-size", "1", "--resume")
    done = run("cudaInit_cpu.py", *options, "--rank", "4")
    assert done.returncode == 1
    assert "rank = 2; now it is 4" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_adapter_that_the_gate_refuses_is_not_served(tmp_path: Path, data: Path) -> None:
    base, output = save(llama(), tmp_path / "tiny"), tmp_path / "out"
    options = ("--base-model", base, "--data", data, "--output", output, "--learning-rate", "1e-12", "--max-steps", "4")
    done = run("cudaInit_cpu.py", *options, "--threads", "1", "--publish", "words")
    assert done.returncode == 1, done.stdout
    assert "no: must be" in done.stdout
    assert "The gate refuses this adapter" in done.stderr
    assert "--resume --force" in done.stderr
    assert not (output / "adapter_model.safetensors").exists()
    assert (output / "run" / "adapter" / "adapter_model.safetensors").is_file()


def test_a_bad_line_of_the_users_data_stops_the_script_with_its_place(tmp_path: Path) -> None:
    data = tmp_path / "mine.jsonl"
    data.write_text('{"instruction": "A?", "response": "B."}\n{"instruction": "A?"}\n')
    done = run("cudaInit_cpu.py", "--base-model", save(llama(), tmp_path / "tiny"), "--data", data)
    assert done.returncode == 1
    assert "line 2, column" in done.stderr
    assert "response" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_cuda_the_cuda_script_points_to_the_cpu_script() -> None:
    done = run("cudaInit.py")
    assert done.returncode == 1
    assert done.stderr == "cudaInit.py: PyTorch finds no CUDA GPU. Train on the CPU: python cudaInit_cpu.py\n"


@pytest.fixture(scope="module")
def default_model() -> str:
    """The converted default model; made on the first use, which takes a minute."""
    return resolve_base_model(DEFAULT_BASE_MODEL, Settings.from_env().data_dir, progress=print)


def test_the_default_model_is_what_its_gguf_says(default_model: str) -> None:
    config = AutoConfig.from_pretrained(default_model)
    assert config.rms_norm_eps == 1e-5
    assert config.rope_parameters["rope_theta"] == 100_000
    assert config.tie_word_embeddings
    assert config.max_position_embeddings == 8192
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, 2)
    assert "quantization_config" not in config.to_dict()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("in 2024", ["in", "Ġ", "2", "0", "2", "4"]),
        ("a  7", ["a", "ĠĠ", "7"]),
        ("x**2   # hi", ["x", "**", "2", "ĠĠ", "Ġ#", "Ġhi"]),
        ("<|im_start|>user\nhi<|im_end|>", ["<|im_start|>", "user", "Ċ", "hi", "<|im_end|>"]),
    ],
)
def test_the_default_tokenizer_splits_digits_and_keeps_special_tokens(
    default_model: str, text: str, tokens: list[str]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(default_model)
    assert tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"]) == tokens


@pytest.mark.parametrize(
    "text",
    ["naïve café \N{EM DASH} 日本語 🚀\u200d", "def f(x):\n\treturn  x ** 2\r\n", "   \n\n \t ", "½ ² Ⅷ ٣٤", "e\u0301"],
)
def test_the_default_tokenizer_gives_every_text_back(default_model: str, text: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(default_model)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_default_chat_template_asks_in_the_models_own_format(default_model: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(default_model)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
