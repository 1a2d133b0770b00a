"""The sampling fields that `/slm` and `/v1` share."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.schemas.meaning import Meaning
from api.schemas.strict import FIRST_ERROR, Strict, at_most
from common.jobs.sampling import SamplingParams

MAX_SEED = 2**63 - 1
MAX_NEW_TOKENS = 1_048_576  # the worker reduces it to what fits into the context
MAX_BIASES = 1024
MAX_STOP_TOKENS = 64

StopString = Annotated[str, Field(min_length=1)]
TokenId = Annotated[int, Field(ge=0)]
TokenIdKey = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,8})$")]  # keys of JSON objects are strings
Bias = Annotated[float, Field(ge=-100, le=100)]


class SamplingFields(Strict):
    """Each field has the same name as in `SamplingParams`, and is copied to it by `sampling`.

    A new sampling parameter is added in both. A body can override a field to allow fewer or more values.
    """

    temperature: Annotated[float, Meaning("Randomness of the answer; 0 is deterministic.")] = Field(
        0.7, ge=0, le=5, description="a number from 0 to 5"
    )
    top_k: Annotated[int, Meaning("Sample from this many most probable tokens. Off by default.")] = Field(
        0, ge=0, le=1_000_000, description="an integer from 0 (off) to 1000000"
    )
    top_p: Annotated[
        float, Meaning("Sample from the smallest set of tokens with at least this total probability. Off by default.")
    ] = Field(1.0, gt=0, le=1, description="a number above 0 and at most 1")
    min_p: Annotated[
        float, Meaning("Sample from tokens with at least this fraction of the highest probability. Off by default.")
    ] = Field(0.0, ge=0, le=1, description="a number from 0 (off) to 1")
    repetition_penalty: Annotated[float, Meaning("Divides the logits of the tokens in prompt and answer.")] = Field(
        1.0, ge=0.01, le=100, description="a number from 0.01 to 100"
    )
    presence_penalty: Annotated[float, Meaning("Subtracted from the logits of the answer's tokens.")] = Field(
        0.0, ge=-2, le=2, description="a number from -2 to 2"
    )
    frequency_penalty: Annotated[
        float, Meaning("Subtracted from a token's logit for each of its occurrences in the answer.")
    ] = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    logit_bias: Annotated[
        dict[TokenIdKey, Bias],
        Field(max_length=MAX_BIASES),
        at_most(MAX_BIASES),
        Meaning("Added to the logits after the penalties, by token id."),
    ] = Field(
        default_factory=dict,
        description=f"an object of at most {MAX_BIASES} token ids, each with a number from -100 to 100",
    )
    stop: Annotated[
        StopString | Annotated[list[StopString], Field(max_length=8), FIRST_ERROR],
        Meaning("The answer ends before the first of these."),
    ] = Field(default_factory=list, description="a non-empty string or a list of at most 8 of them")
    stop_token_ids: Annotated[
        list[TokenId],
        Field(max_length=MAX_STOP_TOKENS),
        FIRST_ERROR,
        Meaning("Tokens that end the answer; their text is not shown."),
    ] = Field(default_factory=list, description=f"a list of at most {MAX_STOP_TOKENS} token ids")
    ignore_eos: Annotated[bool, Meaning("Whether to continue after the model's end tokens.")] = Field(
        False, description="true or false"
    )

    def sampling(self, **more: Any) -> SamplingParams:
        """Return the parameters of one answer; `more` are values that the body has under other names or must change."""
        shared = {name: getattr(self, name) for name in SamplingFields.model_fields}
        shared["logit_bias"] = {int(token): bias for token, bias in self.logit_bias.items()}
        shared["stop"] = tuple(filter(None, [self.stop] if isinstance(self.stop, str) else self.stop))
        shared["stop_token_ids"] = tuple(self.stop_token_ids)
        return SamplingParams(**(shared | more))
