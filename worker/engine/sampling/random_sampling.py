"""Top-k/top-p sampling: temperature, top-k, top-p, min-p, and inversion of the remaining distribution.

The filters and their order are those of transformers: temperature, top-k, top-p, min-p. All tokens that tie at a
filter's boundary are kept, so that the sorting order does not matter. A token is drawn by inverting the cumulative
distribution over the kept tokens in the order of their ids. The result of a row does not depend on the other rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from worker.engine.device.transfers import to_device
from worker.engine.sampling.settings import MIN_TEMPERATURE, RandomSampling
from worker.engine.sampling.topk import BLOCK, topk

FIRST_CANDIDATES = 64  # tokens; if the filters keep all of them, more are examined
CANDIDATES_GROWTH = 16


def draw(logits: Tensor, samplings: list[RandomSampling]) -> Tensor:
    """Draw one token for each row, [rows], from logits [rows, vocab] in 32 bits."""
    filtered = [row for row, sampling in enumerate(samplings) if sampling.has_filter]
    if not filtered:
        return _draw_from_all(logits, samplings)
    if len(filtered) == len(samplings):
        return _draw_filtered(logits, samplings)
    tokens = torch.empty(len(samplings), dtype=torch.long, device=logits.device)
    others = [row for row, sampling in enumerate(samplings) if not sampling.has_filter]
    for rows, draw_some in ((filtered, _draw_filtered), (others, _draw_from_all)):
        index = to_device(torch.tensor(rows), logits.device)
        tokens[index] = draw_some(logits[index], [samplings[row] for row in rows])
    return tokens


def take_rows(values: Tensor, rows: list[int]) -> Tensor:
    """Return the given ascending rows of [all rows, n]; without a copy if it is all of them."""
    return values if len(rows) == len(values) else values[to_device(torch.tensor(rows), values.device)]


def _draw_from_all(logits: Tensor, samplings: list[RandomSampling]) -> Tensor:
    """Draw without filters: find the block first, then the token in it, so that only block sums need 64 bits."""
    weights = _weights(logits, samplings)
    sums = pad(_exact(weights.sum(dim=-1)), (1, 0)).cumsum(dim=-1)  # before each block, and the total
    target = _targets(samplings, sums)
    block = _locate(sums, target) - 1
    inside = weights.gather(1, block[:, :, None].expand(-1, -1, BLOCK))[:, 0]
    offset = _locate(_exact(inside).cumsum(dim=-1), target - sums.gather(-1, block))
    return (block * BLOCK + offset)[:, 0]


def _weights(logits: Tensor, samplings: list[RandomSampling]) -> Tensor:
    """Return each token's probability relative to the most probable one: [rows, blocks, BLOCK], padded with 0."""
    # The maximum is subtracted first, so that the smallest temperature cannot overflow.
    weights = logits - logits.amax(dim=-1, keepdim=True)
    weights.div_(_temperatures(samplings, weights)).exp_()
    if missing := -weights.shape[-1] % BLOCK:
        weights = pad(weights, (0, missing))
    return weights.view(len(samplings), -1, BLOCK)


def _draw_filtered(logits: Tensor, samplings: list[RandomSampling]) -> Tensor:
    """Examine only the most probable tokens, and more of them in rows where the filters keep all of those."""
    if logits.is_cuda:  # asking the device whether they suffice would mean waiting for it
        return _draw_filtered_at_once(logits, samplings)
    tokens = torch.empty(len(samplings), dtype=torch.long, device=logits.device)
    totals = _totals(logits, samplings)
    left, num_candidates = list(range(len(samplings))), FIRST_CANDIDATES
    while left:
        candidates = _Candidates(take_rows(logits, left), num_candidates)
        is_settled = candidates.filter([samplings[row] for row in left], totals[left])
        tokens[left] = candidates.draw([samplings[row] for row in left])
        left = [row for row, settled in zip(left, is_settled.tolist(), strict=True) if not settled]
        num_candidates *= CANDIDATES_GROWTH
    return tokens


def _draw_filtered_at_once(logits: Tensor, samplings: list[RandomSampling]) -> Tensor:
    """As `_draw_filtered`, but examine all tokens."""
    candidates = _Candidates(logits, logits.shape[-1])
    candidates.filter(samplings, _totals(logits, samplings))
    return candidates.draw_from_all(samplings)


def _totals(logits: Tensor, samplings: list[RandomSampling]) -> Tensor:
    """Return the sum of all tokens' weights, [rows, 1], for the rows that need it for top-p."""
    totals = _exact(logits.new_zeros(len(samplings), 1))
    rows = [row for row, sampling in enumerate(samplings) if sampling.top_p < 1.0 and not sampling.top_k]
    if rows:
        weights = _weights(take_rows(logits, rows), [samplings[row] for row in rows])
        index = to_device(torch.tensor(rows), logits.device)
        totals[index] = _exact(weights.sum(dim=-1)).sum(dim=-1, keepdim=True)
    return totals


