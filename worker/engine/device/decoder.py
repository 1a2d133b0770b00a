"""Computes a model: embedding, layers over cached keys and values, logits.

While tokens are decoded, nothing here is copied between host and device, so that the step can be captured in a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.checkpoints.architecture import Architecture, MlpKind
from worker.engine.device.adapters import (
    AdapterTokens,
    Site,
    TorchAdapter,
    head_site,
    resolved_token_ids,
    torch_adapter,
)
from worker.engine.device.cache import BLOCK_TOKENS, PagedCache
from worker.engine.device.step_inputs import StepInputs
from worker.engine.device.weights import DecoderWeights, LayerWeights
from worker.engine.lora import AdapterWeights
from worker.engine.model_runner import PreparedAdapter


@dataclass(frozen=True, slots=True)
class PromptPart:
    """Consecutive tokens of one sequence in a step's inputs."""

    begin: int
    num_tokens: int
    table_row: int


class Decoder(Protocol):
    """A model on a device, and adapters in slots of 1 to `max_adapters`.

    `runs` are the tokens with adapters; empty: none. A decoder that captures adapters only reads from it whether there
    are any, and everything else from the inputs.
    """

    token_multiple: int  # prompt parts begin at multiples of this
    captures_prompts: bool  # whether `prompt`, too, can be captured in a graph, which serves every number of keys
    captures_adapters: bool  # whether a graph that was captured with any adapter serves all adapters
    max_adapters: int
    weight_bytes: int  # minimum number of bytes that a step with logits reads
    logits_dtype: torch.dtype

    def prepare_adapter(self, weights: AdapterWeights) -> PreparedAdapter:
        """As `ModelRunner.prepare_adapter`."""
        ...

    def add_adapter(self, slot: int, prepared: PreparedAdapter) -> None:
        """Put an adapter into a free slot."""
        ...

    def remove_adapter(self, slot: int) -> None:
        """Free a slot that no further step uses."""
        ...

    def embed(self, inputs: StepInputs, previous: Tensor | None, runs: Sequence[AdapterTokens] = ()) -> None:
        """Look up the embeddings; tokens with a source are taken from the last samples `previous`, int64 [samples].

        It is not captured, so it reads all of `runs`.
        """
        ...

    def decode(self, inputs: StepInputs, num_keys: int, logits: Tensor, runs: Sequence[AdapterTokens] = ()) -> None:
        """Compute one token of each sequence and its logits [tokens, vocab_size]. Token i has row i of the tables.

        Args:
            inputs: the inputs of the step, the same as for `embed`.
            num_keys: larger than the largest position.
            logits: receives the logits.
            runs: the tokens with adapters.
        """
        ...

    def prompt(
        self, inputs: StepInputs, num_keys: int, parts: list[PromptPart], runs: Sequence[AdapterTokens] = ()
    ) -> None:
        """Compute parts of prompts, which begin at multiples of `token_multiple`; like `decode`, without logits."""
        ...

    def logits(self, tokens: Tensor, slots: Tensor, out: Tensor, runs: Sequence[AdapterTokens] = ()) -> Tensor:
        """Compute the logits of some tokens of the last `prompt`.

        Args:
            tokens: [n].
            slots: int32 [n], of their adapters.
            out: [at least n, vocab_size], receives the logits.
            runs: which of the n tokens have adapters.

        Returns:
            The logits, [n, vocab_size].
        """
        ...


