"""Token ids that a client names: a wrong one must not reach the device, where it would break the whole batch."""

from __future__ import annotations

from collections.abc import Sequence

from common.errors import InvalidRequest
from common.sampling import SamplingParams


def check_token_ids(params: SamplingParams, vocab_size: int) -> None:
    """Look whether the model has the tokens.

    Raises:
        InvalidRequest: it has not; `param` names the field.
    """
    for field, token_ids in (("logit_bias", params.logit_bias), ("stop_token_ids", params.stop_token_ids)):
        unknown = [token_id for token_id in token_ids if not 0 <= token_id < vocab_size]
        if unknown:
            raise InvalidRequest(
                f"{field} must hold token ids of the model, 0 to {vocab_size - 1}; got {unknown[0]}", param=field
            )


def check_prompt_ids(prompt_ids: Sequence[int], vocab_size: int) -> None:
    """Look whether the model has the prompt's tokens: its tokenizer may have more than it.

    Raises:
        InvalidRequest: it has not.
    """
    unknown = [token_id for token_id in (min(prompt_ids), max(prompt_ids)) if not 0 <= token_id < vocab_size]
    if unknown:
        raise InvalidRequest(
            f"The prompt has the token {unknown[0]}, but the model has the tokens 0 to {vocab_size - 1} only.",
            param="prompt",
        )
