"""Runs any causal language model of transformers through its own modelling code."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from worker.engine.config import RunnerConfig
from worker.engine.device.errors import device_errors
from worker.engine.kv_cache.budget import affordable_sequences
from worker.engine.lora import AdapterWeights
from worker.engine.model_runner import PreparedAdapter, Row, UnsupportedModelError
from worker.engine.runners.transformers.adapters import RowAdapters
from worker.engine.runners.transformers.cache import SequenceCache
from worker.engine.sequence import BASE_ADAPTER

CPU_MIXED_CHUNK, GPU_MIXED_CHUNK = 32, 256  # tokens
FULL, SLIDING = "full_attention", "sliding_attention"
# Their modelling code derives its own masks from the number of keys, as if all rows were as long as the longest.
SINGLE_ROW_MODEL_TYPES = frozenset({"gpt_neo"})


class TransformersRunner:
    """A `ModelRunner` for a `PreTrainedModel`.

    All decode rows form one forward, whatever their adapters; each prefill row is a separate forward, so that rows are
    never padded. A block holds a whole sequence. A row's logits are the same in every batch up to the rounding of
    torch's products; adding an adapter to other rows does not change a bit of it.

    Args:
        model: in evaluation mode, on its device.
        config: the limits. `num_threads` and `build_dir` are not used.

    Raises:
        UnsupportedModelError: the architecture has an unknown kind of attention.
        CacheTooSmall: `kv_bytes` does not hold one full sequence.
    """

    max_draft_tokens = 0
    can_overlap = False

    def __init__(self, model: Any, config: RunnerConfig) -> None:
        text_config = model.config.get_text_config()
        self.max_num_seqs = config.max_num_seqs
        self.context_length = self.block_tokens = config.context_length
        self.num_blocks = affordable_sequences(text_config, model.dtype, config)
        # On a GPU the time of a step hardly depends on the number of its tokens.
        self.mixed_chunk = self.short_prompt = CPU_MIXED_CHUNK if model.device.type == "cpu" else GPU_MIXED_CHUNK
        self.vocab_size: int = model.get_input_embeddings().num_embeddings
        self._model = model
        self._device, self._dtype = model.device, model.dtype
        self._windows = attention_windows(text_config)
        self._batches_decodes = text_config.model_type not in SINGLE_ROW_MODEL_TYPES
        self._adapters = RowAdapters(model)
        self._cache = SequenceCache(self.num_blocks, config.context_length)
        # Logits for all tokens of a prompt would be the largest tensor of the step.
        has_option = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._options = {"logits_to_keep": 1} if has_option else {}

    def forward(self, rows: list[Row]) -> Tensor:
        """As `ModelRunner.forward`; [number of rows with `needs_logits`, vocab_size]."""
        with device_errors(), torch.inference_mode():
            return self._forward(rows)

    def copy_block(self, source: int, target: int, num_tokens: int) -> None:
        """As `ModelRunner.copy_block`."""
        with device_errors(), torch.inference_mode():
            self._cache.copy(source, target, num_tokens)

    @property
    def adapters(self) -> Collection[str]:
        """As `ModelRunner.adapters`."""
        return self._adapters.ids

    def prepare_adapter(self, weights: AdapterWeights) -> PreparedAdapter:
        """As `ModelRunner.prepare_adapter`."""
        with device_errors(), torch.inference_mode():
            return self._adapters.prepare(weights)

    def add_adapter(self, adapter_id: str, prepared: PreparedAdapter) -> None:
        """As `ModelRunner.add_adapter`."""
        self._adapters.add(adapter_id, prepared)

    def remove_adapter(self, adapter_id: str) -> None:
        """As `ModelRunner.remove_adapter`."""
        self._adapters.remove(adapter_id)

    def close(self) -> None:
        """Free model and cache."""
        del self._model, self._cache, self._adapters

    def _forward(self, rows: list[Row]) -> Tensor:
        logits: dict[int, Tensor] = {}  # by block
        for group in self._groups(rows):
            for row, row_logits in zip(group, self._compute(group), strict=True):
                logits[_block(row)] = row_logits
        wanted = [logits[_block(row)] for row in rows if row.needs_logits]
        return torch.stack(wanted) if wanted else torch.empty(0, self.vocab_size)

    def _groups(self, rows: list[Row]) -> list[list[Row]]:
        """Group the rows into forwards, each with rows of the same length."""
        decodes = [row for row in rows if len(row.token_ids) == 1]
        others = [[row] for row in rows if len(row.token_ids) > 1]
        if not self._batches_decodes:
            return others + [[row] for row in decodes]
        return others + self._decode_groups(sorted(decodes, key=_block))

    def _decode_groups(self, rows: list[Row]) -> list[list[Row]]:
        """Group rows with one token: all together, except those whose adapters need forwards of their own."""
        groups: dict[str, list[Row]] = {}
        for row in rows:
            own = BASE_ADAPTER if self._adapters.keeps_rows_apart(row.adapter) else row.adapter
            groups.setdefault(own, []).append(row)
        return list(groups.values())

    def _compute(self, rows: list[Row]) -> Tensor:
        """Run one forward; return the logits after each row's last token: [rows, vocab_size]."""
        for row in rows:
            if row.start == 0:
                self._cache.clear(_block(row))
        token_ids = torch.tensor([row.token_ids for row in rows], device=self._device)
        starts = torch.tensor([[row.start] for row in rows], device=self._device)
        positions = starts + torch.arange(token_ids.shape[1], device=self._device)  # [rows, tokens]
        self._cache.set_rows([_block(row) for row in rows], positions)
        with self._adapters.applied([row.adapter for row in rows]):
            logits: Tensor = self._model(
                input_ids=token_ids,
                position_ids=positions,
                attention_mask=self._masks(positions),
                past_key_values=self._cache,
                use_cache=True,
                **self._options,
            ).logits
        return logits[:, -1]

    def _masks(self, positions: Tensor) -> Tensor | dict[str, Tensor]:
        """Return the attention mask, or one per kind of layer if the model has two kinds."""
        masks = {
            kind: causal_mask(positions, self._cache.num_positions, window, self._dtype)
            for kind, window in self._windows.items()
        }
        return masks if len(masks) > 1 else next(iter(masks.values()))


def attention_windows(config: Any) -> dict[str, int | None]:
    """Return the kinds of attention layers of a model, and the window of each in tokens (None: unlimited).

    Raises:
        UnsupportedModelError: a layer is neither full nor sliding-window attention.
    """
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or [SLIDING if window else FULL])
    if not kinds <= {FULL, SLIDING}:
        unknown = ", ".join(sorted(kinds - {FULL, SLIDING}))
        raise UnsupportedModelError(f"The model type {config.model_type} has layers of an unknown kind: {unknown}.")
    return {kind: window if kind == SLIDING else None for kind in sorted(kinds)}


def causal_mask(positions: Tensor, num_positions: int, window: int | None, dtype: torch.dtype) -> Tensor:
    """Return an additive mask (0 or the minimum): [rows, 1, tokens, num_positions] for positions [rows, tokens]."""
    distance = positions[:, None, :, None] - torch.arange(num_positions, device=positions.device)
    is_hidden = distance < 0
    if window is not None:
        is_hidden |= distance >= window
    return torch.zeros(is_hidden.shape, dtype=dtype, device=positions.device).masked_fill_(
        is_hidden, torch.finfo(dtype).min
    )


def _block(row: Row) -> int:
    return row.blocks[0]
