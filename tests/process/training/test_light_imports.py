"""What describes a run is imported by processes that have no torch, or that must start quickly."""

from __future__ import annotations

import subprocess
import sys


def test_recipes_requests_and_reports_need_no_torch() -> None:
    modules = "training.recipe, training.request, training.run, training.gate, training.evaluate, training.card"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
