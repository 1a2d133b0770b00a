"""What a model computes: embedding, layers over cached keys and values, logits.

Nothing here asks the device for anything or brings it anything from the host, so all of it can be recorded in a graph.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.architecture import Architecture, MlpKind
from worker.engine.device.cache import DeviceCache, Places
from worker.engine.device.weights import DecoderWeights, LayerWeights


class Decoder:
    """A Llama-like model or GPT-2.

    Args:
        architecture: sizes and kinds.
        weights: on the device of the cache.
        cache: what the layers write and read.
    """

    def __init__(self, architecture: Architecture, weights: DecoderWeights, cache: DeviceCache) -> None:
        self._parts = architecture
        self._weights = weights
        self._cache = cache
        self._scale = architecture.head_size**-0.5

    def states(self, token_ids: Tensor, places: Places) -> Tensor:
        """The last layer's output for tokens, both [rows, tokens]: [rows, tokens, hidden_size].

        The tokens' keys and values are in the cache afterwards.
        """
        num_rows, num_tokens = token_ids.shape
        states = functional.embedding(token_ids.flatten(), self._weights.embedding)
        if self._weights.positions is not None:
            states = states + functional.embedding(places.positions.flatten(), self._weights.positions)
        turns = self._turns(places.positions)
        is_hidden = _is_hidden(places)
        for index, layer in enumerate(self._weights.layers):
            queries, keys, values = self._split(layer, layer.attention_norm.of(states), places.positions.shape, turns)
            self._cache.write(index, places, keys, values)
            mixed = attend(queries, *self._cache.read(index, places), is_hidden, self._scale)
            layer.attention_output.add_to(states, mixed.reshape(num_rows * num_tokens, -1))
            layer.mlp_output.add_to(states, self._activated(layer.mlp_input.of(layer.mlp_norm.of(states))))
        return states.view(num_rows, num_tokens, -1)

    def logits(self, states: Tensor, out: Tensor | None = None) -> Tensor:
        """Logits [n, vocab_size], in `out` where it is given, of the last layer's output [n, hidden_size]."""
        return torch.mm(self._weights.final_norm.of(states), self._weights.head.t(), out=out)

    def _turns(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines at the positions, [rows, tokens, 1, head_size]; None where positions are learned."""
        cosines, sines = self._weights.cosines, self._weights.sines
        if cosines is None or sines is None:
            return None
        return functional.embedding(positions, cosines)[:, :, None], functional.embedding(positions, sines)[:, :, None]

    def _split(
        self, layer: LayerWeights, x: Tensor, shape: torch.Size, turns: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of x [rows * tokens, hidden_size]: [rows, tokens, heads, head_size] each."""
        parts = self._parts
        heads = layer.query_key_value.of(x).view(*shape, -1, parts.head_size)
        turned, values = torch.split(heads, [parts.num_heads + parts.num_kv_heads, parts.num_kv_heads], dim=2)
        if layer.head_norms is not None:
            turned = functional.rms_norm(turned, (parts.head_size,), None, parts.norm_epsilon) * layer.head_norms
        if turns is not None:
            turned = rotated(turned, *turns)
        queries, keys = torch.split(turned, [parts.num_heads, parts.num_kv_heads], dim=2)
        return queries, keys, values

    def _activated(self, x: Tensor) -> Tensor:
        """What is between the two matrices of the feed-forward part."""
        if self._parts.mlp_kind is MlpKind.GELU_TANH:
            return functional.gelu(x, approximate="tanh")
        gates, ups = x.chunk(2, dim=-1)
        return functional.silu(gates) * ups


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn pairs of dimensions (i, i + size / 2) by the angles of `sines`, the first half negated, and `cosines`."""
    return torch.addcmul(x * cosines, x.roll(x.shape[-1] // 2, dims=-1), sines)


def attend(queries: Tensor, keys: Tensor, values: Tensor, is_hidden: Tensor, scale: float) -> Tensor:
    """Attention of each row over its slot.

    The query heads that share a head of keys are computed as one, so that no keys are copied; two products and a
    softmax leave no choice of kernels to anybody, whatever the shapes.

    Args:
        queries: [rows, tokens, heads, head_size].
        keys: [rows, kv_heads, num_keys, head_size].
        values: the same.
        is_hidden: [rows, 1, 1, tokens, num_keys], true where a token may not look.
        scale: of the scores.

    Returns:
        [rows, tokens, heads, head_size].
    """
    num_rows, num_tokens, num_heads, size = queries.shape
    _, num_kv_heads, num_keys, _ = keys.shape
    group = num_heads // num_kv_heads
    batch = num_rows * num_kv_heads
    grouped = queries.view(num_rows, num_tokens, num_kv_heads, group, size).permute(0, 2, 3, 1, 4)
    flat = grouped.reshape(batch, group * num_tokens, size)
    # The factor goes into the product: in half precision the scores without it might be too large.
    nothing = flat.new_empty(1, 1, 1)
    scores = torch.baddbmm(nothing, flat, keys.view(batch, num_keys, size).transpose(1, 2), beta=0, alpha=scale)
    scores.view(num_rows, num_kv_heads, group, num_tokens, num_keys).masked_fill_(is_hidden, -torch.inf)
    mixed = torch.bmm(scores.softmax(dim=-1), values.view(batch, num_keys, size))
    return mixed.view(num_rows, num_kv_heads, group, num_tokens, size).permute(0, 3, 1, 2, 4).flatten(2, 3)


def _is_hidden(places: Places) -> Tensor:
    """What each token may not look at: [rows, 1, 1, tokens, num_keys]."""
    keys = torch.arange(places.num_keys, device=places.positions.device)
    return keys > places.positions[:, None, None, :, None]
