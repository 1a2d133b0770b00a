"""Runs steps in a few fixed shapes, each captured once."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

from torch import Tensor

from worker.engine.device.adapters import NO_ADAPTER, AdapterTokens
from worker.engine.device.decoder import Decoder, PromptPart
from worker.engine.device.graphs import Step, StepCapture
from worker.engine.device.step_inputs import InputBuffers

logger = logging.getLogger(__name__)

MIN_KEYS = 256  # the smallest number of keys of a step; the others are doublings of it
MAX_WARM_KEYS = 1024  # steps with up to this many keys are captured in advance
MIN_PROMPT = 16  # tokens; shorter prompts are computed in a step of this size
ANY_ADAPTERS = (AdapterTokens(NO_ADAPTER, slice(0)),)  # captured steps read from the inputs which tokens have which


class Steps:
    """Decode steps of 1, 2, 4, ... rows over 256, 512, ... keys, and prompt steps of 16, 32, 64, ... tokens.

    Each of them is captured a second time if it is needed with adapters, so that others do not pay for these.

    Args:
        decoder: computes them.
        inputs: the inputs of the steps.
        logits: [rows, vocab_size], receives the logits of decode steps.
        max_tokens: maximum tokens of a prompt step.
        context_length: maximum number of keys.
        capturer: captures the steps.
    """

    def __init__(
        self,
        decoder: Decoder,
        inputs: InputBuffers,
        logits: Tensor,
        *,
        max_tokens: int,
        context_length: int,
        capturer: StepCapture,
    ) -> None:
        self._decoder = decoder
        self._inputs = inputs
        self._logits = logits
        self._capturer = capturer
        self._row_counts = doublings(1, len(logits))
        self._token_counts = doublings(MIN_PROMPT, max_tokens)
        self._key_counts = doublings(MIN_KEYS, context_length)
        self._steps: dict[tuple[str, int, int], Step] = {}

    def num_rows(self, count: int) -> int:
        """Return the number of rows of the step that decodes `count` rows."""
        return self._row_counts[bisect_left(self._row_counts, count)]

    def num_tokens(self, count: int) -> int:
        """Return the number of tokens of the step that computes `count` prompt tokens."""
        return self._token_counts[bisect_left(self._token_counts, count)]

    def decode(self, num_rows: int, num_keys: int, runs: Sequence[AdapterTokens] = ()) -> Tensor:
        """Compute the inputs' tokens, one per sequence.

        Args:
            num_rows: as `num_rows` returned it.
            num_keys: larger than the largest position.
            runs: the tokens with adapters.

        Returns:
            The logits, [rows, vocab_size]; the next step overwrites them.
        """
        keys = self._key_counts[bisect_left(self._key_counts, num_keys)]
        if runs and not self._decoder.captures_adapters:
            self._decode(num_rows, keys, runs)
        else:
            self._captured("decode", num_rows, keys, with_adapters=bool(runs))()
        return self._logits[:num_rows]

    def prompt(
        self, num_tokens: int, num_keys: int, parts: list[PromptPart], runs: Sequence[AdapterTokens] = ()
    ) -> None:
        """Compute the inputs' tokens, which are parts of prompts; arguments as of `decode`."""
        if self._decoder.captures_prompts:
            self._captured("prompt", num_tokens, self._key_counts[-1], with_adapters=bool(runs))()
        else:
            keys = self._key_counts[bisect_left(self._key_counts, num_keys)]
            self._decoder.prompt(self._inputs.views(num_tokens, len(parts)), keys, parts, runs)

    def warm_up(self) -> None:
        """Capture the steps that are needed first, largest first, because these determine the memory for all steps.

        If steps with adapters can be captured, they are, too: the first adapter may come while others generate.
        """
        start = time.perf_counter()
        self._inputs.clear()  # an earlier step's inputs would be read with another shape
        key_counts = [count for count in self._key_counts if count <= MAX_WARM_KEYS] or self._key_counts[:1]
        shapes = [("decode", num_rows, num_keys) for num_rows in self._row_counts for num_keys in key_counts]
        if self._decoder.captures_prompts:
            shapes += [("prompt", num_tokens, self._key_counts[-1]) for num_tokens in self._token_counts]
        kinds = [False, True] if self._decoder.captures_adapters else [False]
        for shape, with_adapters in product(reversed(shapes), kinds):
            self._captured(*shape, with_adapters=with_adapters)
        logger.info("Prepared %d steps in %.1f s.", len(shapes) * len(kinds), time.perf_counter() - start)

    def _captured(self, kind: str, size: int, num_keys: int, *, with_adapters: bool) -> Step:
        key = f"{kind} with adapters" if with_adapters else kind, size, num_keys
        if key not in self._steps:
            compute: Callable[..., None] = self._decode if kind == "decode" else self._prompt
            runs = ANY_ADAPTERS if with_adapters else ()
            self._steps[key] = self._capturer.capture(partial(compute, size, num_keys, runs))
        return self._steps[key]

    def _decode(self, num_rows: int, num_keys: int, runs: Sequence[AdapterTokens] = ()) -> None:
        self._decoder.decode(self._inputs.views(num_rows, num_rows), num_keys, self._logits[:num_rows], runs)

    def _prompt(self, num_tokens: int, num_keys: int, runs: Sequence[AdapterTokens]) -> None:
        self._decoder.prompt(self._inputs.views(num_tokens, len(self._logits)), num_keys, [], runs)


def doublings(first: int, last: int) -> list[int]:
    """Return first, 2 * first, 4 * first, ... as long as they are below `last`, and then `last`."""
    counts = []
    while first < last:
        counts.append(first)
        first *= 2
    return [*counts, last]
