"""Which runner a loaded model gets: the native one where it can be had, else transformers' own modelling code."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from common.errors import ModelUnavailable
from worker.engine.model_runner import ModelRunner
from worker.engine.native.errors import NativeUnavailable
from worker.engine.native.runner import NativeRunner
from worker.engine.runner_check import check_runner
from worker.engine.transformers_runner import TransformersRunner, UnsupportedModelError

logger = logging.getLogger(__name__)

FLOAT32, INT8 = "float32", "int8"
INT8_TOLERANCE = 0.15  # as `runner_check.TOLERANCES`; the measured perplexity says how good it is


def make_runner(
    model: Any, *, dtype: str, num_slots: int, context_length: int, num_threads: int, build_dir: Path
) -> tuple[ModelRunner, str]:
    """The runner, checked against the model's own forward, and the name of its number format.

    Args:
        model: a `PreTrainedModel` in evaluation mode on its device. The native runner keeps nothing of it.
        dtype: the wish, as `SLM_DTYPE` has it; auto on a CPU is int8, which reads a quarter of the bytes per token.
        num_slots: sequences that run at once.
        context_length: most tokens of a sequence.
        num_threads: CPU threads of a step.
        build_dir: folder for the compiled kernels.

    Raises:
        ModelUnavailable: the architecture cannot be served, or not in the number format that was asked for.
    """
    torch.set_num_threads(num_threads)
    if model.device.type == "cpu" and model.dtype is torch.float32:
        try:
            native = NativeRunner(
                model.config,
                model.state_dict(),
                num_slots=num_slots,
                context_length=context_length,
                precision="fp32" if dtype == FLOAT32 else "int8",
                threads=num_threads,
                build_dir=build_dir,
            )
            _check_native(native, model, None if dtype == FLOAT32 else INT8_TOLERANCE)
            return native, FLOAT32 if dtype == FLOAT32 else INT8
        except (NativeUnavailable, UnsupportedModelError) as err:
            if dtype == INT8:
                raise ModelUnavailable(f"int8 cannot be had here: {err} Set SLM_DTYPE to auto.") from err
            logger.warning("native kernels are not used, generation will be slower: %s", err)
    return _transformers_runner(model, num_slots, context_length), str(model.dtype).removeprefix("torch.")


def _check_native(native: NativeRunner, model: Any, tolerance: float | None) -> None:
    """Check it; give its memory back where it is not used. Raises `UnsupportedModelError`."""
    try:
        check_runner(native, model, tolerance)
    except UnsupportedModelError:
        native.close()
        raise
    torch.set_num_threads(
        1
    )  # only the sampler is torch's from now on; idle threads of it would spin beside the kernels'


def _transformers_runner(model: Any, num_slots: int, context_length: int) -> ModelRunner:
    try:
        runner = TransformersRunner(model, num_slots=num_slots, context_length=context_length)
        check_runner(runner, model)
    except UnsupportedModelError as error:
        raise ModelUnavailable(f"{error} Serve another base model (SLM_BASE_MODEL).") from error
    return runner
