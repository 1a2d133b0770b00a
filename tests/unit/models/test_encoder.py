"""Descriptions of models for embeddings, as sentence-transformers writes them in its versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.encoder import Dense, Normalize, Pool, Pooling, read_encoder
from models.errors import EncoderError

MEAN = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def describe(folder: Path, *kinds: str, pooling: Any = MEAN) -> Path:
    """Write a folder with these modules; the transformer's is the folder itself, as usual."""
    paths = ["" if kind == "Transformer" else f"{number}_{kind}" for number, kind in enumerate(kinds)]
    write(
        folder / "modules.json",
        [
            {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for number, (kind, path) in enumerate(zip(kinds, paths, strict=True))
        ],
    )
    write(folder / "1_Pooling" / "config.json", pooling)
    return folder


def test_the_usual_model(tmp_path: Path) -> None:
    folder = describe(tmp_path, "Transformer", "Pooling", "Normalize")
    write(folder / "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": True})
    prompts = {"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": "query"}
    write(folder / "config_sentence_transformers.json", prompts)
    spec = read_encoder(folder)
    assert (spec.transformer, spec.layers) == (folder, (Pooling((Pool.MEAN,)), Normalize()))
    assert (spec.max_tokens, spec.lower_case, spec.prompts, spec.default_prompt) == (
        256,
        True,
        {"query": "q: ", "document": ""},
        "query",
    )


def test_the_least_that_is_needed(tmp_path: Path) -> None:
    spec = read_encoder(describe(tmp_path, "Transformer", "Pooling"))
    assert (spec.max_tokens, spec.lower_case, spec.prompts, spec.default_prompt) == (None, False, {}, None)
    assert Normalize() not in spec.layers


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        pytest.param({"pooling_mode": "lasttoken", "embedding_dimension": 8}, (Pool.LAST,), id="new name"),
        pytest.param({"pooling_mode": ["cls", "mean"]}, (Pool.CLS, Pool.MEAN), id="new names"),
        pytest.param(
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, (Pool.CLS, Pool.MEAN), id="old names"
        ),
    ],
)
def test_forms_of_the_pooling(tmp_path: Path, config: dict[str, Any], modes: tuple[Pool, ...]) -> None:
    assert read_encoder(describe(tmp_path, "Transformer", "Pooling", pooling=config)).layers == (Pooling(modes),)


@pytest.mark.parametrize(
    ("function", "activation"),
    [
        pytest.param("torch.nn.modules.activation.Tanh", "torch.nn.modules.activation.Tanh", id="tanh"),
        pytest.param("torch.nn.modules.linear.Identity", "", id="identity"),
    ],
)
def test_a_dense_layer(tmp_path: Path, function: str, activation: str) -> None:
    folder = describe(tmp_path, "Transformer", "Pooling", "Dense")
    write(folder / "2_Dense" / "config.json", {"in_features": 8, "out_features": 4, "activation_function": function})
    assert read_encoder(folder).layers[1] == Dense(folder / "2_Dense", activation)


@pytest.mark.parametrize(
    ("kinds", "pooling", "reason"),
    [
        pytest.param(("Pooling", "Transformer"), MEAN, "the first two must be", id="order"),
        pytest.param((), MEAN, "lists nothing", id="nothing"),
        pytest.param(("Transformer", "Pooling", "CNN"), MEAN, "'CNN'", id="unknown module"),
        pytest.param(("Transformer", "Pooling"), {}, "no pooling mode", id="no mode"),
        pytest.param(("Transformer", "Pooling"), {"pooling_mode": "median"}, "median", id="unknown mode"),
        pytest.param(("Transformer", "Pooling"), MEAN | {"include_prompt": False}, "include_prompt", id="prompts"),
        pytest.param(("Transformer", "Pooling"), [], "not a JSON object", id="list"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, kinds: tuple[str, ...], pooling: Any, reason: str) -> None:
    with pytest.raises(EncoderError, match=reason):
        read_encoder(describe(tmp_path, *kinds, pooling=pooling))


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"has no modules\.json"):
        read_encoder(tmp_path)
    (tmp_path / "modules.json").write_text("[{}]")
    with pytest.raises(EncoderError, match="not a list of modules"):
        read_encoder(tmp_path)
    (tmp_path / "modules.json").write_text("[")
    with pytest.raises(EncoderError, match="cannot be read"):
        read_encoder(tmp_path)
