"""Implements `ModelRunner` for accelerators."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from worker.engine.checkpoints.architecture import Architecture, describe
from worker.engine.checkpoints.checkpoint import Checkpoint
from worker.engine.config import RunnerConfig
from worker.engine.device.adapters import NO_ADAPTER, AdapterTokens, runs_of
from worker.engine.device.cache import BLOCK_TOKENS, PagedCache
from worker.engine.device.decoder import Decoder, PromptPart, TorchDecoder
from worker.engine.device.errors import device_errors
from worker.engine.device.graphs import CudaGraphs, PlainSteps, StepCapture
from worker.engine.device.step_inputs import KNOWN, UNUSED, InputBuffers
from worker.engine.device.steps import Steps
from worker.engine.device.transfers import to_device
from worker.engine.device.weights import DecoderWeights, WeightsReader
from worker.engine.kv_cache.budget import affordable_blocks, sequence_bytes
from worker.engine.lora import AdapterWeights
from worker.engine.model_runner import OutOfMemoryError, PreparedAdapter, Row, UnsupportedModelError
from worker.engine.sequence import BASE_ADAPTER

logger = logging.getLogger(__name__)

MAX_PROMPT_TOKENS = 1024  # per step; longer prompts take several steps
MIXED_CHUNK = 256  # the time of a step hardly depends on the number of its tokens
OVERLAP_CAPABILITY = (9, 0)  # since then a CUDA kernel can start before the previous one has ended


class DeviceRunner:
    """Runs a Llama-like model or GPT-2 on an accelerator, in the number format of its weights.

    All decode rows form one captured step, and the parts of prompts another. No method waits for the device, except to
    capture a step. On a CUDA device with a 16-bit format we use our own kernels (`fused`), with which a token's logits
    are bitwise the same alone, in any batch and with any parts of its prompt.

    Args:
        model_config: the model's `PreTrainedConfig`.
        tensors: the checkpoint's tensors by their names in transformers.
        config: its limits.
        device: where to compute.
        dtype: number format of weights, keys and values.
        capturer: captures the steps; default: CUDA graphs on a CUDA device.
        is_fused: whether to use our own kernels; default: if they can run.

    Raises:
        UnsupportedModelError: the runner does not support this model.
        CacheTooSmall: `kv_bytes` does not hold one full sequence.
        OutOfMemoryError: the device does not have enough memory for weights and cache.
    """

    mixed_chunk = short_prompt = MIXED_CHUNK
    block_tokens = BLOCK_TOKENS
    max_draft_tokens = 0

    def __init__(
        self,
        model_config: Any,
        tensors: Mapping[str, Tensor],
        config: RunnerConfig,
        *,
        device: torch.device,
        dtype: torch.dtype,
        capturer: StepCapture | None = None,
        is_fused: bool | None = None,
    ) -> None:
        parts = describe(model_config)
        self.max_num_seqs = max_num_seqs = config.max_num_seqs
        self.context_length = context_length = config.context_length
        self.vocab_size = parts.vocab_size
        table_length = -(-context_length // BLOCK_TOKENS)
        self.num_blocks = affordable_blocks(
            sequence_bytes(model_config, BLOCK_TOKENS, dtype.itemsize), table_length, config
        )
        self.can_overlap = device.type == "cuda"
        self._device = device
        self._slots = {BASE_ADAPTER: NO_ADAPTER}  # of adapters by their ids
        with device_errors(), torch.inference_mode():
            weights = WeightsReader(parts, Checkpoint(parts, tensors, dtype, device)).read(model_config, context_length)
            self._cache = PagedCache(
                num_layers=len(parts.layers),
                num_blocks=self.num_blocks,
                num_heads=parts.num_kv_heads,
                head_size=parts.head_size,
                dtype=dtype,
                device=device,
            )
            self._decoder = self._make_decoder(parts, weights, is_fused)
            self._logits = torch.zeros(max_num_seqs, parts.vocab_size, dtype=self._decoder.logits_dtype, device=device)
            self._inputs = InputBuffers(
                device,
                max_tokens=max(max_num_seqs, self._max_prompt_tokens),
                max_rows=max_num_seqs,
                table_length=table_length,
                unused_block=self._cache.unused_block,
            )
            self._steps = Steps(
                self._decoder,
                self._inputs,
                self._logits,
                max_tokens=self._max_prompt_tokens,
                context_length=context_length,
                capturer=capturer or _best_capturer(device),
            )
        self.weight_bytes = self._decoder.weight_bytes  # minimum that a step reads
        self.item_bytes = dtype.itemsize  # size of a number in weights, keys and values
        logger.info(
            "Device runner (%s): %.0f MB of weights in %s, %d sequences over %d blocks of %d tokens, %.0f MB in all.",
            *(
                type(self._decoder).__name__,
                self.weight_bytes / 1e6,
                dtype,
                max_num_seqs,
                self.num_blocks,
                BLOCK_TOKENS,
            ),
            self._cache.num_bytes / 1e6,
        )

    def warm_up(self) -> None:
        """Capture the steps that are needed first, so that requests do not wait for them later."""
        with device_errors(), torch.inference_mode():
            self._steps.warm_up()

    def forward(self, rows: list[Row], previous: Tensor | None = None) -> Tensor:
        """As `OverlapRunner.forward`; [number of rows with `needs_logits`, vocab_size].

        The next forward may reuse their memory; it waits until all work that was started before has read them.

        Raises:
            ValueError: a row has no token, a token outside the vocabulary, or more tokens than the context.
        """
        self._check(rows)
        with device_errors(), torch.inference_mode():
            return self._forward(rows, previous)

    def copy_block(self, source: int, target: int, num_tokens: int) -> None:
        """As `ModelRunner.copy_block`."""
        with device_errors(), torch.inference_mode():
            self._cache.copy(source, target, num_tokens)

    @property
    def adapters(self) -> Collection[str]:
        """As `ModelRunner.adapters`."""
        return self._slots.keys()

    def prepare_adapter(self, weights: AdapterWeights) -> PreparedAdapter:
        """As `ModelRunner.prepare_adapter`."""
        with device_errors(), torch.inference_mode():
            return self._decoder.prepare_adapter(weights)

    def add_adapter(self, adapter_id: str, prepared: PreparedAdapter) -> None:
        """As `ModelRunner.add_adapter`.

        Raises:
            OutOfMemoryError: also if all slots are taken.
        """
        if adapter_id in self._slots:
            raise ValueError(f"There is an adapter {adapter_id!r} already.")
        slot = next(slot for slot in count() if slot not in self._slots.values())
        if slot > self._decoder.max_adapters:
            raise OutOfMemoryError(f"There is room for {self._decoder.max_adapters} adapters at once.")
        with device_errors(), torch.inference_mode():
            self._decoder.add_adapter(slot, prepared)
        self._slots[adapter_id] = slot

    def remove_adapter(self, adapter_id: str) -> None:
        """As `ModelRunner.remove_adapter`."""
        if adapter_id == BASE_ADAPTER or adapter_id not in self._slots:
            raise ValueError(f"There is no adapter {adapter_id!r}.")
        self._decoder.remove_adapter(self._slots.pop(adapter_id))

    def close(self) -> None:
        """Free weights, cache and captured steps."""
        del self._steps, self._decoder, self._cache, self._logits

    @property
    def _max_prompt_tokens(self) -> int:
        multiple = self._decoder.token_multiple
        return min(MAX_PROMPT_TOKENS, -(-self.context_length // multiple) * multiple)

    def _make_decoder(self, parts: Architecture, weights: DecoderWeights, is_fused: bool | None) -> Decoder:
        """Return the fused decoder if it can run; raise `UnsupportedModelError` if it must run but cannot."""
        if is_fused or (is_fused is None and self._device.type == "cuda"):
            try:
                from worker.engine.device.fused.decoder import FusedDecoder

                return FusedDecoder(
                    parts,
                    weights,
                    self._cache,
                    max_tokens=max(self.max_num_seqs, MAX_PROMPT_TOKENS),
                    max_rows=self.max_num_seqs,
                    context_length=self.context_length,
                    overlaps=self._device.type == "cuda"
                    and torch.cuda.get_device_capability(self._device) >= OVERLAP_CAPABILITY,
                )
            except (ImportError, UnsupportedModelError) as err:
                if is_fused:
                    raise
                logger.warning("The model runs with torch operations, which are slower: %s", err)
        return TorchDecoder(parts, weights, self._cache, max_tokens=max(self.max_num_seqs, MAX_PROMPT_TOKENS))

    def _check(self, rows: list[Row]) -> None:
        """Check the inputs that the device does not check: an index out of range would make it unusable."""
        for row in rows:
            end = row.start + len(row.token_ids)
            if not row.token_ids or end > self.context_length:
                raise ValueError(
                    f"A row has {row.start} + {len(row.token_ids)} tokens; it must add at least 1 and fit the context."
                )
            if row.adapter not in self._slots:
                raise ValueError(f"There is no adapter {row.adapter!r}.")
            if len(row.blocks) * BLOCK_TOKENS < end:
                raise ValueError(f"A row has {len(row.blocks)} blocks for its {end} tokens.")
        tokens = [token for row in rows for token in row.token_ids]
        if not 0 <= min(tokens) <= max(tokens) < self.vocab_size:
            raise ValueError(f"A token is not in the vocabulary of {self.vocab_size}.")

    def _forward(self, rows: list[Row], previous: Tensor | None) -> Tensor:
        decoding = [index for index, row in enumerate(rows) if len(row.token_ids) == 1]
        prompts = [index for index, row in enumerate(rows) if len(row.token_ids) > 1]
        computed: list[Tensor] = []
        order: list[int] = []  # row index of each computed logits vector
        for indices, compute in ((decoding, self._decode), (prompts, self._prompt)):
            if indices:
                computed.append(compute([rows[index] for index in indices], previous))
                order += [index for index in indices if rows[index].needs_logits]
        logits = computed[0] if len(computed) == 1 else torch.cat(computed)
        return self._take(logits, sorted(range(len(order)), key=order.__getitem__))

    def _decode(self, rows: list[Row], previous: Tensor | None) -> Tensor:
        """Compute rows with one token; return the logits of those that need them."""
        num_unused = self._steps.num_rows(len(rows)) - len(rows)
        sources = [KNOWN if row.source is None else row.source for row in rows]
        if previous is None and max(sources) >= 0:
            raise ValueError("A row's token comes from samples that were not given.")
        slots = [self._slots[row.adapter] for row in rows]
        runs = runs_of(slots)
        columns = (
            [row.token_ids[0] for row in rows] + [0] * num_unused,
            sources + [KNOWN] * num_unused,
            [row.start for row in rows] + [UNUSED] * num_unused,
            range(len(rows) + num_unused),
            slots + [NO_ADAPTER] * num_unused,
        )
        self._embed(columns, [row.blocks for row in rows] + [()] * num_unused, previous, runs)
        logits = self._steps.decode(len(rows) + num_unused, max(row.start for row in rows) + 1, runs)
        return self._take(logits, [index for index, row in enumerate(rows) if row.needs_logits])

    def _prompt(self, rows: list[Row], _previous: Tensor | None) -> Tensor:
        """Compute parts of prompts in one or more steps; return the logits of those that need them."""
        computed = [self._prompt_step(step) for step in self._prompt_steps(rows)]
        return computed[0] if len(computed) == 1 else torch.cat(computed)

    def _prompt_steps(self, rows: list[Row]) -> Iterable[list[Row]]:
        """Split the rows so that no step has too many tokens. Only the last part of a row needs logits."""
        step: list[Row] = []
        room = self._max_prompt_tokens
        for row in rows:
            begin = 0
            while begin < len(row.token_ids):
                count = min(len(row.token_ids) - begin, room)
                is_last = begin + count == len(row.token_ids)
                step.append(
                    Row(
                        row.blocks,
                        row.token_ids[begin : begin + count],
                        row.start + begin,
                        row.adapter,
                        needs_logits=is_last and row.needs_logits,
                    )
                )
                begin += count
                room -= self._padded(count)
                if room <= 0:
                    yield step
                    step, room = [], self._max_prompt_tokens
        if step:
            yield step

    def _padded(self, count: int) -> int:
        multiple = self._decoder.token_multiple
        return -(-count // multiple) * multiple

    def _prompt_step(self, rows: list[Row]) -> Tensor:
        parts: list[PromptPart] = []
        begin = 0
        for index, row in enumerate(rows):
            parts.append(PromptPart(begin, len(row.token_ids), index))
            begin += self._padded(len(row.token_ids))
        num_tokens = self._steps.num_tokens(begin)
        token_ids, positions, table_rows = [0] * num_tokens, [UNUSED] * num_tokens, [0] * num_tokens
        slots = [NO_ADAPTER] * num_tokens
        for part, row in zip(parts, rows, strict=True):
            own = slice(part.begin, part.begin + part.num_tokens)
            token_ids[own] = row.token_ids
            positions[own] = range(row.start, row.start + part.num_tokens)
            table_rows[own] = [part.table_row] * part.num_tokens
            slots[own] = [self._slots[row.adapter]] * part.num_tokens
        columns = (token_ids, [KNOWN] * num_tokens, positions, table_rows, slots)
        runs = runs_of(slots)
        self._embed(columns, [row.blocks for row in rows], None, runs)
        self._steps.prompt(num_tokens, max(row.start + len(row.token_ids) for row in rows), parts, runs)
        ends = [part.begin + part.num_tokens - 1 for part, row in zip(parts, rows, strict=True) if row.needs_logits]
        return self._prompt_logits(ends, [slots[end] for end in ends])

    def _prompt_logits(self, tokens: list[int], slots: list[int]) -> Tensor:
        """Return the logits of some tokens of the last prompt step with their adapters."""
        out = torch.empty(len(tokens), self.vocab_size, dtype=self._logits.dtype, device=self._device)
        if not tokens:
            return out
        both = to_device(torch.tensor([tokens, slots], dtype=torch.int32), self._device)
        return self._decoder.logits(both[0], both[1], out, runs_of(slots))

    def _embed(
        self,
        columns: tuple[Iterable[int], ...],
        blocks: list[tuple[int, ...]],
        previous: Tensor | None,
        runs: Sequence[AdapterTokens],
    ) -> None:
        """Copy a step's inputs to the device and look up the embeddings."""
        lists = [list(column) for column in columns]
        self._inputs.set(lists, blocks)
        self._decoder.embed(self._inputs.views(len(lists[0]), len(blocks)), previous, runs)

    def _take(self, values: Tensor, indices: list[int]) -> Tensor:
        """Return the rows of values [n, m] with these indices; without a copy if the indices are 0, 1, 2, ..."""
        if indices == list(range(len(indices))):
            return values[: len(indices)]
        return values.index_select(0, to_device(torch.tensor(indices), self._device))


def _best_capturer(device: torch.device) -> StepCapture:
    return CudaGraphs(device) if device.type == "cuda" else PlainSteps()
