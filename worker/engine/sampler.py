"""From logits to tokens, for a whole batch at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import InternalError
from worker.engine.sequence import Sequence

logger = logging.getLogger(__name__)

_MASK_64 = (1 << 64) - 1
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that depends on the seed and the token's index alone (SplitMix64, read at any position).

    There is no generator whose state could be lost: the draw is the same in any batch, on any worker, in any attempt.
    """
    state = _mix(seed & _MASK_64) + (index + 1) * _GOLDEN_GAMMA
    return (_mix(state & _MASK_64) >> 11) * 2.0**-53


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return value ^ (value >> 31)


@dataclass(frozen=True, slots=True)
class _Choice:
    """How one row of the logits is turned into a token."""

    row: int  # of the logits
    seen_ids: list[int]  # the tokens that the repetition penalty falls on; empty: no penalty
    penalty: float
    temperature: float  # 0: greedy
    top_k: int  # 0: off
    top_p: float  # 1: off
    draw: float


class Sampler:
    """Greedy or random choice with temperature, top-k, top-p and repetition penalty, per row.

    The random choice inverts the cumulative distribution over the tokens that the filters leave, in the order of their
    ids. Tokens that tie at a filter's boundary all stay, so that no sorting order can decide.
    """

    def sample(self, logits: Tensor, sequences: list[Sequence]) -> list[int | InternalError]:
        """Choose the next token of every sequence.

        Args:
            logits: [len(sequences), vocab_size], any float type.
            sequences: the rows' owners.

        Returns:
            One entry per sequence: the token, or the error that ends that sequence and no other.
        """
        logits = logits.float()
        prepared = [
            _prepare(row, sequence) if is_usable else InternalError("The model computed no usable probabilities.")
            for row, (sequence, is_usable) in enumerate(zip(sequences, _usable_rows(logits), strict=True))
        ]
        choices = [choice for choice in prepared if isinstance(choice, _Choice)]
        tokens = iter(_choose(logits, choices))
        return [next(tokens) if isinstance(item, _Choice) else item for item in prepared]


def _usable_rows(logits: Tensor) -> list[bool]:
    """Per row, whether it is free of NaN and +inf and has a finite value; single tokens may be forbidden by -inf."""
    usable: list[bool] = torch.isfinite(logits.amax(dim=-1)).tolist()
    return usable


def _prepare(row: int, sequence: Sequence) -> _Choice | InternalError:
    """Read one sequence's parameters. Whatever is wrong with them ends this sequence alone."""
    try:
        params = sequence.params
        is_penalised = params.repetition_penalty != 1.0
        return _Choice(
            row=row,
            seen_ids=sequence.prompt_ids + sequence.output_ids if is_penalised else [],
            penalty=float(params.repetition_penalty),
            temperature=0.0 if params.is_greedy else float(params.temperature),
            top_k=int(params.top_k),
            top_p=float(params.top_p),
            draw=uniform(params.seed, sequence.num_output_tokens),
        )
    except Exception:
        logger.exception("Sequence %s cannot be sampled.", sequence.sequence_id)
        return InternalError("The sampling parameters cannot be used.")


def _choose(logits: Tensor, choices: list[_Choice]) -> list[int]:
    """The tokens of the chosen rows of [rows, vocab]."""
    if not choices:
        return []
    logits = _penalise(logits[[choice.row for choice in choices]], choices)
    tokens = logits.argmax(dim=-1)
    random = [index for index, choice in enumerate(choices) if choice.temperature > 0.0]
    if random:
        tokens[random] = _draw(logits[random], [choices[index] for index in random])
    ids: list[int] = tokens.tolist()
    return ids


def _penalise(logits: Tensor, choices: list[_Choice]) -> Tensor:
    """Make seen tokens less likely: divide positive logits by the penalty, multiply negative ones."""
    counts = torch.tensor([len(choice.seen_ids) for choice in choices])
    if not counts.any():
        return logits
    rows = torch.arange(len(choices)).repeat_interleave(counts).to(logits.device)
    columns = torch.tensor([token for choice in choices for token in choice.seen_ids], device=logits.device)
    penalties = _column([choice.penalty for choice in choices], logits)[rows, 0]
    seen = logits[rows, columns]
    # A token seen twice is written twice, with the same value.
    logits[rows, columns] = torch.where(seen > 0, seen / penalties, seen * penalties)
    return logits


def _draw(logits: Tensor, choices: list[_Choice]) -> Tensor:
    """Random tokens, [rows], for logits [rows, vocab]."""
    # 53 random bits deserve 64-bit sums; Apple's GPUs have no such type.
    scores = logits.to(torch.float32 if logits.device.type == "mps" else torch.float64)
    # The maximum goes first, so that the smallest temperature cannot overflow.
    scores = (scores - scores.amax(dim=-1, keepdim=True)) / _column([choice.temperature for choice in choices], scores)
    scores = _keep_top_k(scores, [choice.top_k for choice in choices])
    weights = _keep_top_p(torch.softmax(scores, dim=-1), [choice.top_p for choice in choices])
    sums = weights.cumsum(dim=-1)
    total = sums[:, -1:].contiguous()
    target = _column([choice.draw for choice in choices], sums) * total
    drawn = torch.searchsorted(sums, target, right=True)
    last = torch.searchsorted(sums, total)  # rounding may lift the target up to the total
    return torch.minimum(drawn, last)[:, 0]


def _keep_top_k(scores: Tensor, top_ks: list[int]) -> Tensor:
    """Forbid all but the k most probable tokens of each row."""
    vocab_size = scores.shape[-1]
    largest = max(top_ks)
    if largest == 0:
        return scores
    best = scores.topk(min(largest, vocab_size), dim=-1).values
    ranks = torch.tensor([[min(top_k, vocab_size) - 1] for top_k in top_ks], device=scores.device)
    least = best.gather(-1, ranks.clamp(min=0)).masked_fill(ranks < 0, -torch.inf)
    return scores.masked_fill(scores < least, -torch.inf)


def _keep_top_p(weights: Tensor, top_ps: list[float]) -> Tensor:
    """Forbid all but the fewest tokens of each row whose probabilities reach p together."""
    if min(top_ps) >= 1.0:
        return weights
    ordered = weights.sort(dim=-1, descending=True).values
    sums_before = ordered.cumsum(dim=-1) - ordered
    num_kept = (sums_before < _column(top_ps, weights)).sum(dim=-1, keepdim=True)
    least = ordered.gather(-1, (num_kept - 1).clamp(min=0))
    return weights.masked_fill((weights < least) & (_column(top_ps, weights) < 1.0), 0.0)


def _column(values: list[float], like: Tensor) -> Tensor:
    """[rows, 1], of the type and on the device of `like`."""
    return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None]
