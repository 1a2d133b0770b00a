"""The model card: what an adapter was made from, how, and how it was judged."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from training.checkpoints import write_whole
from training.gate.report import GateReport
from training.request import Result, RunRequest, Sample

CARD_FILE = "card.json"
README_FILE = "README.md"
PACKAGES = ("torch", "transformers", "peft", "trl", "accelerate", "safetensors")
POINTS = 200  # of the curve at most, so that a long run's card stays small
SAMPLE_CHARS = 500  # of each text of a sample at most


def write_card(request: RunRequest, result: Result, gate: GateReport | None, data_sha256: str) -> Path:
    """Write `card.json` and `README.md` to the adapter's folder, and return the path of the first.

    `card.json` is a part of the adapter's content, so a version's id covers it.

    Args:
        result: of a finished run.
        gate: None: not judged.
        data_sha256: of the dataset's file.

    Raises:
        ValueError: the run is not finished.
    """
    if result.adapter is None:
        raise ValueError("The run is not finished, so there is no adapter to describe.")
    card = make_card(request, result, gate, data_sha256)
    write_whole(result.adapter / CARD_FILE, card)
    (result.adapter / README_FILE).write_text("\n".join(_readme(card)) + "\n", encoding="utf-8")
    return result.adapter / CARD_FILE


def make_card(request: RunRequest, result: Result, gate: GateReport | None, data_sha256: str) -> dict[str, Any]:
    """Return the card as JSON."""
    losses = result.held_out_losses
    return {
        "base": request.base_name,
        "method": request.method,
        "data": {
            "sha256": data_sha256,
            "examples_trained": len(request.dataset) - result.left_out,
            "examples_held_out": len(request.validation or ()),
            "examples_left_out": result.left_out,
        },
        "recipe": request.recipe.model_dump(),
        "seed": request.seed,
        "device": request.device,
        "steps": result.steps,
        "best_step": result.best_step,
        "tokens": result.tokens,
        "held_out_loss": {"before": losses.get(0), "after": losses.get(result.best_step)},
        "curve": [point.to_json() for point in _thinned(result)],
        "gate": gate and gate.to_json(),
        "samples": [_shortened(sample) for sample in result.samples],
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
    }


def _thinned(result: Result) -> Iterator[Any]:
    """Yield the points with a held-out loss, and evenly chosen ones of the others."""
    every = -(-len(result.curve) // POINTS)
    for index, point in enumerate(result.curve):
        if point.held_out_loss is not None or index % every == 0:
            yield point


def _shortened(sample: Sample) -> dict[str, Any]:
    return {name: one[:SAMPLE_CHARS] if isinstance(one, str) else one for name, one in asdict(sample).items()}


def _readme(card: dict[str, Any]) -> Iterator[str]:
    data, losses = card["data"], card["held_out_loss"]
    yield f"# A LoRA adapter for {card['base']}\n"
    yield (
        f"Trained on {data['examples_trained']} examples (SHA-256 of the data: `{data['sha256']}`), with "
        f"{data['examples_held_out']} held out, by {card['method']} fine-tuning: {card['steps']} steps, of which step "
        f"{card['best_step']} is kept. Seed {card['seed']}, device {card['device']}."
    )
    if losses["before"] is not None:
        yield f"\nHeld-out loss: {losses['before']:.3f} before, {losses['after']:.3f} after (nats per response token)."
    yield "\n| Parameter | Value |\n| --- | --- |"
    yield from (f"| {name} | {value} |" for name, value in card["recipe"].items() if value is not None)
    if card["gate"]:
        yield from _gate_table(card["gate"])
    versions = ", ".join(f"{name} {number}" for name, number in card["versions"].items())
    yield f"\nMade with {versions}. `card.json` has the whole curve."


def _gate_table(gate: dict[str, Any]) -> Iterator[str]:
    yield f"\nThe gate {'passed' if gate['passed'] else 'refused'} it:\n"
    yield "| Measure | Base | Replaced | This | Bound | Passed | It must be |\n" + 7 * "| --- " + "|"
    for row in gate["rows"]:
        values = (_number(row[name]) for name in ("base", "current", "candidate", "bound"))
        yield f"| {row['name']} | {' | '.join(values)} | {'yes' if row['passed'] else 'no'} | {row['reason']} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
