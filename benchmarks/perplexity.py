"""Measures the quality of number formats: perplexity of fixed English texts, computed by the runners themselves.

    python -m benchmarks.perplexity [--model data/models/SmolLM2-135M-Instruct] [--formats fp32,int8] [--threads 2]

The texts in `benchmarks/texts/` are split into windows of 512 tokens. Each window is one sequence, fed token by token
as if it were being generated, with all windows in one batch: the decoding path of a server. The change is relative to
the first format, with its standard error; "same choice" is the share of positions with the same most likely token.
With `+kv8`, as in int8+kv8, keys and values are cached in 8 bits.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.native_formats import pack_native
from worker.engine.config import RunnerConfig
from worker.engine.model_runner import ModelRunner, Row
from worker.engine.native.runner import NativeRunner
from worker.engine.sequence import BASE_ADAPTER

ROOT = Path(__file__).resolve().parent.parent
TEXTS = Path(__file__).parent / "texts"
WINDOW = 512  # tokens
ALL_TEXTS = "all"


@dataclass(frozen=True)
class Score:
    """One text under one number format."""

    losses: Tensor  # [positions] negative log-likelihood of the next token
    choices: Tensor  # [positions] the most likely token

    @property
    def perplexity(self) -> float:
        """The exponential of the mean loss: the effective number of equally likely next tokens."""
        return math.exp(self.losses.mean().item())


def cut(token_ids: list[int]) -> list[list[int]]:
    """Split into windows of at most `WINDOW` and at least two tokens."""
    windows = [token_ids[start : start + WINDOW] for start in range(0, len(token_ids), WINDOW)]
    return [window for window in windows if len(window) > 1]


def score_windows(runner: NativeRunner, windows: list[list[int]]) -> list[Score]:
    """Feed all windows together, one token per step."""
    losses: list[list[Tensor]] = [[] for _ in windows]
    choices: list[list[Tensor]] = [[] for _ in windows]
    for position in range(WINDOW - 1):
        indices = [index for index, window in enumerate(windows) if position + 1 < len(window)]
        rows = [
            Row(_blocks(runner, index), (windows[index][position],), position, BASE_ADAPTER, needs_logits=True)
            for index in indices
        ]
        logits = torch.from_numpy(runner.forward(rows))
        following = torch.tensor([windows[index][position + 1] for index in indices])
        step_losses = torch.nn.functional.cross_entropy(logits, following, reduction="none")
        for index, loss, choice in zip(indices, step_losses, logits.argmax(-1), strict=True):
            losses[index].append(loss)
            choices[index].append(choice)
    return [Score(torch.stack(loss), torch.stack(choice)) for loss, choice in zip(losses, choices, strict=True)]


def _blocks(runner: ModelRunner, index: int) -> tuple[int, ...]:
    """Return enough blocks for a whole context."""
    count = -(-runner.context_length // runner.block_tokens)
    return tuple(range(index * count, (index + 1) * count))


def score_texts(runner: NativeRunner, texts: dict[str, list[int]]) -> dict[str, Score]:
    """Score every text, all of them in one batch."""
    windows = {name: cut(token_ids) for name, token_ids in texts.items()}
    scores = iter(score_windows(runner, [window for group in windows.values() for window in group]))
    return {name: _join([next(scores) for _ in group]) for name, group in windows.items()}


def _join(scores: list[Score]) -> Score:
    return Score(torch.cat([score.losses for score in scores]), torch.cat([score.choices for score in scores]))


def print_table(results: dict[str, dict[str, Score]]) -> None:
    """Print one line for each text and format."""
    baseline = next(iter(results.values()))
    print("| text | tokens | format | perplexity | change | same choice |")
    print("|---|---|---|---|---|---|")
    for name in (*baseline, ALL_TEXTS):
        base = _score_of(name, baseline)
        for precision, scores in results.items():
            score = _score_of(name, scores)
            difference = score.losses - base.losses
            change = math.expm1(difference.mean().item())
            error = difference.std().item() / math.sqrt(len(difference))
            same = (score.choices == base.choices).float().mean().item()
            print(
                f"| {name} | {len(score.losses)} | {precision} | {score.perplexity:.3f} "
                f"| {100 * change:+.2f} % ± {100 * error:.2f} % | {100 * same:.1f} % |"
            )


def _score_of(name: str, scores: dict[str, Score]) -> Score:
    return _join(list(scores.values())) if name == ALL_TEXTS else scores[name]


def main() -> None:
    """Parse the arguments, score the texts and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "data/models/SmolLM2-135M-Instruct")
    parser.add_argument("--formats", default="fp32,int8", help="number formats, the baseline first")
    parser.add_argument("--kernels", default=None, help="kernel set; default: the best one for this CPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--build-dir", type=Path, default=ROOT / "data/native")
    options = parser.parse_args()

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    texts = {path.stem: tokenizer(path.read_text(encoding="utf-8"))["input_ids"] for path in sorted(TEXTS.iterdir())}
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    config = RunnerConfig(
        max_num_seqs=sum(len(cut(token_ids)) for token_ids in texts.values()),
        context_length=WINDOW,
        kv_bytes=None,
        num_threads=options.threads,
        build_dir=options.build_dir,
    )
    results: dict[str, dict[str, Score]] = {}
    for precision in options.formats.split(","):
        runner = pack_native(precision, model, config, options.kernels)
        with torch.inference_mode():
            results[precision] = score_texts(runner, texts)
        runner.close()
    print_table(results)


if __name__ == "__main__":
    main()
