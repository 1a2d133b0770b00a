"""Whether a model computes the same over slots as by itself: asked once at load, before anybody is served nonsense."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from worker.engine.model_runner import DeviceLostError, ModelRunner, Row, UnsupportedModelError
from worker.engine.sequence import BASE_ADAPTER

PROMPT_LENGTHS = (7, 4)
# By number format, what the order of additions may change in the logits, as a part of the largest one.
TOLERANCES = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}


class RunnerCheck:
    """What a model computes by itself, to hold a runner over it against.

    It is computed at once, and the model is not needed for it afterwards.

    Args:
        model: a `PreTrainedModel`.

    Raises:
        UnsupportedModelError: it cannot compute two short prompts.
    """

    def __init__(self, model: Any) -> None:
        self._model_type: str = model.config.model_type
        self._tolerance = TOLERANCES[model.dtype]
        vocab_size = model.get_input_embeddings().num_embeddings
        self._prompts = [_token_ids(length, vocab_size) for length in PROMPT_LENGTHS]
        with self._failures():
            self._expected = torch.stack([_own_logits(model, prompt) for prompt in self._prompts])

    def check(self, runner: ModelRunner, tolerance: float | None = None) -> None:
        """Compute the prompts, in chunks and in one batch, and compare.

        Args:
            runner: over that model.
            tolerance: the largest difference of two logits that is no fault, as a part of the largest logit; default:
                what the model's number format explains.

        Raises:
            UnsupportedModelError: the results differ, or the modelling code cannot work with slots at all.
        """
        expected = self._expected[: runner.num_slots]
        with self._failures():
            found = _slot_logits(runner, self._prompts[: runner.num_slots])
        allowed = self._tolerance if tolerance is None else tolerance
        if not (found - expected).abs().max() <= allowed * expected.abs().max():
            raise UnsupportedModelError(f"The model type {self._model_type} computes something else in a batch.")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except DeviceLostError:
            raise
        except Exception as error:
            raise UnsupportedModelError(f"The model type {self._model_type} cannot run in a batch: {error}") from error


def _token_ids(count: int, vocab_size: int) -> list[int]:
    """Different tokens from all over the vocabulary."""
    return [(3 + index * 7919) % vocab_size for index in range(count)]


def _own_logits(model: Any, token_ids: list[int]) -> Tensor:
    with torch.inference_mode():
        logits: Tensor = model(input_ids=torch.tensor([token_ids], device=model.device), use_cache=False).logits
    return logits[0, -1].float()


def _slot_logits(runner: ModelRunner, prompts: list[list[int]]) -> Tensor:
    """Each prompt's logits [prompts, vocab_size]: two chunks, then the last tokens of all prompts as one batch."""
    for slot, prompt in enumerate(prompts):
        runner.forward([_row(slot, prompt, 0, 2)])
        runner.forward([_row(slot, prompt, 2, len(prompt) - 1)])
    return runner.forward(
        [_row(slot, prompt, len(prompt) - 1, len(prompt)) for slot, prompt in enumerate(prompts)]
    ).float()


def _row(slot: int, prompt: list[int], start: int, end: int) -> Row:
    """The prompts are shorter than a block."""
    return Row((slot,), tuple(prompt[start:end]), start, BASE_ADAPTER, needs_logits=end == len(prompt))
