"""One generation in the engine, and its outputs."""

from __future__ import annotations

from array import array
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum, StrEnum, auto

from common.errors import InternalError, InvalidRequest, SLMError
from common.jobs.logprobs import TokenLogprobs
from common.jobs.reasoning import Reasoning
from common.jobs.sampling import SamplingParams
from worker.engine.grammar.constraint import TokenConstraint
from worker.engine.kv_cache.prefix_tree import PrefixNode
from worker.engine.output.call_marker import CallMarker
from worker.engine.prompt_lookup import MAX_LOOKED_UP, PromptLookup

BASE_ADAPTER = "base"  # the bare base model; other adapters have the hash of their files as id


class SequenceStatus(Enum):
    """The state of a sequence: WAITING -> RUNNING -> FINISHED; a release leads back to WAITING."""

    WAITING = auto()  # has no blocks in the cache
    RUNNING = auto()  # owns blocks of the cache
    FINISHED = auto()  # its final output has been created


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"  # an end-of-sequence token, a stop token, a stop string, or the end of a grammar
    LENGTH = "length"  # `max_new_tokens` or the end of the context
    CANCELLED = "cancelled"
    ERROR = "error"


class TokenHistory:
    """The distinct tokens of prompt and answer, in order of first occurrence, and their counts in the answer.

    It is updated incrementally, so that a step costs no more in a long answer than in a short one.
    """

    def __init__(self) -> None:
        self.ids = array("q")
        self.counts = array("d")  # in the answer; 0: the token is only in the prompt
        self._index: dict[int, int] = {}  # token -> index in both arrays
        self._num_answer_ids_read = 0

    def read(self, prompt_ids: list[int], output_ids: list[int]) -> None:
        """Add the tokens since the last call; the lists must only have grown."""
        if not self._index:
            for token_id in prompt_ids:
                self._find(token_id)
        for token_id in output_ids[self._num_answer_ids_read :]:
            self.counts[self._find(token_id)] += 1.0
        self._num_answer_ids_read = len(output_ids)

    def _find(self, token_id: int) -> int:
        """Return the token's index; add the token if it is new."""
        index = self._index.setdefault(token_id, len(self._index))
        if index == len(self.ids):
            self.ids.append(token_id)
            self.counts.append(0.0)
        return index


