"""Small adapters for tests: PEFT folders that fit the base `SHAPES`, and archives of them."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

MODULE = "model.layers.0.self_attn.q_proj"
SHAPES = {f"{MODULE}.weight": (8, 8), "lm_head.weight": (16, 8)}


def write_adapter(folder: Path, value: float = 1.0, *, rank: int = 2, **config: object) -> Path:
    """Write an adapter with all weights equal to `value`; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {"peft_type": "LORA", "r": rank, "lora_alpha": 4, "target_modules": ["q_proj"]} | config
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    prefix = f"base_model.model.{MODULE}.lora"
    matrices = {f"{prefix}_A.weight": (rank, 8), f"{prefix}_B.weight": (8, rank)}
    weights = {name: np.full(shape, value, dtype=np.float32) for name, shape in matrices.items()}
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


def packed(folder: Path) -> bytes:
    """Return the folder as a tar.gz archive with its files in one folder."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(folder, folder.name)
    return content.getvalue()
