"""The sampler for logits in ordinary memory: numpy only, so that a worker on a CPU need not import torch.

It chooses the same tokens as `sampler.Sampler`: see there and in `random_sampling`, function by function.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from common.errors import SLMError
from worker.engine.sampling.plans import Plan, plans_for, takes_most_probable
from worker.engine.sampling.processors import LogitsProcessor
from worker.engine.sampling.scored_tokens import NO_TOKEN, Scoring, samples_of, scored_tokens
from worker.engine.sampling.settings import MIN_TEMPERATURE, RandomSampling
from worker.engine.sequence import SampledToken, Sequence

FIRST_CANDIDATES = 64  # tokens; if the filters keep all of them, more are examined
CANDIDATES_GROWTH = 16
BLOCK = 64  # values
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class HostSampler:
    """Chooses each row's token by its sequence's settings: greedy or sampled, after the logits processors."""

    def sample(
        self, logits: Floats, sequences: list[Sequence], nums_drafts: list[int] | None = None
    ) -> list[SampledToken | SLMError]:
        """As `Sampler.sample`."""
        rows = list(zip(sequences, nums_drafts or [0] * len(sequences), strict=True))
        if all(takes_most_probable(sequence, num_drafts) for sequence, num_drafts in rows):
            return samples_of(_pick(logits, [None] * len(logits)).tolist())
        plans, errors = plans_for(rows, logits.shape[-1])
        with np.errstate(all="ignore"):  # rows that are not finite get no token
            return _choose(logits, plans, errors)

    def score(self, logits: Floats, token_ids: list[int], num_top: int) -> list[SampledToken]:
        """As `Sampler.score`."""
        with np.errstate(all="ignore"):
            scorings = [Scoring(num_top)] * len(token_ids)
            return scored_tokens(token_ids, *_score(logits, np.array(token_ids), scorings), scorings=scorings)


def _choose(logits: Floats, plans: list[Plan], errors: dict[int, SLMError]) -> list[SampledToken | SLMError]:
    processed = logits
    processors = {row: plan.processor for row, plan in enumerate(plans) if plan.processor is not None}
    if processors:
        processed = logits.copy()
        for row, processor in processors.items():
            _process(processed[row], processor)
    tokens = _pick(processed, [plan.sampling for plan in plans])
    if processors:  # they may have hidden logits that are not finite
        tokens[~np.isfinite(logits.max(axis=-1))] = NO_TOKEN
    scorings = {row: plan.scoring for row, plan in enumerate(plans) if plan.scoring is not None}
    rows = list(scorings)
    scores = _score(logits[rows], tokens[rows].clip(min=0), list(scorings.values())) if rows else ()
    return samples_of(tokens.tolist(), errors=errors, scorings=scorings, scores=scores)


def _process(logits: Floats, processor: LogitsProcessor) -> None:
    """Change one row, [vocab], as `logits_processors.apply_processors`."""
    seen = logits[processor.seen_ids]
    penalty = np.float32(processor.repetition_penalty)
    seen = np.where(seen > 0, seen / penalty, seen * penalty)
    logits[processor.seen_ids] = seen - processor.reductions.astype(np.float32)
    logits[np.asarray(processor.bias_ids, np.int64)] += np.asarray(processor.biases, np.float32)
    logits[processor.forbidden_ids] = -np.inf
    if processor.mask is not None:
        is_allowed = np.unpackbits(processor.mask.view(np.uint8), count=len(logits), bitorder="little")
        logits[is_allowed == 0] = -np.inf


def _pick(logits: Floats, samplings: list[RandomSampling | None]) -> NDArray[np.int64]:
    """Return each row's token, [rows]: the most probable one if its sampling is None."""
    tokens = logits.argmax(axis=-1)  # NaN counts as the largest
    best = np.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    for row, sampling in enumerate(samplings):
        if sampling is not None and np.isfinite(best[row]):
            draw = _draw_filtered if sampling.has_filter else _draw_from_all
            tokens[row] = draw(logits[row], best[row], sampling)
    return np.where(np.isfinite(best), tokens, NO_TOKEN)


def _draw_from_all(logits: Floats, best: np.float32, sampling: RandomSampling) -> int:
    """Draw without filters: find the block first, then the token in it, so that only block sums need 64 bits."""
    weights = _weights(logits, best, sampling)
    sums = np.concatenate(([0.0], _block_sums(weights).cumsum()))  # before each block, and the total
    target = sampling.point * sums[-1]
    block = _locate(sums, target) - 1
    inside = weights[block * BLOCK : (block + 1) * BLOCK].astype(np.float64).cumsum()
    return block * BLOCK + _locate(inside, target - sums[block])


