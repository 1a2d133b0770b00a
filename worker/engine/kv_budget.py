"""How much memory the cache of keys and values may take."""

from __future__ import annotations

from typing import Any

import psutil
import torch

from worker.engine.model_runner import CacheTooSmall, UnsupportedModelError

GPU_SHARE = 0.6  # of the memory that is free once the weights are there; activations need the rest
CPU_SHARE = 0.25  # of the memory that is available
CPU_MOST = 1 << 30  # bytes; taken only as tokens are written


def default_kv_bytes(device: torch.device) -> int:
    """What the cache may take where nothing else is said, in bytes."""
    if device.type == "cuda":
        return int(GPU_SHARE * torch.cuda.mem_get_info(device)[0])
    return min(CPU_MOST, int(CPU_SHARE * psutil.virtual_memory().available))


def sequence_bytes(config: Any, num_tokens: int, item_bytes: int) -> int:
    """Keys and values of one sequence in all layers, in bytes.

    Args:
        config: the text model's `PreTrainedConfig`.
        num_tokens: length of the sequence.
        item_bytes: size of one number.

    Raises:
        UnsupportedModelError: the model keeps no keys and values.
    """
    if getattr(config, "num_attention_heads", None) is None:
        raise UnsupportedModelError(
            f"Models of type {config.model_type} keep one state instead of keys and values for each token (state-space "
            "models do), and are not served."
        )
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * int(config.num_hidden_layers * heads * head_size) * num_tokens * item_bytes


def affordable_blocks(
    block_bytes: int, *, blocks_per_sequence: int, num_sequences: int, context_length: int, kv_bytes: int | None
) -> int:
    """How many of the blocks that full sequences need have room.

    Args:
        block_bytes: size of one.
        blocks_per_sequence: that hold a full sequence.
        num_sequences: that are wanted.
        context_length: tokens of each.
        kv_bytes: most memory; None: as much as it takes.

    Raises:
        CacheTooSmall: there is no room for one full sequence.
    """
    num_wanted = num_sequences * blocks_per_sequence
    if kv_bytes is None:
        return num_wanted
    if kv_bytes < blocks_per_sequence * block_bytes:
        raise CacheTooSmall(
            f"A context of {context_length} tokens takes {blocks_per_sequence * block_bytes} bytes of cache, but the "
            f"budget is {kv_bytes}."
        )
    return min(num_wanted, kv_bytes // block_bytes)


def affordable_sequences(
    config: Any, dtype: torch.dtype, num_wanted: int, context_length: int, kv_bytes: int | None
) -> int:
    """As `affordable_blocks`, where a block holds a full sequence.

    Args:
        config: the text model's `PreTrainedConfig`; it need not tell of keys and values where there is no limit.
        dtype: number format of keys and values.
        num_wanted: sequences.
        context_length: tokens of each.
        kv_bytes: most memory; None: as much as it takes.

    Raises:
        CacheTooSmall: there is no room for one.
    """
    if kv_bytes is None:
        return num_wanted
    return affordable_blocks(
        sequence_bytes(config, context_length, dtype.itemsize),
        blocks_per_sequence=1,
        num_sequences=num_wanted,
        context_length=context_length,
        kv_bytes=kv_bytes,
    )
