"""The shapes that a config alone tells are those of the loaded model, for every architecture that the tests know."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers

from tests.unit.worker.engine.tiny_models import CONFIGS
from worker.engine.loading.base_shapes import base_shapes


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("is_tied", [False, True])
def test_the_shapes_are_those_of_the_loaded_model(tmp_path: Path, name: str, is_tied: bool) -> None:
    config = CONFIGS[name]()
    config.tie_word_embeddings = is_tied
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert base_shapes(str(tmp_path)) == {key: tuple(value.shape) for key, value in loaded.state_dict().items()}


def test_a_folder_without_a_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises((OSError, ValueError)):
        base_shapes(str(tmp_path))