class _Candidates:
    """The most probable tokens of each row: [rows, candidates], descending."""

    def __init__(self, logits: Tensor, count: int) -> None:
        self._logits, self._ids = topk(logits, count)
        self._is_all = count >= logits.shape[-1]
        self._weights = torch.empty(0)

    def filter(self, samplings: list[RandomSampling], totals: Tensor) -> Tensor:
        """Apply the filters; return for each row whether they keep no token outside the candidates, [rows]."""
        logits = _exact(self._logits)
        weights = ((logits - logits[:, :1]) / _temperatures(samplings, logits)).exp()
        has_top_k = to_device(torch.tensor([[sampling.top_k > 0] for sampling in samplings]), weights.device)
        weights = _keep_top_k(weights, [sampling.top_k for sampling in samplings])
        is_settled = ~has_top_k[:, 0] | (weights[:, -1] == 0.0)
        totals = torch.where(has_top_k, weights.sum(dim=-1, keepdim=True), totals)
        weights = _keep_top_p(weights, [sampling.top_p for sampling in samplings], totals)
        self._weights = weights = _keep_min_p(weights, [sampling.min_p for sampling in samplings])
        return (is_settled & (weights[:, -1] == 0.0)) | self._is_all

    def draw(self, samplings: list[RandomSampling]) -> Tensor:
        """Draw one of the kept tokens of each row, [rows]."""
        order = self._ids.argsort(dim=-1)
        sums = self._weights.gather(-1, order).cumsum(dim=-1)
        index = _locate(sums, _targets(samplings, sums))
        return self._ids.gather(-1, order.gather(-1, index))[:, 0]

    def draw_from_all(self, samplings: list[RandomSampling]) -> Tensor:
        """As `draw` if all tokens are candidates, which avoids sorting their ids."""
        sums = torch.zeros_like(self._weights).scatter_(-1, self._ids, self._weights).cumsum(dim=-1)
        return _locate(sums, _targets(samplings, sums))[:, 0]


def _keep_top_k(weights: Tensor, top_ks: list[int]) -> Tensor:
    """Set descending weights [rows, n] that are below the k-th to 0."""
    if not any(top_ks):
        return weights
    num = weights.shape[-1]
    ranks = to_device(torch.tensor([[min(top_k or num, num) - 1] for top_k in top_ks]), weights.device)
    return weights * (weights >= weights.gather(-1, ranks))


def _keep_top_p(weights: Tensor, top_ps: list[float], totals: Tensor) -> Tensor:
    """Set descending weights [rows, n] after the first ones that together reach the share p of the totals to 0."""
    if min(top_ps) >= 1.0:
        return weights
    shares = _column(top_ps, weights)
    sums_before = weights.cumsum(dim=-1) - weights
    num_kept = (sums_before < shares * totals).sum(dim=-1, keepdim=True)
    smallest = weights.gather(-1, (num_kept - 1).clamp(min=0))
    return weights * ((weights >= smallest) | (shares >= 1.0))


def _keep_min_p(weights: Tensor, min_ps: list[float]) -> Tensor:
    """Set weights [rows, n] below min-p to 0; the largest weight is 1."""
    return weights * (weights >= _column(min_ps, weights)) if any(min_ps) else weights


def _locate(sums: Tensor, target: Tensor) -> Tensor:
    """Return the first index, [rows, 1], where the cumulative sums [rows, n] exceed the target [rows, 1]."""
    below_total = sums[:, -1:] * (1.0 - torch.finfo(sums.dtype).eps)  # rounding may have raised the target
    index = torch.searchsorted(sums, torch.minimum(target, below_total), right=True)
    return index.clamp_(max=sums.shape[-1] - 1)  # a row of NaN has no such index, but must not exceed its end


def _targets(samplings: list[RandomSampling], sums: Tensor) -> Tensor:
    """Return the cumulative sums, [rows, 1], at which to cut."""
    return _column([sampling.point for sampling in samplings], sums) * sums[:, -1:]


def _exact(values: Tensor) -> Tensor:
    """Convert to 64 bits, because the points have 53 random bits; Apple's GPUs do not support it."""
    return values if values.device.type == "mps" else values.double()


def _temperatures(samplings: list[RandomSampling], like: Tensor) -> Tensor:
    return _column([max(sampling.temperature, MIN_TEMPERATURE) for sampling in samplings], like)


def _column(values: list[float], like: Tensor) -> Tensor:
    """Return the values as [rows, 1], with the type and device of `like`."""
    return to_device(torch.tensor(values, dtype=like.dtype), like.device)[:, None]