def _weights(logits: Floats, best: np.float32, sampling: RandomSampling) -> Floats:
    """Return each token's probability relative to the most probable one."""
    # The maximum is subtracted first, so that the smallest temperature cannot overflow.
    weights = logits - best
    weights /= np.float32(max(sampling.temperature, MIN_TEMPERATURE))
    np.exp(weights, out=weights)
    return weights


def _block_sums(weights: Floats) -> Doubles:
    size = len(weights) // BLOCK * BLOCK
    sums = weights[:size].reshape(-1, BLOCK).sum(axis=-1)
    return np.append(sums, weights[size:].sum()).astype(np.float64) if size < len(weights) else sums.astype(np.float64)


def _draw_filtered(logits: Floats, best: np.float32, sampling: RandomSampling) -> int:
    """Examine only the most probable tokens, and more of them if the filters keep all of those."""
    total = 0.0
    if sampling.top_p < 1.0 and not sampling.top_k:
        total = float(_block_sums(_weights(logits, best, sampling)).sum())
    count = FIRST_CANDIDATES
    ids = _topk(logits, count)
    while (weights := _filtered(logits[ids].astype(np.float64), sampling, total, is_all=count >= len(logits))) is None:
        count *= CANDIDATES_GROWTH
        ids = _topk(logits, count)
    order = ids.argsort()
    sums = weights[order].cumsum()
    return int(ids[order[_locate(sums, sampling.point * sums[-1])]])


def _filtered(logits: Doubles, sampling: RandomSampling, total: float, *, is_all: bool) -> Doubles | None:
    """Return the weights of the candidates, descending; None if tokens outside of them may be kept, too."""
    weights: Doubles = np.exp((logits - logits[0]) / max(sampling.temperature, MIN_TEMPERATURE))
    if sampling.top_k:
        weights *= weights >= weights[min(sampling.top_k, len(weights)) - 1]
        total = float(weights.sum())
        if weights[-1] and not is_all:
            return None
    if sampling.top_p < 1.0:
        num_kept = int((weights.cumsum() - weights < sampling.top_p * total).sum())
        weights *= weights >= weights[max(num_kept - 1, 0)]
    if sampling.min_p:
        weights *= weights >= sampling.min_p
    return weights if is_all or not weights[-1] else None


def _locate(sums: Doubles, target: float) -> int:
    """Return the first index where the cumulative sums exceed the target."""
    below_total = sums[-1] * (1.0 - np.finfo(np.float64).eps)  # rounding may have raised the target
    return min(int(sums.searchsorted(min(target, below_total), side="right")), len(sums) - 1)


def _topk(logits: Floats, count: int) -> NDArray[np.int64]:
    """Return the tokens of the `count` largest logits of a row, descending."""
    size = len(logits)
    if 2 * count * BLOCK > size:
        return _descending(logits, np.arange(size), count)
    # `count` values reach the smallest of these blocks' maxima, and all larger values are in these blocks.
    whole = size // BLOCK * BLOCK
    maxima = logits[:whole].reshape(-1, BLOCK).max(axis=-1)
    if whole < size:
        maxima = np.append(maxima, logits[whole:].max())
    blocks = np.argpartition(maxima, len(maxima) - count)[len(maxima) - count :]
    ids = (blocks[:, None] * BLOCK + np.arange(BLOCK)).ravel()
    return _descending(logits, ids[ids < size], count)


def _descending(logits: Floats, ids: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return `count` of the tokens, those with the largest logits; of equal ones, the first ids come first."""
    values = logits[ids]
    if count < len(ids):
        kept = np.argpartition(values, len(ids) - count)[len(ids) - count :]
        ids, values = ids[kept], values[kept]
    return ids[np.lexsort((ids, -values))]


def _score(
    logits: Floats, tokens: NDArray[np.int64], scorings: list[Scoring]
) -> tuple[list[float], list[list[int]], list[list[float]]]:
    """Return what `log_probabilities.score` does, as lists."""
    best = logits.max(axis=-1, keepdims=True)
    scale = best + np.log(np.exp(logits - best).sum(axis=-1, keepdims=True))
    ids = [_scored_ids(row, scoring) for row, scoring in zip(logits, scorings, strict=True)]
    chosen = np.take_along_axis(logits, tokens[:, None], axis=-1) - scale
    best = [row[found] - offset for row, found, offset in zip(logits, ids, scale, strict=True)]
    return chosen[:, 0].tolist(), [one.tolist() for one in ids], [one.tolist() for one in best]


def _scored_ids(logits: Floats, scoring: Scoring) -> NDArray[np.int64]:
    if scoring.token_ids:
        return np.array(scoring.token_ids)
    return _topk(logits, scoring.count(len(logits)))