@dataclass(eq=False, slots=True)
class Sequence:
    """One generation. From `Engine.submit` until its final output or its release it belongs to the engine thread.

    To continue an unfinished generation, pass the committed tokens of the earlier attempt as `output_ids`, and their
    text that the client has seen as `emitted_text`.
    """

    sequence_id: str
    prompt_ids: list[int]
    params: SamplingParams
    adapter: str = BASE_ADAPTER  # its id
    output_ids: list[int] = field(default_factory=list)
    emitted_text: str = ""
    constraint: TokenConstraint | None = None  # in its initial state, even if there are committed tokens
    calls: CallMarker | None = None  # where the calls of tools begin, if it may have any
    reasoning: Reasoning | None = None  # what it may have before its answer
    status: SequenceStatus = field(default=SequenceStatus.WAITING, init=False)
    blocks: list[int] = field(default_factory=list, init=False)  # of the cache, in the order of their tokens
    prefix: PrefixNode | None = field(default=None, init=False)  # the last of its blocks that is in the prefix tree
    num_computed_tokens: int = field(default=0, init=False)  # tokens with keys and values in the blocks
    num_cached_tokens: int | None = field(default=None, init=False)  # of the prompt, when it was first admitted
    num_pending: int = field(default=0, init=False)  # tokens after `output_ids` that are sampled, but not known yet
    source: int = field(default=0, init=False)  # index of the newest pending token in its step's samples
    is_ending: bool = field(default=False, init=False)  # the newest pending token is the last one that fits
    is_undecided: bool = field(default=False, init=False)  # its constraint has not yet computed the allowed tokens
    eos_token_ids: frozenset[int] = field(default=frozenset(), init=False)  # set by the engine: those of its adapter
    prompt_scores: list[SampledToken] = field(default_factory=list, init=False)  # of the prompt's tokens but the first

    history: TokenHistory = field(default_factory=TokenHistory, init=False)  # updated when penalties need it
    lookup: PromptLookup = field(default_factory=PromptLookup, init=False)  # updated when draft tokens need it

    @property
    def num_prompt_tokens(self) -> int:
        """Length of the prompt."""
        return len(self.prompt_ids)

    def note_cached(self) -> None:
        """Remember how much of the prompt was shared instead of computed; only the first call counts."""
        if self.num_cached_tokens is None:
            self.num_cached_tokens = min(self.num_computed_tokens, self.num_prompt_tokens)

    @property
    def num_output_tokens(self) -> int:
        """Tokens generated so far, including those of earlier attempts."""
        return len(self.output_ids)

    @property
    def next_index(self) -> int:
        """The index of the next token, counting pending tokens."""
        return len(self.output_ids) + self.num_pending

    @property
    def num_tokens(self) -> int:
        """Length of prompt and output together."""
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def num_uncomputed_tokens(self) -> int:
        """Tokens to compute before the next one can be sampled; 0 if the next one cannot be sampled yet."""
        if self.is_ending or self.is_undecided:
            return 0
        return self.num_tokens + self.num_pending - self.num_computed_tokens

    @property
    def num_unscored_tokens(self) -> int:
        """Tokens of the prompt to compute with logits, for the log probabilities of the tokens after them."""
        num_scores = 0 if self.params.prompt_logprobs is None else len(self.prompt_ids) - 1
        return max(0, num_scores - self.num_computed_tokens) if len(self.prompt_scores) < num_scores else 0

    @property
    def reads_history(self) -> bool:
        """Whether its next token can be chosen only after all its tokens are known."""
        return self.constraint is not None or self.params.is_penalised

    def check_tokens(self, vocab_size: int) -> None:
        """Check that the model has all its tokens: an invalid one would break the whole batch on the device.

        Raises:
            InvalidRequest: the prompt or the sampling parameters have one that the model lacks; `param` names the
                field. A tokenizer may have more tokens than its model.
            InternalError: the answer so far has one.
        """
        params = self.params
        for field_name in ("logit_bias", "stop_token_ids", "logprob_token_ids", "allowed_token_ids"):
            token_ids: Collection[int] = getattr(params, field_name)
            if (unknown := _unknown(token_ids, vocab_size)) is not None:
                raise InvalidRequest(
                    f"{field_name} must contain token ids of the model, which has {vocab_size} tokens; got {unknown}",
                    param=field_name,
                )
        if (unknown := _unknown(self.prompt_ids, vocab_size)) is not None:
            raise InvalidRequest(
                f"The prompt has the token {unknown}, but the model has the tokens 0 to {vocab_size - 1} only.",
                param="prompt",
            )
        if (unknown := _unknown(self.output_ids, vocab_size)) is not None:
            raise InternalError(f"Token {unknown} is not in the model's vocabulary of {vocab_size}.")

    def draft_tokens(self, count: int, *, may_look_up: bool) -> list[int]:
        """Return up to `count` draft tokens: those that its constraint forces, or those that followed its last ones.

        With penalties the next token depends on the one before.
        """
        if self.params.is_penalised:
            return []
        if self.constraint is not None:
            return self.constraint.draft_tokens(count)
        return self.lookup.draft_tokens(self.all_ids(), min(count, MAX_LOOKED_UP)) if may_look_up else []

    def uncomputed_ids(self, count: int) -> tuple[int, ...]:
        """Return the next `count` token ids to compute."""
        return tuple(self.ids(self.num_computed_tokens, count))

    def ids(self, start: int, count: int) -> list[int]:
        """Return `count` token ids of prompt and output together, from `start` on."""
        split = len(self.prompt_ids)
        if start >= split:
            return self.output_ids[start - split : start - split + count]
        prompt_part = self.prompt_ids[start : start + count]
        return prompt_part + self.output_ids[: count - len(prompt_part)]

    def all_ids(self) -> list[int]:
        """Return the token ids of prompt and output together."""
        return self.prompt_ids + self.output_ids


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A token and, if requested, its log probability (natural logarithm, in the model's own distribution).

    `top` are the most probable tokens with their log probabilities, best first, maybe without the chosen token.
    """

    token_id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class SequenceOutput:
    """The output that a step adds to one sequence.

    `token_ids` are all tokens since the sequence's previous output: tokens with text that is held back are sent with
    the next visible text. An output with a `finish_reason` is the sequence's last one; every sequence has exactly one
    such output unless it is released. `error` is set if and only if the reason is ERROR. `logprobs` has an entry for
    each of `token_ids`, and is None if the sequence did not request them.
    """

    sequence_id: str
    token_ids: tuple[int, ...]
    text: str
    num_prompt_tokens: int
    num_output_tokens: int  # over all attempts, including this output's tokens
    finish_reason: FinishReason | None = None
    error: SLMError | None = None
    logprobs: tuple[TokenLogprobs, ...] | None = None
    stop_string: str | None = None  # which ended the answer
    num_cached_tokens: int = 0  # tokens of the prompt that did not have to be computed
    prompt_logprobs: tuple[TokenLogprobs, ...] | None = None  # with the `finish_reason`; the first one's value is 0


def _unknown(token_ids: Collection[int], vocab_size: int) -> int | None:
    """Return a token that the model lacks; None if it has all."""
    extremes = min(token_ids, default=0), max(token_ids, default=0)
    return next((token_id for token_id in extremes if not 0 <= token_id < vocab_size), None)
