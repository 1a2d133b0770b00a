"""How much memory the cache of keys and values may take."""

from __future__ import annotations

from typing import Any

import psutil
import torch

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
    """
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * int(config.num_hidden_layers * heads * head_size) * num_tokens * item_bytes
