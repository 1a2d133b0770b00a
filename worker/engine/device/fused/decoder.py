"""Implements `Decoder` with fused kernels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor

from worker.engine.checkpoints.architecture import Architecture, MlpKind, NormKind
from worker.engine.device.adapters import AdapterTokens, Site, head_site, resolved_token_ids
from worker.engine.device.cache import BLOCK_TOKENS, PagedCache
from worker.engine.device.decoder import PromptPart
from worker.engine.device.fused.adapters import MAX_ADAPTERS, Down, FusedAdapter, FusedAdapters, Order
from worker.engine.device.fused.kernels import attention, embedding, heads, linear
from worker.engine.device.fused.packing import BLOCK, MAX_BLOCKS, SPLITS, PackedLinear, pack, paired, paired_halves
from worker.engine.device.step_inputs import StepInputs
from worker.engine.device.weights import DecoderWeights, LayerWeights, LinearWeights, NormWeights
from worker.engine.lora import AdapterWeights
from worker.engine.model_runner import PreparedAdapter, UnsupportedModelError

PROMPT_MULTIPLE = 16
MAX_PROGRAMS = 480  # of a product; with more tokens each program computes more of them
MIN_ATTENTION_PROGRAMS = 192  # of a decode step; with fewer tokens each tile of keys has its own
EIGHTS = (1, 4, 8)  # groups of eight tokens that a program can compute
MAX_NUMBERS = 64 * 640  # states that fit in the registers of a program
FORMATS = (torch.bfloat16, torch.float16)
NO_ADAPTERS = {"NUM_SITES": 1, "MAX_RANK": 1, "MAX_TOKENS": 1}


@dataclass(frozen=True, slots=True)
class FusedLayer:
    """The matrices of a layer, with the norms before them folded in."""

    query_key_value: PackedLinear
    attention_output: PackedLinear
    mlp_input: PackedLinear
    mlp_output: PackedLinear
    head_norms: Tensor | None  # float32 [num_heads + num_kv_heads, head_size]
    attention_norm: NormWeights  # for adapters, which are not folded into
    mlp_norm: NormWeights


class FusedDecoder:
    """Like `decoder.TorchDecoder`, with at most six launches per layer, on a CUDA device and in a 16-bit format.

    A token's results are bitwise the same alone, in any batch, in any part of a prompt, and when it is computed again.

    Args:
        architecture: sizes and kinds.
        weights: on the device of the cache.
        cache: read and written by the layers.
        max_tokens: maximum tokens of a step.
        max_rows: maximum rows of a `decode` step.
        context_length: maximum tokens of a sequence.
        overlaps: whether a kernel may start before the previous one has ended.

    Raises:
        UnsupportedModelError: the kernels do not support the model's sizes.
    """

    token_multiple = PROMPT_MULTIPLE
    captures_prompts = True
    captures_adapters = True
    max_adapters = MAX_ADAPTERS
    logits_dtype = torch.float32

    def __init__(
        self,
        architecture: Architecture,
        weights: DecoderWeights,
        cache: PagedCache,
        *,
        max_tokens: int,
        max_rows: int,
        context_length: int,
        overlaps: bool,
    ) -> None:
        parts = architecture
        _check(parts, weights.embedding.dtype)
        self._parts = parts
        self._cache = cache
        self._options = {"PDL": True, "launch_pdl": True} if overlaps else {"PDL": False}
        self._norm = linear.RMS_NORM if parts.norm_kind is NormKind.RMS_NORM else linear.LAYER_NORM
        self._embedding, self._positions = weights.embedding, weights.positions
        nothing = torch.zeros(1, device=weights.embedding.device)
        self._cosines = nothing if weights.cosines is None else weights.cosines.contiguous()
        self._sines = nothing if weights.sines is None else weights.sines.contiguous()
        self._layers = [_pack_layer(layer, parts) for layer in weights.layers]
        self._head = _pack(LinearWeights(weights.head, None), weights.final_norm)
        self._final_norm = weights.final_norm
        self._adapters = FusedAdapters(
            parts,
            weights,
            _orders(parts, has_head_norms=weights.layers[0].head_norms is not None),
            max_tokens=max_tokens,
            context_length=context_length,
            options=self._options,
        )
        self.weight_bytes = weights.num_bytes
        new = partial(weights.embedding.new_zeros, max_tokens)
        self._embedded = new(parts.hidden_size)
        self._states = new(parts.hidden_size)
        self._projected = new((parts.num_heads + 2 * parts.num_kv_heads) * parts.head_size)
        self._queries = new(parts.num_heads * parts.head_size)
        self._mixed = new(parts.num_heads * parts.head_size)
        self._activated = new(parts.intermediate_size)
        self._max_tiles = -(-context_length // attention.TILE)
        padded = max(32, triton.next_power_of_2(parts.head_size))
        partials = (max_rows, parts.num_kv_heads, self._max_tiles)
        float32: dict[str, Any] = {"dtype": torch.float32, "device": weights.embedding.device}
        self._partial_mixed = torch.zeros(*partials, attention.ROWS, padded, **float32)
        self._partial_scores = torch.zeros(*partials, 2, attention.ROWS, **float32)
        self._counters = torch.zeros(max_rows, parts.num_kv_heads, dtype=torch.int32, device=weights.embedding.device)
        self._head_options = {
            "NUM_HEADS": parts.num_heads,
            "NUM_KV_HEADS": parts.num_kv_heads,
            "HEAD_SIZE": parts.head_size,
        }
        self._attention_options = self._head_options | {"SIZE": padded, "num_warps": attention.WARPS, "num_stages": 1}
        self._head_options["BLOCK_TOKENS"] = BLOCK_TOKENS
        self._scale = parts.head_size**-0.5 * math.log2(math.e)

    def prepare_adapter(self, weights: AdapterWeights) -> FusedAdapter:
        """As `Decoder.prepare_adapter`."""
        return self._adapters.prepare(weights)

    def add_adapter(self, slot: int, prepared: PreparedAdapter) -> None:
        """As `Decoder.add_adapter`."""
        self._adapters.add(slot, prepared)

    def remove_adapter(self, slot: int) -> None:
        """As `Decoder.remove_adapter`."""
        self._adapters.remove(slot)

    def embed(self, inputs: StepInputs, previous: Tensor | None, runs: Sequence[AdapterTokens] = ()) -> None:
        """As `Decoder.embed`."""
        nothing = inputs.sources
        embedding.embed[(inputs.num_tokens,)](
            inputs.token_ids,
            inputs.sources,
            nothing if previous is None else previous,
            inputs.positions,
            self._embedding,
            self._embedding if self._positions is None else self._positions,
            self._embedded,
            HIDDEN_SIZE=self._parts.hidden_size,
            PADDED_SIZE=triton.next_power_of_2(self._parts.hidden_size),
            HAS_PREVIOUS=previous is not None,
            HAS_POSITIONS=self._positions is not None,
        )
        if any(self._adapters.embeddings(slot) for slot, _ in runs):
            token_ids = resolved_token_ids(inputs.token_ids, inputs.sources, previous)
            for slot, tokens in runs:
                states, positions = self._embedded[tokens], inputs.positions[tokens]
                self._adapters.embeddings(slot).add_to(states, token_ids[tokens], positions)

    def decode(self, inputs: StepInputs, num_keys: int, logits: Tensor, runs: Sequence[AdapterTokens] = ()) -> None:
        """As `Decoder.decode`."""
        num_heads = self._parts.num_kv_heads
        is_split = inputs.num_tokens * num_heads < MIN_ATTENTION_PROGRAMS
        num_tiles = -(-num_keys // attention.TILE) if is_split else 1

        def attend(layer: int) -> None:
            attention.decode_attention[(inputs.num_tokens, num_heads, num_tiles)](
                self._queries,
                self._cache.keys[layer],
                self._cache.values[layer],
                inputs.positions,
                inputs.table_rows,
                inputs.tables,
                self._mixed,
                self._partial_mixed,
                self._partial_scores,
                self._counters,
                inputs.tables.shape[1],
                self._max_tiles,
                self._scale,
                IS_SPLIT=is_split,
                **self._attention_options,
                **self._options,
            )

        self._compute(inputs, attend, has_adapters=bool(runs))
        self._write_logits(self._states, inputs.num_tokens, logits, inputs.slots if runs else None)

    def prompt(
        self,
        inputs: StepInputs,
        num_keys: int,  # noqa: ARG002 - as `Decoder`
        parts: list[PromptPart],  # noqa: ARG002
        runs: Sequence[AdapterTokens] = (),
    ) -> None:
        """As `Decoder.prompt`."""
        group = triton.next_power_of_2(self._parts.num_heads // self._parts.num_kv_heads)
        tokens = attention.ROWS // group

        def attend(layer: int) -> None:
            attention.prompt_attention[(inputs.num_tokens // tokens, self._parts.num_kv_heads)](
                self._queries,
                self._cache.keys[layer],
                self._cache.values[layer],
                inputs.positions,
                inputs.table_rows,
                inputs.tables,
                self._mixed,
                inputs.tables.shape[1],
                self._scale,
                TOKENS=tokens,
                **self._attention_options,
                **self._options,
            )

        self._compute(inputs, attend, has_adapters=bool(runs))

    def logits(self, tokens: Tensor, slots: Tensor, out: Tensor, runs: Sequence[AdapterTokens] = ()) -> Tensor:
        """As `Decoder.logits`."""
        self._write_logits(self._states.index_select(0, tokens), len(tokens), out, slots if runs else None)
        return out[: len(tokens)]

    def _compute(self, inputs: StepInputs, attend: Any, *, has_adapters: bool) -> None:
        """Compute all layers, from `_embedded` to `_states`."""

        def down(site: Site, x: Tensor, norm: NormWeights | None = None) -> Down | None:
            return self._down(site.of_layer(index), x, norm, slots, inputs.num_tokens)

        slots = inputs.slots if has_adapters else None
        states = self._embedded
        for index, layer in enumerate(self._layers):
            self._project(inputs, index, layer, states, down(Site.QUERY_KEY_VALUE, states, layer.attention_norm))
            attend(index)
            mixed = down(Site.ATTENTION_OUTPUT, self._mixed)
            self._add(layer.attention_output, self._mixed, states, inputs.num_tokens, mixed)
            states = self._states
            self._feed_forward(layer, inputs.num_tokens, down(Site.MLP_INPUT, states, layer.mlp_norm))
            activated = down(Site.MLP_OUTPUT, self._activated)
            self._add(layer.mlp_output, self._activated, states, inputs.num_tokens, activated)

    def _down(
        self, site: int, x: Tensor, norm: NormWeights | None, slots: Tensor | None, num_tokens: int
    ) -> Down | None:
        """Multiply by the matrices A of adapters; None without slots."""
        return None if slots is None else self._adapters.multiply_down(site, x, norm, slots, num_tokens)

    def _project(self, inputs: StepInputs, index: int, layer: FusedLayer, states: Tensor, down: Down | None) -> None:
        """Compute the queries, and store keys and values in the cache."""
        arguments = (
            *(self._cosines, self._sines, inputs.positions, inputs.table_rows, inputs.tables),
            *(self._queries, self._cache.keys[index], self._cache.values[index]),
        )
        is_rotary = self._positions is None
        if layer.head_norms is None:
            self._launch(
                linear.query_key_value,
                layer.query_key_value,
                inputs.num_tokens,
                (states, *_parts_of(layer.query_key_value), *arguments),
                (inputs.tables.shape[1], self._parts.norm_epsilon),
                down,
                NORM=self._norm,
                IS_ROTARY=is_rotary,
                **self._head_options,
            )
            return
        self._launch(
            linear.normed_product,
            layer.query_key_value,
            inputs.num_tokens,
            (states, *_parts_of(layer.query_key_value), self._projected),
            (self._parts.norm_epsilon,),
            down,
            NORM=self._norm,
            NUM_ROWS=self._projected.shape[1],
            ACTIVATION=linear.NO_ACTIVATION,
        )
        heads.norm_heads[(inputs.num_tokens, self._parts.num_heads + 2 * self._parts.num_kv_heads)](
            self._projected,
            layer.head_norms,
            *arguments,
            inputs.tables.shape[1],
            self._parts.norm_epsilon,
            IS_ROTARY=is_rotary,
            PADDED_HALF=triton.next_power_of_2(self._parts.head_size // 2),
            **self._head_options,
            **self._options,
        )

    def _add(self, matrix: PackedLinear, x: Tensor, before: Tensor, num_tokens: int, down: Down | None) -> None:
        """Set the states to those before plus a product."""
        self._launch(
            linear.add_product,
            matrix,
            num_tokens,
            (x, matrix.weight, matrix.weight if matrix.bias is None else matrix.bias, before, self._states),
            (),
            down,
            NUM_ROWS=self._parts.hidden_size,
        )

    def _feed_forward(self, layer: FusedLayer, num_tokens: int, down: Down | None) -> None:
        """Compute the first matrix of the feed-forward part and the activation after it."""
        self._launch(
            linear.normed_product,
            layer.mlp_input,
            num_tokens,
            (self._states, *_parts_of(layer.mlp_input), self._activated),
            (self._parts.norm_epsilon,),
            down,
            NORM=self._norm,
            NUM_ROWS=self._parts.intermediate_size,
            ACTIVATION=linear.SWIGLU if self._parts.mlp_kind is MlpKind.SWIGLU else linear.GELU,
        )

    def _write_logits(self, states: Tensor, num_tokens: int, out: Tensor, slots: Tensor | None) -> None:
        self._launch(
            linear.normed_product,
            self._head,
            num_tokens,
            (states, *_parts_of(self._head), out),
            (self._parts.norm_epsilon,),
            self._down(head_site(self._parts), states, self._final_norm, slots, num_tokens),
            NORM=self._norm,
            NUM_ROWS=self._parts.vocab_size,
            ACTIVATION=linear.NO_ACTIVATION,
        )

    def _launch(
        self,
        kernel: Any,
        matrix: PackedLinear,
        num_tokens: int,
        tensors: tuple[Tensor, ...],
        numbers: tuple[float, ...],
        down: Down | None,
        **options: int,
    ) -> None:
        """Launch a kernel of `linear` over all tiles of a matrix."""
        eights = _eights(matrix.num_tiles, num_tokens, matrix.padded_columns)
        kernel[(matrix.num_tiles, -(-num_tokens // (8 * eights)))](
            *tensors,
            *((matrix.weight,) * 5 if down is None else down.tensors),
            0 if down is None else down.site,
            num_tokens,
            *numbers,
            NUM_COLUMNS=matrix.num_columns,
            PADDED=matrix.padded_columns,
            HAS_BIAS=matrix.bias is not None,
            HAS_ADAPTERS=down is not None,
            **(NO_ADAPTERS if down is None else down.options),
            SPLITS=SPLITS,
            N8=eights,
            num_warps=SPLITS,
            num_stages=1,
            **options,
            **self._options,
        )


def _eights(num_tiles: int, num_tokens: int, num_columns: int) -> int:
    """Return how many groups of eight tokens a program computes: as few as possible, to have many programs."""
    at_once = min(num_columns, BLOCK * MAX_BLOCKS * SPLITS)
    fitting = [eights for eights in EIGHTS if eights == 1 or 8 * eights * at_once <= MAX_NUMBERS]
    for eights in fitting:
        if eights * 8 >= num_tokens or num_tiles * -(-num_tokens // (8 * eights)) <= MAX_PROGRAMS:
            return eights
    return fitting[-1]


def _check(parts: Architecture, dtype: torch.dtype) -> None:
    """Raise `UnsupportedModelError` if the kernels do not support the sizes or the format."""
    group = parts.num_heads // parts.num_kv_heads
    problems = {
        f"numbers in {dtype}": dtype not in FORMATS,
        f"heads of {parts.head_size} numbers": parts.head_size % 16 != 0 or parts.head_size > 256,
        f"{group} query heads for a key head": group > attention.ROWS,
        f"{parts.intermediate_size} inner numbers": parts.intermediate_size % 8 != 0,
    }
    if wrong := [what for what, is_wrong in problems.items() if is_wrong]:
        raise UnsupportedModelError(f"No fused kernels for {', '.join(wrong)}.")


def _parts_of(matrix: PackedLinear) -> tuple[Tensor, Tensor, Tensor]:
    """Return the matrix, its bias and the sums of its rows; a placeholder for those that it does not have."""
    weight = matrix.weight
    return (
        weight,
        weight if matrix.bias is None else matrix.bias,
        weight if matrix.row_sums is None else matrix.row_sums,
    )


def _pack(matrix: LinearWeights, norm: NormWeights | None) -> PackedLinear:
    if norm is None:
        return pack(matrix.weight, bias=matrix.bias)
    return pack(matrix.weight, bias=matrix.bias, norm=norm.weight, norm_bias=norm.bias)


def _orders(parts: Architecture, *, has_head_norms: bool) -> dict[Site, Order]:
    """Return the orders in which the kernels need the rows of matrices; those of others stay as they are."""
    orders: dict[Site, Order] = {}
    if not has_head_norms:
        orders[Site.QUERY_KEY_VALUE] = partial(paired_halves, head_size=parts.head_size)
    if parts.mlp_kind is MlpKind.SWIGLU:
        orders[Site.MLP_INPUT] = lambda rows: paired(*rows.chunk(2))
    return orders


def _pack_layer(layer: LayerWeights, parts: Architecture) -> FusedLayer:
    orders = _orders(parts, has_head_norms=layer.head_norms is not None)
    return FusedLayer(
        query_key_value=_pack(_ordered(layer.query_key_value, orders, Site.QUERY_KEY_VALUE), layer.attention_norm),
        attention_output=_pack(layer.attention_output, None),
        mlp_input=_pack(_ordered(layer.mlp_input, orders, Site.MLP_INPUT), layer.mlp_norm),
        mlp_output=_pack(layer.mlp_output, None),
        head_norms=None if layer.head_norms is None else layer.head_norms.float().contiguous(),
        attention_norm=layer.attention_norm,
        mlp_norm=layer.mlp_norm,
    )


def _ordered(matrix: LinearWeights, orders: Mapping[Site, Order], site: Site) -> LinearWeights:
    if site not in orders:
        return matrix
    order = orders[site]
    return LinearWeights(order(matrix.weight), None if matrix.bias is None else order(matrix.bias))
