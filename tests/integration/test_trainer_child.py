"""What a trainer's child computes, with a tiny random model: a run on preference pairs, and an evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from common.adapters.records import Registered
from common.content import ContentHashes
from common.errors import Conflict
from common.jobs.job import JobKind
from common.settings import Settings
from common.training.spec import EvaluatedModel, EvaluationSpec, TrainingSpec
from tests.sliminit_models import llama, save
from training.errors import RecipeError
from training.gate import GateReport
from training.gate.questions import general_questions
from training.request import Result
from worker.training.child.evaluation import run_evaluation
from worker.training.child.failures import failure_of
from worker.training.child.reporter import Reporter
from worker.training.child.training_run import TrainingRun
from worker.training.child.versions import Versions
from worker.training.task import DATASET, VALIDATION, Kind, Task

PAIRS = [{"prompt": f"Say {word}", "chosen": f"{word}!", "rejected": "no"} for word in ("one", "two", "three", "four")]
FILE = "file-00000000-0000-0000-0000-000000000000"


class Models:
    """The models of this machine, and the names that are taken."""

    def __init__(self, base: Path, taken: str = "") -> None:
        self._base = base
        self._taken = taken
        self.published: list[Path] = []

    def base(self, _name: str) -> Path:
        return self._base

    def adapter(self, adapter_id: str) -> Path | None:
        return self.published[0] if adapter_id else None

    def newest(self, _name: str, _base: str) -> Path | None:
        return None

    def publish(self, name: str, folder: Path, _base: str) -> tuple[Registered, None]:
        if name == self._taken:
            raise Conflict(f"There is an alias named {name!r} already. Choose another name.", param="name")
        self.published.append(folder)
        return Registered(name, len(self.published), "ab" * 32, is_new=True), None


class Messages:
    """Keeps what is sent to the trainer."""

    def __init__(self) -> None:
        self.sent: list[tuple[Kind, dict[str, Any]]] = []
        self.may_publish = True

    def send(self, kind: Kind, **values: Any) -> None:
        self.sent.append((kind, values))

    def status(self, line: str) -> None:
        self.send(Kind.STATUS, line=line)

    def should_stop(self) -> bool:
        return False

    def ask_to_publish(self) -> bool:
        self.send(Kind.PUBLISHING)
        return self.may_publish

    def steps(self) -> list[dict[str, Any]]:
        return [values["facts"] for kind, values in self.sent if kind is Kind.PROGRESS and "step" in values["facts"]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return save(llama(), tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture(autouse=True)
def _few_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask few of the gate's questions, because most of the time goes there."""
    few = general_questions()[:2]
    monkeypatch.setattr("training.gate.measure.general_questions", lambda: few)
    monkeypatch.setattr("training.gate.measure.general_text", lambda: "The sea is wide.")
    monkeypatch.setattr("training.samples.SAMPLE_TOKENS", 2)


@pytest.fixture
def settings() -> Settings:
    return Settings(train_device="cpu", train_threads=torch.get_num_threads())


def task(folder: Path, kind: JobKind, params: dict[str, Any]) -> Task:
    folder.mkdir(exist_ok=True)
    (folder / DATASET).write_text("".join(json.dumps(one) + "\n" for one in PAIRS))
    return Task("job", kind, params, "tiny", "", folder)


Train = Callable[..., tuple[dict[str, Any] | None, Messages]]


@pytest.fixture
def train(tmp_path: Path, settings: Settings) -> Train:
    def run(models: Models, *, may_publish: bool = True, **changes: Any) -> tuple[dict[str, Any] | None, Messages]:
        recipe = {"max_steps": 2, "rank": 2, "batch_size": 2}
        spec = TrainingSpec(name="zub", file_id=FILE, recipe=recipe, force=True, **changes)
        one, messages = task(tmp_path / "run", JobKind.TRAIN, spec.to_dict()), Messages()
        messages.may_publish = may_publish
        return TrainingRun(one, settings, cast(Versions, models), cast(Reporter, messages)).run(), messages

    return run


