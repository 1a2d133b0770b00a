"""What a sampler has chosen: on the device at once, on the host when it is asked for."""

from __future__ import annotations

import math

from torch import Tensor

from common.errors import InternalError, SLMError
from worker.engine.device_errors import device_errors
from worker.engine.log_probabilities import Scores, told
from worker.engine.sampled_token import SampledToken
from worker.engine.transfers import ToHost


class Samples:
    """One token for each row of a batch.

    Args:
        tokens: int64 [rows].
        best: [rows], each row's largest logit: where it is not finite, the token means nothing.
        errors: in place of the tokens of some rows.
        nums: by row, how many alternatives to tell; ascending.
        scores: of those rows, where there are any.
    """

    def __init__(
        self,
        tokens: Tensor,
        best: Tensor,
        *,
        errors: dict[int, SLMError] | None = None,
        nums: dict[int, int] | None = None,
        scores: Scores | None = None,
    ) -> None:
        self.tokens = tokens
        self._errors = errors or {}
        self._nums = nums or {}
        self._copies = ToHost(tokens, best, *(scores or ()))

    def fetch(self) -> list[SampledToken | SLMError]:
        """Wait for the tokens; one entry per row: the token, or the error that ends its sequence and no other.

        Raises:
            DeviceLostError: the device has died over what was started before.
        """
        with device_errors():
            tokens, best, *scores = (tensor.tolist() for tensor in self._copies.fetch())
        chosen = [SampledToken(token) for token in tokens]
        if self._nums:
            rows = list(self._nums)
            scored = told([tokens[row] for row in rows], *scores, nums=list(self._nums.values()))
            for row, sample in zip(rows, scored, strict=True):
                chosen[row] = sample
        samples: list[SampledToken | SLMError] = [
            # NaN, or no token may come.
            sample if math.isfinite(value) else InternalError("The model computed no usable probabilities.")
            for sample, value in zip(chosen, best, strict=True)
        ]
        for row, error in self._errors.items():
            samples[row] = error
        return samples
