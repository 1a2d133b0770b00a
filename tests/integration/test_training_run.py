"""Runs of a tiny random model: stopped, killed, continued, and compared with a run that nobody disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from models.adapter.check import WEIGHTS_FILE, check_adapter
from models.errors import TrainingError
from tests.sliminit_models import gpt2, llama, save
from training.data import Dataset, read_dataset, split
from training.recipe import Recipe
from training.request import Checkpoint, Progress, Result, RunRequest, Sample
from training.run import train

LINES = b"".join(
    b'{"instruction": "Say %s twice", "response": "%s %s!"}\n' % (word, word, word)
    for word in (b"one", b"two", b"three", b"four", b"five", b"six", b"seven", b"eight", b"nine", b"ten", b"eleven")
)


@dataclass
class Events:
    """Records what it is told, and stops the run after a step."""

    stop_after: int | None = None
    steps: list[Progress] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    asked: int = 0

    def step(self, progress: Progress) -> None:
        self.steps.append(progress)

    def sample(self, sample: Sample) -> None:
        self.samples.append(sample)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        assert (checkpoint.folder / "trainer_state.json").is_file()
        self.checkpoints.append(checkpoint)

    def should_stop(self) -> bool:
        self.asked += 1
        return self.asked == self.stop_after


RequestMaker = Callable[..., RunRequest]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(llama(), tmp_path_factory.mktemp("base") / "tiny")


def dataset() -> tuple[Dataset, Dataset]:
    return split(read_dataset(LINES, name="words.jsonl"), 0)


def request_for(base: Path, folder: Path, **recipe: object) -> RunRequest:
    training, held_out = dataset()
    values = {
        "anchor": 0,
        "epochs": 3,
        "rank": 2,
        "alpha": 4,
        "dropout": 0.1,
        "learning_rate": 0.01,
        "batch_size": 2,
        **recipe,
    }
    return RunRequest(
        base=base,
        base_name="tiny",
        dataset=training,
        validation=held_out,
        recipe=Recipe.for_dataset(training, {"evaluations": 5, **values, **recipe}),
        folder=folder,
        threads=1,
    )


def same_weights(one: Path, other: Path) -> bool:
    first, second = load_file(one / WEIGHTS_FILE), load_file(other / WEIGHTS_FILE)
    return first.keys() == second.keys() and all(bool((first[name] == second[name]).all()) for name in first)


def undisturbed(base: Path, folder: Path) -> tuple[Result, Events]:
    events = Events()
    return train(request_for(base, folder), events), events


@pytest.mark.parametrize("stop_after", [2, 5, 7])
def test_a_stopped_run_continues_to_the_same_curve_and_weights(base: Path, tmp_path: Path, stop_after: int) -> None:
    whole, all_events = undisturbed(base, tmp_path / "whole")
    assert whole.adapter is not None
    assert [point.step for point in all_events.steps] == list(range(16)), "step 0 is the untrained model"

    request = request_for(base, tmp_path / "stopped")
    first = train(request, Events(stop_after=stop_after))
    assert (first.adapter, first.steps, first.resumed_from) == (None, stop_after, None)
    rest = Events()
    second = train(request, rest)
    assert (second.steps, second.resumed_from) == (15, stop_after)
    assert [point.step for point in rest.steps] == list(range(stop_after + 1, 16))
    assert second.curve == whole.curve
    assert second.samples == whole.samples
    assert whole.samples == tuple(one for one in all_events.samples if one.step == whole.best_step)
    assert (second.tokens, second.best_step) == (whole.tokens, whole.best_step)
    assert second.adapter is not None
    assert same_weights(second.adapter, whole.adapter)


def test_a_killed_run_continues_to_the_same_curve_and_weights(base: Path, tmp_path: Path) -> None:
    whole, _ = undisturbed(base, tmp_path / "whole")
    folder = tmp_path / "killed"
    child = subprocess.run(
        [sys.executable, "-m", "tests.integration.test_training_run", str(base), str(folder)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    (folder / "checkpoints" / "unfinished" / "checkpoint-99").mkdir(parents=True)  # as a kill while saving leaves it
    result = train(request_for(base, folder), Events())
    assert result.resumed_from == 6
    assert result.curve == whole.curve
    assert result.adapter is not None
    assert whole.adapter is not None
    assert same_weights(result.adapter, whole.adapter)
    assert not (folder / "checkpoints" / "unfinished" / "checkpoint-99").exists()


def test_a_finished_run_is_not_trained_again(base: Path, tmp_path: Path) -> None:
    first, _ = undisturbed(base, tmp_path)
    assert first.adapter is not None
    (first.adapter / WEIGHTS_FILE).unlink()  # as if killed before the adapter was put together
    events = Events()
    again = train(request_for(base, tmp_path), events)
    assert (again.curve, events.steps) == (first.curve, [])
    assert (first.adapter / WEIGHTS_FILE).is_file()


def test_few_checkpoints_are_kept_and_the_adapter_is_the_best_ones(base: Path, tmp_path: Path) -> None:
    result, events = undisturbed(base, tmp_path)
    kept = {path.name for path in (tmp_path / "checkpoints").glob("checkpoint-*")}
    assert len(events.checkpoints) == 5
    assert kept == {"checkpoint-12", "checkpoint-15", f"checkpoint-{result.best_step}"}
    assert [one.step for one in events.checkpoints if one.is_best][-1] == result.best_step
    assert result.adapter is not None
    assert same_weights(result.adapter, tmp_path / "checkpoints" / f"checkpoint-{result.best_step}")
    assert {path.name for path in result.adapter.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
    }
    shapes = {name: tuple(weight.shape) for name, weight in llama().state_dict().items()}
    assert check_adapter(result.adapter, "tiny", shapes).rank == 2
    asked = [(sample.step, sample.trained) for sample in events.samples]
    assert asked == [(step, trained) for step in (0, 3, 6, 9, 12, 15) for trained in (True, False)]


def test_a_run_that_no_longer_improves_ends_early(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.curve.CHANCE", 0.0)  # so small a model gains less than chance
    request = request_for(base, tmp_path, learning_rate=1.0, epochs=40, evaluations=100, patience=2, dropout=0.0)
    result = train(request, Events())
    assert result.adapter is not None
    assert result.steps < 200
    assert list(result.held_out_losses)[-3] == result.best_step


def test_another_dataset_does_not_continue_a_run(base: Path, tmp_path: Path) -> None:
    train(request_for(base, tmp_path), Events(stop_after=2))
    with pytest.raises(TrainingError, match="rank = 2; now it is 4"):
        train(request_for(base, tmp_path, rank=4), Events())


def test_gpt2_is_trained_on_all_its_linear_layers(tmp_path: Path) -> None:
    base = save(gpt2(), tmp_path / "tiny-gpt2")
    result = train(request_for(base, tmp_path / "run", max_steps=1), Events())
    assert result.adapter is not None
    shapes = {name: tuple(weight.shape) for name, weight in gpt2().state_dict().items()}
    layers = {name.rsplit(".", 1)[-1] for name in check_adapter(result.adapter, "tiny", shapes).ranks}
    assert layers == {"c_attn", "c_proj", "c_fc"}


def test_samples_are_of_examples_that_are_not_too_long(tmp_path: Path) -> None:
    base = save(gpt2(), tmp_path / "tiny-gpt2")  # with another token after its context, it fails
    sizes = (600, 10, 470)  # characters, which are its tokens
    lines = b"".join(b'{"instruction": "%s", "response": "ok"}\n' % (b"x" * size) for size in sizes)
    long = read_dataset(lines, name="long.jsonl")
    request = request_for(base, tmp_path / "run", max_steps=1)
    events = Events()
    result = train(replace(request, dataset=long.only([0, 1]), validation=long.only([0, 2])), events)
    assert result.left_out == 1
    assert [(len(one.prompt), one.trained) for one in events.samples] == [(10, True), (470, False)] * 2


class KilledAfter(Events):
    """Kills its own process when it is asked for the eighth time, after the checkpoint of step 6."""

    def should_stop(self) -> bool:
        self.asked += 1
        if self.asked == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return False


if __name__ == "__main__":
    train(request_for(Path(sys.argv[1]), Path(sys.argv[2])), KilledAfter())
