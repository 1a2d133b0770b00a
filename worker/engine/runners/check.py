"""Checks at load that a runner computes the same as the model itself, so that clients never get wrong results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from worker.engine.model_runner import DeviceLostError, ModelRunner, Row, UnsupportedModelError
from worker.engine.sequence import BASE_ADAPTER

PROMPT_LENGTHS = (7, 4)
# By number format: the change of the logits that the order of additions explains, relative to the largest logit.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}


class RunnerCheck:
    """The results of a model without a runner, to compare a runner's results with.

    They are computed in the constructor; the model is not needed afterwards.

    Args:
        model: a `PreTrainedModel`.

    Raises:
        UnsupportedModelError: the model cannot compute two short prompts.
    """

    def __init__(self, model: Any) -> None:
        self._model_type: str = model.config.model_type
        self._tolerance = TOLERANCES[model.dtype]
        vocab_size = model.get_input_embeddings().num_embeddings
        self._prompts = [_token_ids(length, vocab_size) for length in PROMPT_LENGTHS]
        with self._failures():
            self._expected = torch.stack([_own_logits(model, prompt) for prompt in self._prompts])

    def check(self, runner: ModelRunner, tolerance: float | None = None) -> None:
        """Compute the prompts with the runner, in chunks and in one batch, and compare the results.

        Args:
            runner: a runner of that model.
            tolerance: the largest acceptable difference of two logits, relative to the largest logit; default: as
                much as the model's number format explains.

        Raises:
            UnsupportedModelError: the results differ, or the modelling code does not work with the runner's cache.
        """
        expected = self._expected[: runner.max_num_seqs]
        with self._failures():
            found = _batch_logits(runner, self._prompts[: runner.max_num_seqs])
        allowed = self._tolerance if tolerance is None else tolerance
        if not (found - expected).abs().max() <= allowed * expected.abs().max():
            raise UnsupportedModelError(f"The model type {self._model_type} gives different results in a batch.")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except DeviceLostError:
            raise
        except Exception as error:
            raise UnsupportedModelError(f"The model type {self._model_type} cannot run in a batch: {error}") from error


def _token_ids(count: int, vocab_size: int) -> list[int]:
    """Return different tokens from the whole vocabulary."""
    return [(3 + index * 7919) % vocab_size for index in range(count)]


def _own_logits(model: Any, token_ids: list[int]) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(input_ids=torch.tensor([token_ids], device=model.device), use_cache=False).logits
    return logits[0, -1].float()


def _batch_logits(runner: ModelRunner, prompts: list[list[int]]) -> Tensor:
    """Compute each prompt's logits [prompts, vocab_size]: two chunks, then all last tokens in one batch."""
    for block, prompt in enumerate(prompts):
        runner.forward([_row(block, prompt, 0, 2)])
        runner.forward([_row(block, prompt, 2, len(prompt) - 1)])
    rows = [_row(block, prompt, len(prompt) - 1, len(prompt)) for block, prompt in enumerate(prompts)]
    return torch.as_tensor(runner.forward(rows)).float()


def _row(block: int, prompt: list[int], start: int, end: int) -> Row:
    """Return a row with one block, since the prompts are shorter than a block."""
    return Row((block,), tuple(prompt[start:end]), start, BASE_ADAPTER, needs_logits=end == len(prompt))
