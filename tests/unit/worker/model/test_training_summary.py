"""What the server keeps of a training's own words about its adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker.model.training_summary import MAX_FILE, MAX_KEPT, read_summary


def point(step: int) -> dict[str, float]:
    measured = {"held_out_loss": 2.7182818284590452, "held_out_accuracy": 0.3333333333333333}
    every = {
        "step": step,
        "epoch": step / 7,
        "loss": 1 / 3,
        "learning_rate": 0.0009045084971874738,
        "tokens": step * 99,
    }
    return every | measured if step % 100 == 0 else every


def test_the_card_of_a_long_run_is_kept_with_the_measured_points_of_its_curve(tmp_path: Path) -> None:
    card = {"seed": 7, "curve": [point(step) for step in range(1001)]}
    text = json.dumps(card, indent=2)
    assert MAX_KEPT < len(text) < MAX_FILE
    (tmp_path / "card.json").write_text(text)
    kept = read_summary(tmp_path)
    assert kept["seed"] == 7
    assert [one["step"] for one in kept["curve"]] == list(range(0, 1001, 100))


def test_many_measured_points_are_thinned(tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps({"curve": [point(100 * step) for step in range(1000)]}))
    assert [one["step"] for one in read_summary(tmp_path)["curve"]] == list(range(0, 100_000, 2000))


def test_the_card_comes_before_another_trainers_summary(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"loss": NaN, "curve": "a line"}')
    assert read_summary(tmp_path) == {"loss": None, "curve": "a line"}
    (tmp_path / "card.json").write_text('{"seed": 1}')
    assert read_summary(tmp_path) == {"seed": 1}


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"{", b"\xff", b"[" * 100_000, b'{"a": "' + bytes([65]) * MAX_KEPT + b'"}', b" " * MAX_FILE + b"{}"],
    ids=["empty", "list", "broken", "not_utf8", "nested", "long_text", "large_file"],
)
def test_what_cannot_be_shown_is_left_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "card.json").write_bytes(content)
    assert read_summary(tmp_path) == {}


def test_without_a_summary_there_is_nothing(tmp_path: Path) -> None:
    assert read_summary(tmp_path) == {}
