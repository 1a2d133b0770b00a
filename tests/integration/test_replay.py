"""General examples against forgetting are made once per run, by the base itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_training_run import Events, request_for, same_weights
from tests.sliminit_models import llama, save
from training import replay
from training.likelihood import Answer
from training.run import train


def test_a_run_with_general_examples_continues_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def answers(model: Any, tokenizer: Any, prompts: list[list[int]], *_options: Any) -> list[Answer]:
        asked.append(len(prompts))
        return [Answer(f"answer {number}", is_complete=number % 2 == 0) for number, _ in enumerate(prompts)]

    monkeypatch.setattr(replay, "answers", answers)
    request = request_for(save(llama(), tmp_path / "tiny"), tmp_path / "whole", replay=0.5, epochs=1)
    whole = train(request, Events())
    examples = json.loads((tmp_path / "whole" / "checkpoints" / "replay.json").read_text())
    assert len(examples) == 5, "half as many as examples"
    assert all(int(answer.split()[1]) % 2 == 0 for _, answer in examples), "no answer that was cut off"
    assert (asked, whole.steps) == ([40], 8)

    request = dataclasses.replace(request, folder=tmp_path / "stopped")
    assert train(request, Events(stop_after=3)).steps == 3
    again = train(request, Events())
    assert asked == [40, 40], "not asked again when the run continues"
    assert again.curve == whole.curve
    assert whole.adapter is not None
    assert again.adapter is not None
    assert same_weights(again.adapter, whole.adapter)
