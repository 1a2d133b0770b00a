"""The model card: what an adapter was made from, how, and how it was judged."""

from __future__ import annotations

from pathlib import Path

from training.gate.report import GateReport
from training.request import Result, RunRequest

CARD_FILE = "card.json"
README_FILE = "README.md"


def write_card(request: RunRequest, result: Result, gate: GateReport | None, data_sha256: str) -> Path:
    """Write `card.json` and `README.md` to the adapter's folder, and return the path of the first.

    `card.json` is a part of the adapter's content, so a version's id covers it.

    Args:
        gate: None: not judged.
        data_sha256: of the dataset's file.
    """
    raise NotImplementedError
