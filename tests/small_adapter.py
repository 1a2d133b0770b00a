"""A folder that looks like a PEFT adapter; no model could use it."""

from __future__ import annotations

import json
import os
from pathlib import Path

WEIGHTS = os.urandom(3_000_000)  # more than a chunk, and not compressible


def folder(path: Path, **files: bytes) -> Path:
    """A PEFT folder; `files` are more of its files, with _ for a dot."""
    path.mkdir(parents=True)
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    (path / "adapter_model.safetensors").write_bytes(WEIGHTS)
    for name, content in files.items():
        (path / name.replace("_", ".")).write_bytes(content)
    return path
