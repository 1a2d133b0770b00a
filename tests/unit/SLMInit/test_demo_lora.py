"""The shipped demonstration adapter: small, complete, and trained on the shipped data."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest

from models.adapter.check import check_adapter
from models.base_model import DEFAULT_BASE_MODEL
from models.text.prompt_template import INSTRUCTION_TEMPLATE
from SLMInit.options import DEFAULT_DATA, FOLDER

DEMO = FOLDER / "demo_lora"
LAYERS, HIDDEN, KEY_VALUE = 30, 576, 192  # of SmolLM2-135M


@pytest.fixture
def summary() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEMO / "summary.json").read_text())
    return found


def test_it_fits_the_default_model() -> None:
    shapes = {}
    for layer in range(LAYERS):
        shapes[f"model.layers.{layer}.self_attn.q_proj.weight"] = (HIDDEN, HIDDEN)
        shapes[f"model.layers.{layer}.self_attn.v_proj.weight"] = (KEY_VALUE, HIDDEN)
    info = check_adapter(DEMO, DEFAULT_BASE_MODEL, shapes)
    assert (info.base_model, info.rank) == (DEFAULT_BASE_MODEL, 8)


def test_it_contains_the_prompt_it_was_trained_with() -> None:
    assert (DEMO / "chat_template.jinja").read_text() == INSTRUCTION_TEMPLATE


def test_it_is_small_and_contains_only_files_for_serving() -> None:
    assert (DEMO / "adapter_model.safetensors").stat().st_size <= 2_000_000
    assert {path.name for path in DEMO.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "loss.png",
        "summary.json",
        "tokenizer_config.json",
    }


def test_it_was_trained_on_the_shipped_data(summary: dict[str, Any]) -> None:
    assert summary["data_sha256"] == hashlib.sha256(DEFAULT_DATA.read_bytes()).hexdigest()


def test_it_learned_something(summary: dict[str, Any]) -> None:
    assert summary["eval_loss_after"] < 0.8 * summary["eval_loss_before"]


@pytest.mark.parametrize("name", ["adapter_config.json", "summary.json", "tokenizer_config.json", "README.md"])
def test_it_names_no_folder_of_the_machine_it_was_made_on(name: str) -> None:
    text = (DEMO / name).read_text()
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)
