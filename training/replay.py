"""General examples that are mixed into small datasets, so that the model does not forget what it knew.

They are the base model's own answers to shipped prompts: they teach nothing new, and hold the model where it was. None
of the prompts is one of the gate's questions.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from training.base import Base
from training.checkpoints import write_whole
from training.data import Dataset, Message
from training.data.examples import pair
from training.likelihood import answers
from training.request import RunRequest

PROMPTS = Path(__file__).resolve().parent / "general_prompts.txt"
ANSWER_TOKENS = 64


def read_replay(file: Path) -> Dataset:
    """Return the examples of the file; none if it is not there."""
    pairs = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    examples = tuple(pair(prompt, answer) for prompt, answer in pairs)
    return Dataset("replay", examples, tuple(range(1, len(examples) + 1)))


def write_replay(file: Path, request: RunRequest, model: Any, base: Base) -> None:
    """Ask the base model, without the adapter, and write as many examples as the recipe wants to the file."""
    wanted = round(request.recipe.replay * len(request.dataset)) if request.method == "supervised" else 0
    found = _own_answers(model, base) if wanted else []
    chosen = random.Random(request.seed).sample(found, min(wanted, len(found)))  # noqa: S311 - no secret
    write_whole(file, chosen)


def _own_answers(model: Any, base: Base) -> list[tuple[str, str]]:
    """Return the prompts with a complete answer: one that was cut off would teach to stop in mid-sentence."""
    prompts = PROMPTS.read_text(encoding="utf-8").splitlines()
    encoder = base.encoder()
    ids = [encoder.prompt_ids([Message("user", prompt)]) for prompt in prompts]
    with model.disable_adapter():
        given = answers(model.eval(), base.tokenizer, ids, ANSWER_TOKENS, lambda _done, _total: None)
    return [(prompt, one.text) for prompt, one in zip(prompts, given, strict=True) if one.is_complete and one.text]
