"""Runs of an engine over real, tiny models, and transformers' answers to the same prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from common.jobs.sampling import SamplingParams
from tests.fakes import EOS, ByteTokenizer, Outputs
from worker.engine.config import PREFILL_CHUNK
from worker.engine.engine import Engine
from worker.engine.model_runner import ModelRunner
from worker.engine.overlap_engine import OverlapEngine
from worker.engine.sampling.sampler import Sampler
from worker.engine.sampling.samples import Samples
from worker.engine.sequence import Sequence

PROMPTS = ["Hi", "a longer text that leaves the window", "x" * 50, "東京 🎌", "The quick brown fox jumps"]


class RecordingSampler(Sampler):
    """Keeps the logits from which each sequence's tokens were chosen."""

    def __init__(self) -> None:
        self.logits: dict[str, list[Tensor]] = {}

    def start(self, logits: Tensor, sequences: list[Sequence], nums_drafts: list[int] | None = None) -> Samples:
        for row, sequence in zip(logits.clone(), sequences, strict=True):
            self.logits.setdefault(sequence.sequence_id, []).append(row)
        return super().start(logits, sequences, nums_drafts)

    def logits_of(self, name: str, count: int) -> Tensor:
        """The first rows; an overlap engine may have computed one too many."""
        return torch.stack(self.logits[name][:count]).float().cpu()


class Run:
    """Runs all sequences together over one runner, to their ends."""

    def __init__(self, runner: ModelRunner, sequences: list[Sequence], *, prefill_chunk: int = PREFILL_CHUNK) -> None:
        self.runner, self.sampler, self.outputs = runner, RecordingSampler(), Outputs()
        self.engine = (OverlapEngine if runner.can_overlap else Engine)(
            runner,
            self.sampler,
            decoder=ByteTokenizer(),
            eos_token_ids=frozenset({EOS}),
            deliver=self.outputs,
            on_fatal=lambda _: None,
            prefill_chunk=prefill_chunk,
        )
        self.run(sequences)

    def run(self, sequences: list[Sequence]) -> None:
        """Run more sequences."""
        for sequence in sequences:
            self.engine.submit(sequence)
        while self.engine.num_waiting or self.engine.num_running:
            self.engine.step()

    def token_ids(self, name: str) -> list[int]:
        return self.outputs.token_ids(name)


def greedy(name: str, prompt: str, max_new_tokens: int = 20) -> Sequence:
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=max_new_tokens)
    return Sequence(name, ByteTokenizer().encode(prompt), params)


def seeded(name: str, seed: int, **options: Any) -> Sequence:
    params = SamplingParams(seed=seed, temperature=1.2, max_new_tokens=25, **options)
    return Sequence(name, ByteTokenizer().encode(PROMPTS[seed % len(PROMPTS)]), params)


def generate(model: Any, prompt: str, max_new_tokens: int = 20) -> tuple[list[int], Tensor]:
    """Return the answer of transformers' `generate`: tokens, and logits [tokens, vocab]."""
    token_ids = torch.tensor([ByteTokenizer().encode(prompt)])
    result = model.generate(
        token_ids,
        attention_mask=torch.ones_like(token_ids),
        max_new_tokens=max_new_tokens,
        do_sample=False,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return result.sequences[0, token_ids.shape[1] :].tolist(), torch.cat(result.logits)
