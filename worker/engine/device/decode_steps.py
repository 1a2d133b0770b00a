"""One more token for many slots at once, in a few fixed shapes."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from functools import partial
from itertools import product

import torch
from torch import Tensor

from worker.engine.device.cache import DeviceCache, Places
from worker.engine.device.decoder import Decoder
from worker.engine.device.graphs import Step, StepRecorder

logger = logging.getLogger(__name__)

MIN_KEYS = 256  # the fewest keys that a step reads of each slot; it doubles from there
MAX_WARM_KEYS = 1024  # steps up to this many are recorded before the first is needed


class DecodeSteps:
    """Steps over the first 1, 2, 4, ... slots that read 256, 512, ... keys of each. Row i of a step is slot i.

    Args:
        decoder: computes them.
        cache: of the decoder.
        num_slots: most rows of a step.
        logits: [num_slots, vocab_size], where the steps leave theirs.
        recorder: makes a step fast.
    """

    def __init__(
        self, decoder: Decoder, cache: DeviceCache, num_slots: int, logits: Tensor, recorder: StepRecorder
    ) -> None:
        self._decoder = decoder
        self._logits = logits
        self._recorder = recorder
        self._row_counts = doublings(1, num_slots)
        self._key_counts = doublings(MIN_KEYS, cache.dump)
        # What a recorded step reads stays where it is. At first no row counts.
        self._token_ids = torch.zeros(num_slots, dtype=torch.long, device=logits.device)
        self._positions = torch.full_like(self._token_ids, cache.dump)
        self._slots = torch.arange(num_slots, device=logits.device)
        self._steps: dict[tuple[int, int], Step] = {}

    def num_rows(self, count: int) -> int:
        """Rows of the step that computes so many."""
        return self._row_counts[bisect_left(self._row_counts, count)]

    def run(self, token_ids: Tensor, positions: Tensor, num_keys: int) -> Tensor:
        """One step.

        Args:
            token_ids: [rows], as many as `num_rows` says.
            positions: [rows]; the cache's `dump` for those that do not count.
            num_keys: more than the largest position that counts.

        Returns:
            The logits, [rows, vocab_size]: the next step overwrites them.
        """
        num_rows = len(token_ids)
        self._token_ids[:num_rows].copy_(token_ids)
        self._positions[:num_rows].copy_(positions)
        self._step(num_rows, self._key_counts[bisect_left(self._key_counts, num_keys)])()
        return self._logits[:num_rows]

    def warm_up(self) -> None:
        """Record the steps that are needed first, the largest first: they settle how much memory all of them need."""
        start = time.perf_counter()
        key_counts = [count for count in self._key_counts if count <= MAX_WARM_KEYS] or self._key_counts[:1]
        for num_rows, num_keys in product(reversed(self._row_counts), reversed(key_counts)):
            self._step(num_rows, num_keys)
        logger.info("Prepared %d decode steps in %.1f s.", len(self._steps), time.perf_counter() - start)

    def _step(self, num_rows: int, num_keys: int) -> Step:
        key = num_rows, num_keys
        if key not in self._steps:
            self._steps[key] = self._recorder.record(partial(self._compute, num_rows, num_keys))
        return self._steps[key]

    def _compute(self, num_rows: int, num_keys: int) -> None:
        places = Places(
            slots=self._slots[:num_rows],
            read_slots=slice(num_rows),
            positions=self._positions[:num_rows, None],
            num_keys=num_keys,
        )
        states = self._decoder.states(self._token_ids[:num_rows, None], places)
        self._decoder.logits(states[:, 0], out=self._logits[:num_rows])


def doublings(first: int, last: int) -> list[int]:
    """first, 2 * first, 4 * first, ... as far as they are below `last`, and `last`."""
    counts = []
    while first < last:
        counts.append(first)
        first *= 2
    return [*counts, last]
