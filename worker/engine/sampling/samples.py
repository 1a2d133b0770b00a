"""The sampled tokens of a batch: immediately on the device, on the host when fetched."""

from __future__ import annotations

from torch import Tensor

from common.errors import SLMError
from worker.engine.device.errors import device_errors
from worker.engine.device.transfers import ToHost
from worker.engine.sampling.log_probabilities import Scores
from worker.engine.sampling.scored_tokens import samples_of
from worker.engine.sequence import SampledToken


class Samples:
    """One token for each row of a batch.

    Args:
        tokens: int64 [rows]; NO_TOKEN if the row's largest logit is not finite.
        errors: by row, replace the tokens.
        nums: by row, ascending: how many alternatives to return.
        scores: log probabilities of these rows, if there are any.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        errors: dict[int, SLMError] | None = None,
        nums: dict[int, int] | None = None,
        scores: Scores | None = None,
    ) -> None:
        self.tokens = tokens
        self._errors = errors or {}
        self._nums = nums or {}
        self._copies = ToHost(tokens, *(scores or ()))

    def fetch(self) -> list[SampledToken | SLMError]:
        """Wait for the tokens; return one entry per row: the token, or an error that ends only its sequence.

        Raises:
            DeviceLostError: the device has failed during work that was started before.
        """
        with device_errors():
            tokens, *scores = (tensor.tolist() for tensor in self._copies.fetch())
        return samples_of(tokens, errors=self._errors, nums=self._nums, scores=scores)
