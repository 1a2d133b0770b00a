"""Reads what a training wrote about its adapter: our model card, or another trainer's summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILES = ("card.json", "summary.json")  # the first that is there counts
MAX_FILE = 1_048_576  # bytes
MAX_KEPT = 32_768  # bytes; every listing of the adapters has it
MAX_POINTS = 50  # of the curve


def read_summary(folder: Path) -> Mapping[str, Any]:
    """Return the JSON object, of its curve only points with a held-out loss; empty if nothing can be shown."""
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if file is None or file.stat().st_size > MAX_FILE:
        return {}
    try:
        found = json.loads(file.read_bytes(), parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return {}
    kept = _shortened(found) if isinstance(found, dict) else {}
    return kept if len(json.dumps(kept)) <= MAX_KEPT else {}


def _shortened(summary: dict[str, Any]) -> dict[str, Any]:
    curve = summary.get("curve")
    if not isinstance(curve, list):
        return summary
    measured = [point for point in curve if isinstance(point, dict) and point.get("held_out_loss") is not None]
    return summary | {"curve": measured[:: -(-len(measured) // MAX_POINTS) or 1]}
