"""The sampled tokens of a batch: immediately on the device, on the host when fetched."""

from __future__ import annotations

from itertools import chain

from torch import Tensor

from common.errors import SLMError
from worker.engine.device.errors import device_errors
from worker.engine.device.transfers import ToHost
from worker.engine.sampling.log_probabilities import Scores
from worker.engine.sampling.scored_tokens import Scoring, samples_of
from worker.engine.sequence import SampledToken


class Samples:
    """One token for each row of a batch.

    Args:
        tokens: int64 [rows]; NO_TOKEN if the row's largest logit is not finite.
        errors: by row, replace the tokens.
        scorings: by row, ascending: which alternatives to return.
        scores: log probabilities of these rows, if there are any.
        special: those of rows whose scoring is not the usual one, by row; each has one row.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        errors: dict[int, SLMError] | None = None,
        scorings: dict[int, Scoring] | None = None,
        scores: Scores | None = None,
        special: dict[int, Scores] | None = None,
    ) -> None:
        self.tokens = tokens
        self._errors = errors or {}
        self._scorings = scorings or {}
        self._special = list(special or {})
        self._copies = ToHost(tokens, *(scores or ()), *chain.from_iterable((special or {}).values()))

    def fetch(self) -> list[SampledToken | SLMError]:
        """Wait for the tokens; return one entry per row: the token, or an error that ends only its sequence.

        Raises:
            DeviceLostError: the device has failed during work that was started before.
        """
        with device_errors():
            tokens, *scores = (tensor.tolist() for tensor in self._copies.fetch())
        parts = len(Scores._fields)
        usual, place = scores[:parts], {row: index for index, row in enumerate(self._scorings)}
        for number, row in enumerate(self._special, 1):
            for all_rows, (one,) in zip(usual, scores[number * parts : (number + 1) * parts], strict=True):
                all_rows[place[row]] = one
        return samples_of(tokens, errors=self._errors, scorings=self._scorings, scores=usual)
