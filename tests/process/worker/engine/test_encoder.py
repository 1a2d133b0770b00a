"""Vectors of a tiny random BERT, against a direct computation with transformers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from common.errors import InvalidRequest, PromptTooLong
from models.encoder import read_encoder
from models.errors import EncoderError
from tests.tiny_encoder import MAX_TOKENS, VOCABULARY, WIDTH, save_encoder, tiny_bert, tiny_tokenizer, write
from worker.engine.embedding.encoder import Encoder

TEXTS = ["hello", "a", "the quick brown fox", "x y"]


def load(folder: Path, **description: Any) -> Encoder:
    return Encoder(read_encoder(save_encoder(folder, **description)), "cpu")


def tokens_of(encoder: Encoder, text: str, *, truncate: bool = False, prompt_name: str | None = None) -> list[int]:
    return encoder.tokens_of(text, "input", truncate=truncate, prompt_name=prompt_name)


def vectors_of(encoder: Encoder, texts: list[str]) -> Tensor:
    return encoder.vectors([tokens_of(encoder, text) for text in texts])


def hidden(text: str) -> Tensor:
    """The vectors of a text's tokens, computed alone."""
    with torch.inference_mode():
        states: Tensor = tiny_bert()(**tiny_tokenizer()(text, return_tensors="pt")).last_hidden_state[0]
    return states


def weighted(tokens: Tensor) -> Tensor:
    weights = torch.arange(1, len(tokens) + 1)[:, None]
    return (tokens * weights).sum(0) / weights.sum()


@pytest.mark.parametrize(
    ("mode", "pool"),
    [
        pytest.param("cls", lambda tokens: tokens[0], id="cls"),
        pytest.param("lasttoken", lambda tokens: tokens[-1], id="last"),
        pytest.param("max", lambda tokens: tokens.amax(0), id="max"),
        pytest.param("mean", lambda tokens: tokens.mean(0), id="mean"),
        pytest.param("mean_sqrt_len_tokens", lambda tokens: tokens.sum(0) / math.sqrt(len(tokens)), id="root"),
        pytest.param("weightedmean", weighted, id="weighted"),
    ],
)
def test_each_pooling_in_a_batch_with_padding(tmp_path: Path, mode: str, pool: Callable[[Tensor], Tensor]) -> None:
    encoder = load(tmp_path, pooling={"pooling_mode": mode}, others=())
    expected = torch.stack([pool(hidden(text)) for text in TEXTS])
    torch.testing.assert_close(vectors_of(encoder, TEXTS), expected, atol=1e-5, rtol=1e-4)


def test_joined_pooling_has_the_width_of_both(tmp_path: Path) -> None:
    encoder = load(tmp_path, pooling={"pooling_mode": ["cls", "max"]}, others=())
    expected = torch.cat([hidden("hello")[0], hidden("hello").amax(0)])
    assert encoder.dimensions == 2 * WIDTH
    torch.testing.assert_close(vectors_of(encoder, ["hello"])[0], expected, atol=1e-5, rtol=1e-4)


def test_normalized_vectors_stay_so_when_they_are_shortened(tmp_path: Path) -> None:
    encoder = load(tmp_path)
    mean = hidden("hello").mean(0)
    found = vectors_of(encoder, ["hello"])
    torch.testing.assert_close(found[0], mean / mean.norm(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.shortened(found, 4)[0], mean[:4] / mean[:4].norm(), atol=1e-5, rtol=1e-4)
    assert encoder.shortened(found, None) is found


def test_vectors_that_are_not_normalized_are_only_cut(tmp_path: Path) -> None:
    encoder = load(tmp_path, others=())
    found = vectors_of(encoder, ["hello"])
    assert torch.equal(encoder.shortened(found, 4), found[:, :4])


@pytest.mark.parametrize("has_bias", [True, False], ids=["bias", "no bias"])
def test_a_dense_layer(tmp_path: Path, *, has_bias: bool) -> None:
    folder = save_encoder(tmp_path, others=("Dense",))
    layer = nn.Linear(WIDTH, 3, bias=has_bias)
    save_file(
        {f"linear.{name}": value.data for name, value in layer.named_parameters()}, folder / "2_Dense/model.safetensors"
    )
    write(folder / "2_Dense/config.json", {"activation_function": "torch.nn.modules.activation.Tanh"})
    encoder = Encoder(read_encoder(folder), "cpu")
    expected = torch.tanh(layer(hidden("hello").mean(0))).detach()
    assert encoder.dimensions == 3
    torch.testing.assert_close(vectors_of(encoder, ["hello"])[0], expected, atol=1e-5, rtol=1e-4)


def test_an_activation_that_is_not_torch_s_is_refused(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, others=("Dense",))
    save_file({"linear.weight": torch.ones(3, WIDTH)}, folder / "2_Dense/model.safetensors")
    write(folder / "2_Dense/config.json", {"activation_function": "os.system"})
    with pytest.raises(EncoderError, match=r"os\.system"):
        Encoder(read_encoder(folder), "cpu")


def test_missing_weights_are_named(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="cannot be loaded"):
        Encoder(read_encoder(folder), "cpu")


def test_long_texts_are_cut_only_if_allowed_and_keep_their_end(tmp_path: Path) -> None:
    encoder = load(tmp_path, texts={"max_seq_length": 8})
    with pytest.raises(PromptTooLong, match="12 tokens; the limit of the model is 8") as refused:
        tokens_of(encoder, "abcdefghij")
    assert refused.value.param == "input"
    cut = tokens_of(encoder, "abcdefghij", truncate=True)
    assert cut == tiny_tokenizer()("abcdefghij", truncation=True, max_length=8)["input_ids"]
    assert cut[-1] == VOCABULARY.index("[SEP]")
    assert len(tokens_of(encoder, "abcdef")) == 8


def test_without_a_limit_in_the_description_the_tokenizer_s_holds(tmp_path: Path) -> None:
    assert load(tmp_path).max_tokens == MAX_TOKENS


def test_prompts_come_first_and_white_space_is_dropped(tmp_path: Path) -> None:
    prompts = {"prompts": {"query": "q: ", "plain": ""}, "default_prompt_name": "query"}
    encoder = load(tmp_path, prompts=prompts)
    plain = tiny_tokenizer()
    assert tokens_of(encoder, "abc \n") == plain("q: abc")["input_ids"]
    assert tokens_of(encoder, " abc", prompt_name="plain") == plain("abc")["input_ids"]
    with pytest.raises(InvalidRequest, match="'query', 'plain'") as refused:
        tokens_of(encoder, "abc", prompt_name="other")
    assert refused.value.param == "prompt_name"


def test_token_ids_are_used_unchanged_and_must_be_the_model_s(tmp_path: Path) -> None:
    encoder = load(tmp_path)
    assert encoder.tokens_of((5, 6), "input[3]", prompt_name=None, truncate=False) == [5, 6]
    with pytest.raises(InvalidRequest, match=rf"input\[3\] .* from 0 to {len(VOCABULARY) - 1}; got {len(VOCABULARY)}"):
        encoder.tokens_of((5, len(VOCABULARY)), "input[3]", prompt_name=None, truncate=False)
    many = (5,) * (MAX_TOKENS + 1)
    with pytest.raises(PromptTooLong):
        encoder.tokens_of(many, "input", prompt_name=None, truncate=False)
    assert len(encoder.tokens_of(many, "input", prompt_name=None, truncate=True)) == MAX_TOKENS
