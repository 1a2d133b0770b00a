"""Computes how much memory the KV cache may take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psutil

from worker.engine.config import RunnerConfig
from worker.engine.model_runner import CacheTooSmall, UnsupportedModelError

if TYPE_CHECKING:
    import torch

GPU_SHARE = 0.6  # of the free memory after loading the weights; activations need the rest
CPU_SHARE = 0.25  # of the available memory
CPU_MAX_BYTES = 1 << 30  # allocated only as tokens are written


def default_kv_bytes(device: str) -> int:
    """Return the default size of the cache on the device (its type) in bytes."""
    if device == "cuda":
        import torch

        return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    return min(CPU_MAX_BYTES, int(CPU_SHARE * psutil.virtual_memory().available))


def sequence_bytes(config: Any, num_tokens: int, item_bytes: int) -> int:
    """Return the size of the keys and values of one sequence in all layers, in bytes.

    Args:
        config: the text model's `PreTrainedConfig`.
        num_tokens: length of the sequence.
        item_bytes: size of one number.

    Raises:
        UnsupportedModelError: the model does not have keys and values.
    """
    if getattr(config, "num_attention_heads", None) is None:
        raise UnsupportedModelError(
            f"Models of type {config.model_type} keep one state instead of keys and values for each token (state-space "
            "models do), and are not served."
        )
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * int(config.num_hidden_layers * heads * head_size) * num_tokens * item_bytes


def affordable_blocks(block_bytes: int, blocks_per_sequence: int, config: RunnerConfig) -> int:
    """Return how many blocks fit in `kv_bytes`, at most as many as the full sequences need.

    Args:
        block_bytes: size of a block.
        blocks_per_sequence: blocks of a full sequence.
        config: number and length of the sequences, and the memory limit; without `kv_bytes` all blocks fit.

    Raises:
        CacheTooSmall: one full sequence does not fit.
    """
    num_wanted = config.max_num_seqs * blocks_per_sequence
    if config.kv_bytes is None:
        return num_wanted
    if config.kv_bytes < blocks_per_sequence * block_bytes:
        raise CacheTooSmall(
            f"A context of {config.context_length} tokens takes {blocks_per_sequence * block_bytes} bytes of cache, "
            f"but the limit is {config.kv_bytes}."
        )
    return min(num_wanted, config.kv_bytes // block_bytes)


def affordable_sequences(text_config: Any, dtype: torch.dtype, config: RunnerConfig) -> int:
    """As `affordable_blocks`, with blocks that each hold a full sequence.

    Args:
        text_config: the text model's `PreTrainedConfig`; without `kv_bytes` the model may have no keys and values.
        dtype: number format of keys and values.
        config: as for `affordable_blocks`.

    Raises:
        CacheTooSmall: one full sequence does not fit.
    """
    if config.kv_bytes is None:
        return config.max_num_seqs
    return affordable_blocks(sequence_bytes(text_config, config.context_length, dtype.itemsize), 1, config)
