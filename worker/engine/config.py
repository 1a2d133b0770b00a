"""What an engine is told once, before it starts: where it computes, how much at once, and with which means.

`worker/backend.py` makes an `EngineConfig` from the settings, which hold the defaults; what is no setting has its
default here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.settings import Device, Dtype

PREFILL_CHUNK = 256  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerConfig:
    """How much a model runner computes at once, and with which means.

    Attributes:
        max_num_seqs: sequences that run at once, so the most rows of a step.
        context_length: most tokens of a sequence, prompt and answer together.
        kv_bytes: most memory for keys and values; None: `make_runner` chooses what suits the device, and a runner by
            itself takes what `max_num_seqs` full sequences need.
        num_threads: CPU threads of a step.
        build_dir: folder for the compiled kernels.
    """

    max_num_seqs: int
    context_length: int
    kv_bytes: int | None
    num_threads: int
    build_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How a model is loaded and served.

    Attributes:
        device: where to compute; auto: the best there is.
        dtype: number format of the weights; auto: what the device is good at. See `choose_dtype` and `make_runner`.
        runner: the runner's part. The model's own limit caps its `context_length`.
        prefill_chunk: prompt tokens computed per step, of all sequences together.
    """

    device: Device
    dtype: Dtype
    runner: RunnerConfig
    prefill_chunk: int = PREFILL_CHUNK
