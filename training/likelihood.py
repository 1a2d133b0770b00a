"""How likely a model finds given tokens, and what it answers without sampling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch

from models.context import declared_context
from training.data import Row

AfterBatch = Callable[[int, int], None]  # is told how many rows of how many are done; its exceptions are passed on

BATCH_TOKENS = 2048  # of one forward pass, padding included; bounds the memory of the logits
MAX_BATCH = 32  # prompts answered together


class Likelihood(NamedTuple):
    """Sums over the tokens of a row that the loss counts."""

    loss: float  # nats
    correct: int  # tokens that are the model's first choice
    tokens: int


class Answer(NamedTuple):
    """A greedy answer; incomplete if it reached the limit of tokens."""

    text: str
    is_complete: bool


@torch.no_grad()
def likelihoods(model: Any, rows: Sequence[Row], after_batch: AfterBatch) -> list[Likelihood]:
    """Return the likelihood of each row, in order."""
    found: dict[int, Likelihood] = {}
    for batch in _batches(rows):
        found |= dict(zip(batch, _batch_likelihoods(model, [rows[index] for index in batch]), strict=True))
        after_batch(len(found), len(rows))
    return [found[index] for index in range(len(rows))]


def _batches(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Yield the rows' indices in batches of rows of similar length."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda one: len(rows[one])):
        if batch and (len(batch) + 1) * len(rows[index]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _batch_likelihoods(model: Any, rows: Sequence[Row]) -> list[Likelihood]:
    longest = max(len(row) for row in rows)
    ids = _padded([row.ids for row in rows], longest, model.device)
    counted = _padded([list(map(int, row.loss)) for row in rows], longest, model.device)[:, 1:].bool()
    mask = _padded([[1] * len(row) for row in rows], longest, model.device)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    targets = ids[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2).float(), targets, reduction="none")
    correct = (logits.argmax(-1) == targets) & counted
    sums = (losses * counted).double().sum(1), correct.sum(1), counted.sum(1)
    return [Likelihood(float(loss), int(right), int(count)) for loss, right, count in zip(*sums, strict=True)]


def _padded(rows: Sequence[list[int]], length: int, device: Any) -> torch.Tensor:
    return torch.tensor([row + [0] * (length - len(row)) for row in rows], device=device)


@torch.no_grad()
def answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    max_new_tokens: int,
    after_batch: AfterBatch,
) -> list[Answer]:
    """Return the greedy answer to each prompt, which is given as token ids. Answers end at the model's context."""
    found: list[Answer] = []
    for start in range(0, len(prompts), MAX_BATCH):
        found += _batch_answers(model, tokenizer, prompts[start : start + MAX_BATCH], max_new_tokens)
        after_batch(len(found), len(prompts))
    return found


def _batch_answers(model: Any, tokenizer: Any, prompts: Sequence[list[int]], max_new_tokens: int) -> list[Answer]:
    longest = max(map(len, prompts))
    end, context = tokenizer.eos_token_id, declared_context(model.config)
    left = max_new_tokens if context is None else max(1, context - longest)
    ids = torch.tensor([[end] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=model.device)
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=min(max_new_tokens, left),
        do_sample=False,
        pad_token_id=end,
        eos_token_id=end,
    )
    return [_answer(tokenizer, one[longest:].tolist()) for one in made]


def _answer(tokenizer: Any, ids: list[int]) -> Answer:
    text = str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
    return Answer(text, is_complete=tokenizer.eos_token_id in ids)


def mean_loss(found: Iterable[Likelihood]) -> float:
    """Return the mean loss over all counted tokens."""
    each = list(found)
    return sum(one.loss for one in each) / max(1, sum(one.tokens for one in each))