class TorchDecoder:
    """A Llama-like model or GPT-2 in torch operations, on any device and in any format.

    Args:
        architecture: sizes and kinds.
        weights: on the device of the cache.
        cache: read and written by the layers.
        max_tokens: maximum tokens of a step.
    """

    token_multiple = 1
    captures_prompts = False
    captures_adapters = False
    max_adapters = 1 << 30

    def __init__(
        self, architecture: Architecture, weights: DecoderWeights, cache: PagedCache, *, max_tokens: int
    ) -> None:
        self._parts = architecture
        self._weights = weights
        self._cache = cache
        self._scale = architecture.head_size**-0.5
        self._context_length = 0 if weights.positions is None else len(weights.positions)
        self._adapters: dict[int, TorchAdapter] = {}  # by slot
        self._embedded = weights.embedding.new_zeros(max_tokens, architecture.hidden_size)
        self._states = torch.zeros_like(self._embedded)
        self.weight_bytes = weights.num_bytes
        self.logits_dtype = weights.embedding.dtype

    def prepare_adapter(self, weights: AdapterWeights) -> TorchAdapter:
        """As `Decoder.prepare_adapter`."""
        return torch_adapter(weights, self._parts, context_length=self._context_length, like=self._states)

    def add_adapter(self, slot: int, prepared: PreparedAdapter) -> None:
        """As `Decoder.add_adapter`."""
        if not isinstance(prepared, TorchAdapter):
            raise TypeError("The adapter was prepared by another runner.")
        self._adapters[slot] = prepared

    def remove_adapter(self, slot: int) -> None:
        """As `Decoder.remove_adapter`."""
        del self._adapters[slot]

    def embed(self, inputs: StepInputs, previous: Tensor | None, runs: Sequence[AdapterTokens] = ()) -> None:
        """As `Decoder.embed`."""
        token_ids = resolved_token_ids(inputs.token_ids, inputs.sources, previous)
        states = functional.embedding(token_ids, self._weights.embedding)
        if self._weights.positions is not None:
            states = states + functional.embedding(inputs.positions.clamp(min=0), self._weights.positions)
        self._embedded[: len(states)].copy_(states)
        for slot, tokens in runs:
            self._adapters[slot].embeddings.add_to(self._embedded[tokens], token_ids[tokens], inputs.positions[tokens])

    def decode(self, inputs: StepInputs, num_keys: int, logits: Tensor, runs: Sequence[AdapterTokens] = ()) -> None:
        """As `Decoder.decode`."""
        tables = inputs.tables[:, : -(-num_keys // BLOCK_TOKENS)]
        positions = inputs.positions[:, None]

        def attention(layer: int, queries: Tensor) -> Tensor:
            return attend(queries[:, None], *self._cache.read(layer, tables), positions, self._scale)[:, 0]

        self._compute(inputs, attention, runs)
        self.logits(torch.arange(inputs.num_tokens, device=logits.device), inputs.slots, logits, runs)

    def prompt(
        self, inputs: StepInputs, num_keys: int, parts: list[PromptPart], runs: Sequence[AdapterTokens] = ()
    ) -> None:
        """As `Decoder.prompt`."""
        num_blocks = -(-num_keys // BLOCK_TOKENS)

        def attention(layer: int, queries: Tensor) -> Tensor:
            mixed = torch.zeros_like(queries)
            for part in parts:
                own = slice(part.begin, part.begin + part.num_tokens)
                tables = inputs.tables[part.table_row : part.table_row + 1, :num_blocks]
                states = self._cache.read(layer, tables)
                mixed[own] = attend(queries[None, own], *states, inputs.positions[None, own], self._scale)[0]
            return mixed

        self._compute(inputs, attention, runs)

    def logits(
        self,
        tokens: Tensor,
        slots: Tensor,  # noqa: ARG002 - as `Decoder`
        out: Tensor,
        runs: Sequence[AdapterTokens] = (),
    ) -> Tensor:
        """As `Decoder.logits`."""
        states = self._weights.final_norm.of(self._states.index_select(0, tokens))
        torch.mm(states, self._weights.head.t(), out=out[: len(tokens)])
        self._add(runs, head_site(self._parts), out, states)
        return out[: len(tokens)]

    def _add(self, runs: Sequence[AdapterTokens], site: int, y: Tensor, x: Tensor) -> None:
        """Add what the tokens' adapters do to a matrix's inputs x [tokens, columns] to its outputs y [tokens, rows]."""
        for slot, tokens in runs:
            self._adapters[slot].add_to(site, y[tokens], x[tokens])

    def _compute(
        self, inputs: StepInputs, attention: Callable[[int, Tensor], Tensor], runs: Sequence[AdapterTokens]
    ) -> None:
        """Compute all layers, from `_embedded` to `_states`."""
        states = self._states[: inputs.num_tokens].copy_(self._embedded[: inputs.num_tokens])
        angles = self._angles(inputs.positions)
        blocks, offsets = _blocks_and_offsets(inputs, self._cache.unused_block)
        for index, layer in enumerate(self._weights.layers):
            normed = layer.attention_norm.of(states)
            projected = layer.query_key_value.of(normed)
            self._add(runs, Site.QUERY_KEY_VALUE.of_layer(index), projected, normed)
            queries, keys, values = self._split(layer, projected, angles)
            self._cache.write(index, blocks, offsets, keys, values)
            mixed = attention(index, queries).flatten(1)
            layer.attention_output.add_to(states, mixed)
            self._add(runs, Site.ATTENTION_OUTPUT.of_layer(index), states, mixed)
            normed = layer.mlp_norm.of(states)
            inner = layer.mlp_input.of(normed)
            self._add(runs, Site.MLP_INPUT.of_layer(index), inner, normed)
            activated = self._activated(inner)
            layer.mlp_output.add_to(states, activated)
            self._add(runs, Site.MLP_OUTPUT.of_layer(index), states, activated)

    def _angles(self, positions: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return cosines and sines at the positions, [tokens, 1, head_size]; None if positions are learned."""
        cosines, sines = self._weights.cosines, self._weights.sines
        if cosines is None or sines is None:
            return None
        indices = positions.clamp(min=0)
        cosine, sine = (functional.embedding(indices, table)[:, None].to(self._states) for table in (cosines, sines))
        return torch.cat([cosine, cosine], dim=-1), torch.cat([-sine, sine], dim=-1)

    def _split(
        self, layer: LayerWeights, projected: Tensor, angles: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, [tokens, heads, head_size] each, of all of them [tokens, numbers]."""
        parts = self._parts
        heads = projected.view(len(projected), -1, parts.head_size)
        queries_keys, values = torch.split(heads, [parts.num_heads + parts.num_kv_heads, parts.num_kv_heads], dim=1)
        if layer.head_norms is not None:
            queries_keys = (
                functional.rms_norm(queries_keys, (parts.head_size,), None, parts.norm_epsilon) * layer.head_norms
            )
        if angles is not None:
            queries_keys = rotated(queries_keys, *angles)
        queries, keys = torch.split(queries_keys, [parts.num_heads, parts.num_kv_heads], dim=1)
        return queries, keys, values

    def _activated(self, x: Tensor) -> Tensor:
        """Apply the activation between the two matrices of the feed-forward part."""
        if self._parts.mlp_kind is MlpKind.GELU_TANH:
            return functional.gelu(x, approximate="tanh")
        gates, ups = x.chunk(2, dim=-1)
        return functional.silu(gates) * ups


def _blocks_and_offsets(inputs: StepInputs, unused_block: int) -> tuple[Tensor, Tensor]:
    """Return each token's block in the cache and its offset in the block, both [tokens]."""
    positions = inputs.positions.clamp(min=0)
    blocks = inputs.tables[inputs.table_rows, positions // BLOCK_TOKENS]
    return blocks.masked_fill(inputs.positions < 0, unused_block), positions % BLOCK_TOKENS


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotate pairs of dimensions (i, i + size / 2); the first half of `sines` is negated."""
    return torch.addcmul(x * cosines, x.roll(x.shape[-1] // 2, dims=-1), sines)


def attend(queries: Tensor, keys: Tensor, values: Tensor, positions: Tensor, scale: float) -> Tensor:
    """Return the attention of each row's tokens over its keys.

    The query heads that share a key head are computed together, so that no keys are copied. With two products and a
    softmax the choice of kernels does not depend on the shapes.

    Args:
        queries: [rows, tokens, heads, head_size].
        keys: [rows, kv_heads, num_keys, head_size].
        values: the same shape; modified in place.
        positions: [rows, tokens], the last key that each token may attend to; negative: no key.
        scale: factor for the scores.

    Returns:
        [rows, tokens, heads, head_size].
    """
    num_rows, num_tokens, num_heads, size = queries.shape
    _, num_kv_heads, num_keys, _ = keys.shape
    group = num_heads // num_kv_heads
    batch = num_rows * num_kv_heads
    key = torch.arange(num_keys, device=keys.device)
    # A zero weight times a NaN left by another sequence would still be NaN.
    values.masked_fill_((key > positions.amax(dim=1, keepdim=True))[:, None, :, None], 0.0)
    grouped = queries.reshape(num_rows, num_tokens, num_kv_heads, group, size).permute(0, 2, 3, 1, 4)
    flat = grouped.reshape(batch, group * num_tokens, size)
    # The scale is applied within the product: in half precision the unscaled scores might overflow.
    nothing = flat.new_empty(1, 1, 1)
    scores = torch.baddbmm(nothing, flat, keys.reshape(batch, num_keys, size).transpose(1, 2), beta=0, alpha=scale)
    is_hidden = (key > positions[:, :, None].clamp(min=0))[:, None, None]  # padding tokens see one key, to avoid NaN
    scores.view(num_rows, num_kv_heads, group, num_tokens, num_keys).masked_fill_(is_hidden, -torch.inf)
    mixed = torch.bmm(scores.softmax(dim=-1), values.reshape(batch, num_keys, size))
    return mixed.view(num_rows, num_kv_heads, group, num_tokens, size).permute(0, 3, 1, 2, 4).flatten(2, 3)
