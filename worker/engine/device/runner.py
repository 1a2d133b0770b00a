"""The `ModelRunner` for accelerators."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from worker.engine.architecture import describe
from worker.engine.checkpoint import Checkpoint
from worker.engine.device.cache import DeviceCache, Places
from worker.engine.device.decode_steps import DecodeSteps
from worker.engine.device.decoder import Decoder
from worker.engine.device.graphs import CudaGraphs, PlainSteps, StepRecorder
from worker.engine.device.slot_map import SlotMap
from worker.engine.device.weights import WeightsReader
from worker.engine.device_errors import device_errors
from worker.engine.kv_budget import affordable_sequences
from worker.engine.model_runner import Row
from worker.engine.sequence import BASE_ADAPTER
from worker.engine.transfers import to_device

logger = logging.getLogger(__name__)

MIXED_CHUNK = 256  # a step's time hardly depends on the number of its tokens
MIN_PREFILL = 16  # tokens: shorter parts of prompts are computed as if they had so many
KEYS_MULTIPLE = 64  # prefills read multiples of so many keys, which matrix products like better than odd numbers


class DeviceRunner:
    """Runs a Llama-like model or GPT-2 on an accelerator, in the number format of its weights.

    All decode rows are one recorded step over the first slots; parts of prompts of about one length are one forward.
    A slot, which holds a whole sequence, is one block of the engine's; the contents of two slots change places where a
    decode step needs one that is not among the first. No method waits for the device, save to record a step.

    Args:
        config: the model's `PreTrainedConfig`.
        tensors: the checkpoint's tensors by their names in transformers, adapters merged (all rows use them).
        device: where to compute.
        dtype: number format of weights, keys and values.
        num_slots: sequences that can run at once.
        context_length: most tokens of one sequence.
        kv_bytes: most memory for keys and values; default: what `num_slots` full sequences need.
        recorder: makes decode steps fast; default: CUDA graphs on a CUDA device.

    Raises:
        UnsupportedModelError: it does not compute this model.
        CacheTooSmall: `kv_bytes` does not hold one full sequence.
        OutOfMemoryError: the device has no room for weights and cache.
    """

    adapters = frozenset({BASE_ADAPTER})
    mixed_chunk = short_prompt = MIXED_CHUNK
    max_guesses = 0

    def __init__(
        self,
        config: Any,
        tensors: Mapping[str, Tensor],
        *,
        device: torch.device,
        dtype: torch.dtype,
        num_slots: int,
        context_length: int,
        kv_bytes: int | None = None,
        recorder: StepRecorder | None = None,
    ) -> None:
        parts = describe(config)
        self.num_slots = num_slots
        self.context_length = self.block_tokens = context_length
        self.vocab_size = parts.vocab_size
        self.num_blocks = affordable_sequences(config, dtype, num_slots, context_length, kv_bytes)
        self.is_asynchronous = device.type == "cuda"
        self._device = device
        with device_errors(), torch.inference_mode():
            weights = WeightsReader(parts, Checkpoint(parts, tensors, dtype, device)).read(config, context_length)
            shape = (len(parts.layers), self.num_blocks, parts.num_kv_heads, context_length, parts.head_size)
            self._cache = DeviceCache(shape, dtype=dtype, device=device)
            self._decoder = Decoder(parts, weights, self._cache)
            logits = torch.zeros(self.num_blocks, parts.vocab_size, dtype=dtype, device=device)
            self._steps = DecodeSteps(
                self._decoder, self._cache, self.num_blocks, logits, recorder or _best_recorder(device)
            )
        self.weight_bytes = weights.num_bytes  # that a step reads at least
        self.item_bytes = dtype.itemsize  # of one number in weights, keys and values
        logger.info(
            "Device runner: %.0f MB of weights in %s, %d slots of %d tokens, %.0f MB of keys and values.",
            *(self.weight_bytes / 1e6, dtype, self.num_blocks, context_length, self._cache.num_bytes / 1e6),
        )
        self._map = SlotMap(self.num_blocks)
        self._written = [0] * self.num_blocks  # by block, the positions that may be other than zero

    def warm_up(self) -> None:
        """Record the decode steps that are needed first, so that nobody waits for them later."""
        with device_errors(), torch.inference_mode():
            self._steps.warm_up()

    def forward(self, rows: list[Row], previous: Tensor | None = None) -> Tensor:
        """As `AsynchronousRunner.forward`; [number of rows with `needs_logits`, vocab_size].

        They are in memory that the next forward may use again, for which it waits until what was started before has
        read them.

        Raises:
            ValueError: a row has no token, one that the vocabulary has not, or more than the context holds.
        """
        for row in rows:
            self._check(row)
        with device_errors(), torch.inference_mode():
            return self._forward(rows, previous)

    def copy_block(self, source: int, target: int, num_tokens: int) -> None:
        """As `ModelRunner.copy_block`."""
        with device_errors(), torch.inference_mode():
            self._open(target)
            self._cache.copy(self._map.slot(source), self._map.slot(target), num_tokens)
            self._written[target] = num_tokens

    def close(self) -> None:
        """Drop weights, cache and recorded steps."""
        del self._steps, self._decoder, self._cache

    def _check(self, row: Row) -> None:
        """What the device takes on trust: reading beyond a table's end would be the end of it."""
        if not row.token_ids or row.start + len(row.token_ids) > self.context_length:
            raise ValueError(
                f"A row has {row.start} + {len(row.token_ids)} tokens; there is room for 1 to the context."
            )
        row.check_tokens(self.vocab_size)

    def _forward(self, rows: list[Row], previous: Tensor | None) -> Tensor:
        groups: dict[int, list[int]] = {}  # by length, the indices of rows
        for index, row in enumerate(rows):
            groups.setdefault(_computed_length(row), []).append(index)
        computed: list[Tensor] = []
        order: list[int] = []  # indices of the rows that the computed logits are of
        for length, indices in groups.items():
            group = [rows[index] for index in indices]
            computed.append(self._decode(group, previous) if length == 1 else self._prefill(group, length))
            order += [index for index in indices if rows[index].needs_logits]
        logits = computed[0] if len(computed) == 1 else torch.cat(computed)
        return self._take(logits, sorted(range(len(order)), key=order.__getitem__))

    def _decode(self, rows: list[Row], previous: Tensor | None) -> Tensor:
        """Compute rows of one token; the logits of those that need them."""
        num_rows = self._steps.num_rows(len(rows))
        self._move_to_first([row.blocks[0] for row in rows], num_rows)
        slots = [self._map.slot(row.blocks[0]) for row in rows]
        token_ids, positions, sources = [0] * num_rows, [self._cache.dump] * num_rows, [-1] * num_rows
        for slot, row in zip(slots, rows, strict=True):
            self._note(row)
            token_ids[slot], positions[slot] = row.token_ids[0], row.start
            sources[slot] = -1 if row.source is None else row.source
        inputs = to_device(torch.tensor([token_ids, positions, sources]), self._device)  # [3, rows]
        tokens = inputs[0]
        if max(sources) >= 0:
            if previous is None:
                raise ValueError("A row's token is among samples that were not given.")
            tokens = torch.where(inputs[2] < 0, inputs[0], previous[inputs[2].clamp(min=0)])
        logits = self._steps.run(tokens, inputs[1], max(row.start for row in rows) + 1)
        return self._take(logits, [slot for slot, row in zip(slots, rows, strict=True) if row.needs_logits])

    def _prefill(self, rows: list[Row], length: int) -> Tensor:
        """Compute parts of prompts as if each had `length` tokens; the logits of those that need them."""
        for row in rows:
            self._note(row)
        slots = [self._map.slot(row.blocks[0]) for row in rows]
        token_ids = [[*row.token_ids, *[0] * (length - len(row.token_ids))] for row in rows]
        positions = [self._positions(row, length) for row in rows]
        inputs = to_device(torch.tensor([token_ids, positions]), self._device)  # [2, rows, length]
        longest = max(row.start + len(row.token_ids) for row in rows)
        slot_index = to_device(torch.tensor(slots), self._device)
        places = Places(
            slots=slot_index,
            read_slots=slice(slots[0], slots[0] + 1) if len(slots) == 1 else slot_index,
            positions=inputs[1],
            num_keys=min(-(-longest // KEYS_MULTIPLE) * KEYS_MULTIPLE, self.context_length),
        )
        states = self._decoder.states(inputs[0], places).flatten(0, 1)
        ends = [index * length + len(row.token_ids) - 1 for index, row in enumerate(rows) if row.needs_logits]
        return self._decoder.logits(self._take(states, ends))

    def _positions(self, row: Row, length: int) -> list[int]:
        end = row.start + len(row.token_ids)
        return [*range(row.start, end), *[self._cache.dump] * (length - len(row.token_ids))]

    def _note(self, row: Row) -> None:
        """Prepare a row's slot for its tokens."""
        block = row.blocks[0]
        if row.start == 0:
            self._open(block)
        self._written[block] = max(self._written[block], row.start + len(row.token_ids))

    def _open(self, block: int) -> None:
        """Clear a block for a new sequence: what is left of the last one might be NaN."""
        if self._written[block]:
            self._cache.clear(self._map.slot(block), self._written[block])
        self._written[block] = 0

    def _move_to_first(self, blocks: list[int], num_first: int) -> None:
        """Have the blocks in the first slots."""
        for first, second in self._map.exchanges(blocks, num_first):
            length = max(self._written[self._map.block(slot)] for slot in (first, second))
            self._cache.exchange(first, second, length)
            self._map.exchange(first, second)

    def _take(self, values: Tensor, indices: list[int]) -> Tensor:
        """Rows of values [n, m] in the order of the indices; no copy where they are the first ones in their order."""
        if indices == list(range(len(indices))):
            return values[: len(indices)]
        return values.index_select(0, to_device(torch.tensor(indices), self._device))


def _computed_length(row: Row) -> int:
    """How many tokens are computed for a row: 1, or 16, 32, 64, ... so that few lengths occur."""
    count = len(row.token_ids)
    return 1 if count == 1 else max(MIN_PREFILL, 1 << (count - 1).bit_length())


def _best_recorder(device: torch.device) -> StepRecorder:
    return CudaGraphs(device) if device.type == "cuda" else PlainSteps()
