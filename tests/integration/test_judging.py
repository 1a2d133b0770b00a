"""A trained tiny model is measured, compared and described; and runs on preference pairs and on top of an adapter."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from common.content import ContentHashes
from tests.integration.test_training_run import Events, dataset, request_for
from tests.sliminit_models import llama, save
from training.base import load_weights, read_base
from training.card import write_card
from training.data import Row, read_dataset
from training.errors import Stopped
from training.evaluate import Candidate, Limits, evaluate
from training.gate import FixedPrompt, compare
from training.gate.verdict import BY_HEART_SHARE
from training.likelihood import answers, likelihoods
from training.recipe import Recipe
from training.request import Result, RunRequest
from training.rows import trainer_rows
from training.run import train
from training.trainers import Setup, build_trainer

PREFERENCES = b"".join(
    b'{"prompt": "Say %s", "chosen": "%s!", "rejected": "no"}\n' % (word, word)
    for word in (b"one", b"two", b"three", b"four", b"five", b"six")
)


class Watcher:
    """Records the parts, and stops when it is told."""

    def __init__(self, stop_at: str | None = None) -> None:
        self.parts: dict[str, tuple[int, int]] = {}
        self._stop_at = stop_at

    def evaluated(self, name: str, done: int, total: int) -> None:
        self.parts[name] = (done, total)

    def should_stop(self) -> bool:
        return self._stop_at in self.parts


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save(llama(), tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(scope="module")
def request_of_run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunRequest:
    return request_for(base, tmp_path_factory.mktemp("run"), dropout=0.0, epochs=8, learning_rate=0.05)


@pytest.fixture(scope="module")
def result(request_of_run: RunRequest) -> Result:
    return train(request_of_run, Events())


def adapter(result: Result) -> Path:
    assert result.adapter is not None
    return result.adapter


def test_the_trainer_gets_the_tokens_that_serving_renders(base: Path, tmp_path: Path) -> None:
    model = read_base(str(base), "tiny")
    data, _ = dataset()
    rows, left_out = trainer_rows(data, model.encoder(), 512)
    assert (len(rows), left_out) == (len(data), 0)
    setup = Setup(
        method="supervised",
        recipe=Recipe(epochs=1, learning_rate=0.1, batch_size=2),
        train=rows,
        held_out=[],
        tokenizer=model.tokenizer,
        checkpoints=tmp_path,
        seed=0,
        device="cpu",
    )
    trainer = build_trainer(load_weights(model, "cpu"), setup)
    assert [{"input_ids": one["input_ids"], "labels": one["labels"]} for one in trainer.train_dataset] == rows
    batch: Any = trainer.data_collator([rows[0], rows[1]])
    first = [token for token, keep in zip(batch["input_ids"][0], batch["attention_mask"][0], strict=True) if keep]
    assert first == rows[0]["input_ids"]
    counted = [int(label) for label in batch["labels"][0] if label != -100]
    assert model.tokenizer.decode(counted) == f"{data.examples[0].response}<|end|>"


def test_likelihoods_do_not_depend_on_the_batch_and_are_torchs(base: Path) -> None:
    model = load_weights(read_base(str(base), "tiny"), "cpu").eval()
    rows = [Row([5, 6, 7], [False, True, True]), Row([9, 8, 7, 6, 5], [False, False, False, False, True])]
    for row, found in zip(rows, likelihoods(model, rows, lambda _done, _total: None), strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([row.ids])).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
        expected = sum(float(loss) for loss, counts in zip(losses, row.loss[1:], strict=True) if counts)
        assert found.loss == pytest.approx(expected, rel=1e-5)
        assert found.tokens == sum(row.loss)


def test_answers_do_not_depend_on_the_batch(base: Path) -> None:
    read = read_base(str(base), "tiny")
    model = load_weights(read, "cpu").eval()
    prompts = [[70, 71, 72], [80], [90, 91]]

    def answered(some: list[list[int]]) -> list[str]:
        return [one.text for one in answers(model, read.tokenizer, some, 6, lambda _done, _total: None)]

    assert answered(prompts) == [answered([one])[0] for one in prompts]


def test_the_gate_passes_what_learned_and_refuses_what_did_not(base: Path, result: Result, tmp_path: Path) -> None:
    data, held_out = dataset()
    prompts = (FixedPrompt("Say one twice", expected=("no model says this",)),)
    watcher = Watcher()
    report = compare(base, adapter(result), None, data, held_out, prompts, watcher)
    rows = {row.name: row for row in report.rows}
    assert list(rows) == ["trained", "held_out", "general_text", "general_questions", "prompts"]
    assert (rows["trained"].bound, rows["trained"].passed) == (BY_HEART_SHARE, False), "too small to learn by heart"
    assert rows["held_out"].passed
    assert rows["held_out"].candidate < rows["held_out"].base
    assert rows["prompts"].candidate == 0.0
    assert watcher.parts["candidate: general questions"] == (160, 160)

    worse = train(request_for(base, tmp_path, max_steps=1, learning_rate=1e-6, dropout=0.0), Events())
    report = compare(base, adapter(worse), adapter(result), data, held_out, (), Watcher())
    row = report.rows[1]
    assert (report.passed, row.passed) == (False, False)
    assert row.current == pytest.approx(rows["held_out"].candidate, rel=1e-5)


def test_models_are_evaluated_side_by_side(base: Path, result: Result) -> None:
    data, _ = dataset()
    models = [Candidate("tiny"), Candidate("words", adapter(result)), Candidate("again")]
    found = evaluate(base, models, data, Watcher(), limits=Limits(examples=4, answer_tokens=8), seed=3).to_json()
    first, trained, again = found["models"]
    assert (first["name"], first["examples"], first["left_out"], found["seed"]) == ("tiny", 4, 0, 3)
    assert trained["loss"] < first["loss"]
    assert first["perplexity"] == pytest.approx(math.exp(first["loss"]))
    assert again == {**first, "name": "again"}, "an adapter leaves no trace in the base"
    assert 0 <= trained["exact"] <= trained["overlap"] <= 1


def test_an_evaluation_stops_when_it_is_asked(base: Path) -> None:
    with pytest.raises(Stopped):
        evaluate(base, [Candidate("tiny")], dataset()[0], Watcher(stop_at="tiny: loss"))


def test_the_card_says_what_the_adapter_is_and_belongs_to_its_content(
    base: Path, request_of_run: RunRequest, result: Result
) -> None:
    data, held_out = dataset()
    before = ContentHashes().of_folder(adapter(result))
    report = compare(base, adapter(result), None, data, held_out, (), Watcher())
    card = json.loads(write_card(request_of_run, result, report, "ab" * 32).read_text())
    assert (card["base"], card["seed"], card["steps"], card["data"]["sha256"]) == ("tiny", 0, 40, "ab" * 32)
    assert card["held_out_loss"]["after"] == result.held_out_losses[result.best_step]
    assert card["gate"] == report.to_json()
    assert card["curve"][0]["step"] == 0
    assert card["versions"]["trl"]
    assert ContentHashes().of_folder(adapter(result)) != before
    readme = (adapter(result) / "README.md").read_text()
    assert "| held_out |" in readme
    assert "| learning_rate | 0.05 |" in readme


def test_preference_pairs_are_trained_by_dpo_and_continue_like_other_runs(base: Path, tmp_path: Path) -> None:
    pairs = read_dataset(PREFERENCES, name="preferences.jsonl")
    recipe = Recipe.for_dataset(pairs, {"epochs": 2, "batch_size": 2, "rank": 2, "learning_rate": 0.05})
    request = RunRequest(
        base=base, base_name="tiny", dataset=pairs, validation=pairs, recipe=recipe, folder=tmp_path / "whole",
        method="dpo", threads=1,
    )  # fmt: skip
    whole = train(request, Events())
    stopped = dataclasses.replace(request, folder=tmp_path / "stopped")
    assert train(stopped, Events(stop_after=3)).adapter is None
    assert train(stopped, Events()).curve == whole.curve
    losses = whole.held_out_losses
    assert losses[0] == pytest.approx(math.log(2), rel=1e-3), "nothing is preferred before training"
    assert losses[whole.best_step] < losses[0]
    report = compare(base, adapter(whole), None, pairs, pairs, (), Watcher())
    trained, held_out = report.rows[:2]
    assert (trained.bound, trained.passed) == (trained.base, True)
    assert held_out.candidate < held_out.base


def test_training_goes_on_from_an_adapter(base: Path, result: Result, tmp_path: Path) -> None:
    request = request_for(base, tmp_path, epochs=1, learning_rate=1e-6, dropout=0.0)
    further = train(dataclasses.replace(request, start_from=adapter(result)), Events())
    assert further.held_out_losses[0] == pytest.approx(result.held_out_losses[result.best_step], rel=1e-3)
