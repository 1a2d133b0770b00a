"""What is read from a base model's files is what the loaded model has, for every architecture that the tests know."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from tests.unit.worker.engine.tiny_models import CONFIGS
from worker.engine.loading.base_files import base_shapes, base_weight


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("is_tied", [False, True])
def test_the_shapes_are_those_of_the_loaded_model(tmp_path: Path, name: str, is_tied: bool) -> None:
    config = CONFIGS[name]()
    config.tie_word_embeddings = is_tied
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert base_shapes(str(tmp_path)) == {key: tuple(value.shape) for key, value in loaded.state_dict().items()}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("is_tied", [False, True])
def test_the_weights_are_those_of_the_loaded_model(tmp_path: Path, name: str, is_tied: bool) -> None:
    config = CONFIGS[name]()
    config.tie_word_embeddings = is_tied
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    names = {module: name for name, module in loaded.named_modules()}
    for module in (loaded.get_input_embeddings(), loaded.get_output_embeddings()):
        assert torch.equal(base_weight(str(tmp_path), names[module]), module.weight)


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError)):
        base_shapes(str(tmp_path))
    with pytest.raises((OSError, ValueError)):
        base_weight(str(tmp_path), "lm_head")
