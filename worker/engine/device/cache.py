"""Keys and values of all slots in two tensors, whose places a device can be told without a copy of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tokens of a forward stand, and what they may look at."""

    slots: Tensor  # [rows], of each row
    read_slots: slice | Tensor  # the same; a slice where they are side by side, which is read without a copy
    positions: Tensor  # [rows, tokens]; those of tokens that do not count are the cache's `dump`
    num_keys: int  # read of each slot: more than the largest position that counts


class DeviceCache:
    """Keys and values, [layers, slots, kv_heads, context_length + 1, head_size] each.

    The last position of a slot takes what is computed for rows and tokens that do not count; nobody reads it. What a
    sequence has not written of its slot is finite: attention multiplies masked values by a weight of zero, and zero
    times a leftover NaN would still be NaN.
    """

    def __init__(
        self,
        shape: tuple[int, int, int, int, int],
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        num_layers, num_slots, num_heads, context_length, head_size = shape
        whole = (num_layers, num_slots, num_heads, context_length + 1, head_size)
        self.dump = context_length
        self._keys = torch.zeros(whole, dtype=dtype, device=device)
        self._values = torch.zeros(whole, dtype=dtype, device=device)

    @property
    def num_bytes(self) -> int:
        """Of all keys and values."""
        return self._keys.nbytes + self._values.nbytes

    def write(self, layer: int, places: Places, keys: Tensor, values: Tensor) -> None:
        """Store a layer's new states, [rows, tokens, kv_heads, head_size]."""
        slots = places.slots[:, None]
        self._keys[layer][slots, :, places.positions] = keys
        self._values[layer][slots, :, places.positions] = values

    def read(self, layer: int, places: Places) -> tuple[Tensor, Tensor]:
        """A layer's states of the rows, [rows, kv_heads, num_keys, head_size]."""
        keys, values = (pool[layer][:, :, : places.num_keys] for pool in (self._keys, self._values))
        if isinstance(places.read_slots, slice):
            return keys[places.read_slots], values[places.read_slots]
        return keys.index_select(0, places.read_slots), values.index_select(0, places.read_slots)

    def clear(self, slot: int, num_tokens: int) -> None:
        """Make the first positions of a slot zero."""
        for pool in (self._keys, self._values):
            pool[:, slot, :, :num_tokens] = 0

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the first positions of a slot to another one."""
        for pool in (self._keys, self._values):
            pool[:, target, :, :num_tokens] = pool[:, source, :, :num_tokens]

    def exchange(self, first: int, second: int, num_tokens: int) -> None:
        """Have the first positions of two slots change places."""
        pools = (self._keys, self._values)
        kept = [pool[:, first, :, :num_tokens].clone() for pool in pools]  # nothing has changed where this fails
        self.copy(second, first, num_tokens)
        for pool, states in zip(pools, kept, strict=True):
            pool[:, second, :, :num_tokens] = states
