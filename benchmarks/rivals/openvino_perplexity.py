"""Measures the perplexity of OpenVINO's 8-bit model on the texts of `benchmarks.perplexity`, in the same windows.

    data/rivals/openvino/venv/bin/python -m benchmarks.rivals.openvino_perplexity

Runs in OpenVINO's environment, after `python -m benchmarks.rivals setup`. Every window is one forward pass.
"""

from __future__ import annotations

import argparse
import importlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parents[2]  # not imported: this environment has only OpenVINO's packages
TEXTS = ROOT / "benchmarks/texts"
WINDOW = 512  # tokens


def windows(token_ids: Sequence[int]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield windows [1, tokens] of at most `WINDOW` and at least two tokens."""
    for start in range(0, len(token_ids), WINDOW):
        window = np.array([token_ids[start : start + WINDOW]])
        if window.shape[1] > 1:
            yield window


def losses(request: Any, window: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the negative log-likelihood [tokens - 1] of every token except the first."""
    count = window.shape[1]
    request.reset_state()
    inputs = {
        "input_ids": window,
        "attention_mask": np.ones_like(window),
        "position_ids": np.arange(count)[None],
        "beam_idx": np.zeros(1, np.int32),
    }
    logits = next(iter(request.infer(inputs).values()))[0, :-1].astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    chosen = logits[np.arange(count - 1), window[0, 1:]]
    return np.asarray(np.log(np.exp(logits).sum(-1)) - chosen)


def main() -> None:
    """Score each text and print its line of the table."""
    parser = argparse.ArgumentParser(description="Perplexity of OpenVINO's 8-bit model.")
    parser.add_argument("--model", type=Path, default=ROOT / "data/rivals/openvino/model-int8")
    options = parser.parse_args()
    openvino: Any = importlib.import_module("openvino")  # only installed in OpenVINO's environment
    request = openvino.Core().compile_model(options.model / "openvino_model.xml", "CPU").create_infer_request()
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    print("| text | tokens | perplexity |\n|---|---|---|")
    for text in sorted(TEXTS.iterdir()):
        token_ids = tokenizer.encode(text.read_text("utf-8")).ids
        lost = np.concatenate([losses(request, window) for window in windows(token_ids)])
        print(f"| {text.stem} | {len(lost)} | {math.exp(lost.mean()):.3f} |", flush=True)


if __name__ == "__main__":
    main()