def test_preference_pairs_are_trained_judged_and_published_and_then_evaluated(
    base: Path, train: Train, tmp_path: Path, settings: Settings
) -> None:
    models = Models(base)
    result, messages = train(models)
    assert result is not None
    assert (result["method"], result["version"], result["published"]) == ("dpo", 1, True)
    assert [step["step"] for step in messages.steps()] == [0, 1, 2]
    assert messages.steps()[0]["held_out_loss"] == pytest.approx(0.6931, abs=1e-3)  # of an untrained model: ln 2
    assert [row["name"] for row in result["gate"]["rows"]] == [
        "trained",
        "held_out",
        "general_text",
        "general_questions",
    ]
    card = json.loads((models.published[0] / "card.json").read_text())
    assert (card["method"], card["seed"], card["data"]["examples_trained"]) == ("dpo", 0, 3)

    evaluated = [
        EvaluatedModel("tiny", "tiny", "tiny", ""),
        EvaluatedModel("zub", "zub@1", "tiny", "ab"),
        EvaluatedModel("prod", "zub@1", "tiny", "ab"),
    ]
    spec = EvaluationSpec(file_id=FILE, models=evaluated)
    params = {**asdict(spec), "models": [asdict(one) for one in evaluated]}
    one, said = task(tmp_path / "evaluation", JobKind.EVALUATE, params), Messages()
    scores = run_evaluation(one, settings, cast(Versions, models), cast(Reporter, said))
    assert scores is not None
    assert [(one["name"], one["model"]) for one in scores["models"]] == [
        ("tiny", "tiny"),
        ("zub", "zub@1"),
        ("prod", "zub@1"),
    ]
    assert scores["models"][1]["loss"] == scores["models"][2]["loss"] != scores["models"][0]["loss"]
    assert {kind for kind, _ in said.sent} == {Kind.STATUS, Kind.PROGRESS}


def test_an_attempt_that_died_while_it_published_is_repeated_with_the_same_content(
    base: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models(base)
    assert train(models, may_publish=False)[0] is None  # paused before it published: to be compared again
    assert models.published == []
    first, _ = train(models)
    content = ContentHashes().of_folder(models.published[0])
    monkeypatch.setattr("worker.training.child.training_run.compare", lambda *_, **_more: pytest.fail("it compares"))
    monkeypatch.setattr(models, "newest", lambda *_: models.published[0])
    second, _ = train(models)
    assert ContentHashes().of_folder(models.published[1]) == content
    assert first is not None
    assert second is not None
    assert second["gate"] == first["gate"]


def test_a_run_is_kept_if_its_name_was_taken_meanwhile(
    base: Path, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = Result(
        adapter=tmp_path / "adapter",
        steps=2,
        best_step=2,
        curve=(),
        samples=(),
        tokens=9,
        left_out=0,
        resumed_from=None,
        seconds=1.0,
    )
    module = "worker.training.child.training_run"
    for name, found in (("train", trained), ("compare", GateReport(())), ("write_card", None)):
        monkeypatch.setattr(f"{module}.{name}", lambda *_, _found=found, **_more: _found)
    result, _ = train(Models(base, taken="zub"))
    assert result is not None
    assert (result["published"], result["version"], result["folder"]) == (False, None, "adapter")
    assert result["message"] == (
        "zub was trained, but not published: There is an alias named 'zub' already. Choose another name."
    )


def test_what_does_not_fit_is_refused_before_anything_heavy(
    base: Path, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.supervision.supervise", lambda *_: pytest.fail("it trains"))
    with pytest.raises(RecipeError, match="json_schema"):
        train(Models(base), prompts=[{"prompt": "Who?", "expected": [], "json_schema": {"type": "person"}}])
    with pytest.raises(RecipeError, match=r"method: 'supervised' needs prompts with a response; .* is preference"):
        train(Models(base), method="supervised")
    (tmp_path / "run" / VALIDATION).write_text('{"prompt": "a", "completion": "b"}\n' * 2)
    with pytest.raises(RecipeError, match=r"validation: .* they are prompt_completion") as refused:
        train(Models(base))
    assert failure_of(refused.value).param == "validation_file_id"
