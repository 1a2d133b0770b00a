"""What reading a dataset loads."""

from __future__ import annotations

import subprocess
import sys

from tests.api_process import ROOT

HEAVY = ("torch", "transformers", "peft", "datasets", "numpy", "redis", "celery", "flask")


def test_checking_data_loads_no_model_library() -> None:
    code = f"""
import sys, training.data
from pathlib import Path
dataset = training.data.read_dataset(Path("SLMInit/data/instructions.jsonl").read_bytes(), name="instructions")
training.data.split(dataset, seed=0)
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
