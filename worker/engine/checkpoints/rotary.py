"""Computes the angles of rotary positions like transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from worker.engine.model_runner import UnsupportedModelError

# Other types change the angles of all positions when a sequence exceeds a length.
STATIC_ROPE_TYPES = ("linear", "llama3", "yarn")


def rotary_tables(config: Any, head_size: int, context_length: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the angles of all positions, with the model's scaling.

    Args:
        config: a `PreTrainedConfig` with `rope_parameters`.

    Returns:
        Two tensors [context_length, head_size / 2].

    Raises:
        UnsupportedModelError: the angles depend on the length of the sequence.
    """
    frequencies, factor = _frequencies(config, head_size)
    angles = torch.arange(context_length, dtype=torch.float32)[:, None] * frequencies
    return (angles.cos() * factor).contiguous(), (angles.sin() * factor).contiguous()


def _frequencies(config: Any, head_size: int) -> tuple[Tensor, float]:
    """Return the angle per position of each pair of dimensions, and the factor for cosine and sine."""
    parameters = config.rope_parameters
    kind = parameters["rope_type"]
    if parameters.get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedModelError("The server's own kernels do not support partially rotated heads.")
    if kind == "default":
        exponents = torch.arange(0, head_size, 2, dtype=torch.float32) / head_size
        return 1.0 / (parameters["rope_theta"] ** exponents), 1.0
    if kind not in STATIC_ROPE_TYPES:
        raise UnsupportedModelError(f"The server's own kernels do not support rotary positions of type {kind}.")
    frequencies, factor = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    return frequencies, float(factor)
