"""General texts hold a model to its base while it is trained."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.integration.test_training_run import Events, request_for, same_weights
from tests.sliminit_models import llama, save
from training.anchor import ROWS, Anchor
from training.base import Base, load_weights, read_base
from training.general import general_sequences
from training.lora import load_adapter, new_adapter
from training.recipe import Recipe
from training.request import Result
from training.run import train
from training.trainers import rate_share

TEXTS = [[5, 6, 7], [9, 8, 7, 6, 5], [1, 2], [3, 4, 5, 6], [7, 7, 7], [8, 9]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    torch.manual_seed(0)
    return read_base(str(save(llama(), tmp_path_factory.mktemp("base") / "tiny")), "tiny")


@pytest.fixture
def model(base: Base) -> Any:
    """The base with an adapter that does nothing yet."""
    return new_adapter(load_weights(base, "cpu"), base, Recipe(epochs=1, learning_rate=0.1, batch_size=1), 0).train()


def moved(model: Any) -> Any:
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.1)
    return model


def test_an_untrained_adapter_is_where_the_base_is(model: Any) -> None:
    assert Anchor(TEXTS, 4.0, 0).loss(model, 0).item() == pytest.approx(0.0, abs=1e-6)


def test_the_loss_is_the_mean_divergence_per_token_whatever_the_padding(model: Any) -> None:
    changed = moved(model)
    divergences: list[float] = []
    for text in TEXTS[:ROWS]:
        ids = torch.tensor([text])
        with torch.no_grad():
            found = torch.log_softmax(changed(ids).logits[0], -1)
            with changed.disable_adapter():
                expected = torch.log_softmax(changed(ids).logits[0], -1)
        divergences += (expected.exp() * (expected - found)).sum(-1).tolist()
    loss = Anchor(TEXTS[:ROWS], 3.0, 0).loss(changed, 0)
    assert loss.item() == pytest.approx(3.0 * sum(divergences) / len(divergences), rel=1e-4)
    assert loss.item() > 0
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None for name, weight in changed.named_parameters() if "lora_" in name)
    assert changed.training


def test_the_texts_of_a_step_follow_from_its_number(model: Any) -> None:
    changed = moved(model)
    anchor = Anchor(TEXTS, 1.0, 0)
    first = [anchor.loss(changed, step).item() for step in range(4)]
    assert anchor.loss(changed, 2).item() == first[2]
    assert len(set(first[:3])) == 3, "three steps read all six texts twice, each time another four"


def drift(result: Result, base: Base) -> float:
    """How far the trained model is from the base on the general texts."""
    assert result.adapter is not None
    model = load_adapter(load_weights(base, "cpu"), base, result.adapter, is_trainable=True).train()
    anchor = Anchor(general_sequences(base.encoder(), 512), 1.0, 0)
    return sum(anchor.loss(model, step).item() for step in range(5))


def test_an_anchored_run_moves_less_and_continues_to_the_same_weights(base: Base, tmp_path: Path) -> None:
    options = {"epochs": 3, "dropout": 0.0, "learning_rate": 0.2}
    free = train(request_for(Path(base.source), tmp_path / "free", **options), Events())
    held = request_for(Path(base.source), tmp_path / "held", **options, anchor=100.0)
    whole = train(held, Events())
    assert drift(whole, base) < drift(free, base)
    assert whole.curve[0] == free.curve[0]

    again = dataclasses.replace(held, folder=tmp_path / "stopped")
    assert train(again, Events(stop_after=3)).steps == 3
    rest = train(again, Events())
    assert rest.curve == whole.curve
    assert whole.adapter is not None
    assert rest.adapter is not None
    assert same_weights(rest.adapter, whole.adapter)


@pytest.mark.parametrize("warmup", [0, 1, 4])
def test_every_step_teaches_and_one_has_the_highest_rate(warmup: int) -> None:
    rates = [rate_share(step, warmup=warmup, steps=40) for step in range(40)]
    assert min(rates) > 0
    assert [step for step, rate in enumerate(rates) if rate == 1] == [warmup]
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert math.isclose(sum(rates[warmup:]) / (40 - warmup), 0.5, abs_tol=0.05)
