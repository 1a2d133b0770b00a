"""The configuration of an engine and its runner, fixed before they start.

`worker/model/loader.py` creates an `EngineConfig` from the settings, which hold the defaults; values without a setting
have their default here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.settings import Device, Dtype, KvCacheDtype

PREFILL_CHUNK = 256  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerConfig:
    """The limits and resources of a model runner.

    Attributes:
        max_num_seqs: maximum sequences that run at once, which is the maximum rows of a step.
        context_length: maximum tokens of a sequence, prompt and answer together.
        kv_bytes: maximum memory for keys and values; None: `make_runner` chooses by device, and a runner without it
            takes what `max_num_seqs` full sequences need.
        kv_cache_dtype: number format of keys and values; auto: the runner chooses.
        num_threads: CPU threads of a step.
        build_dir: folder for the compiled kernels.
    """

    max_num_seqs: int
    context_length: int
    kv_bytes: int | None
    kv_cache_dtype: KvCacheDtype = "auto"
    num_threads: int
    build_dir: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How a model is loaded and served.

    Attributes:
        device: where to compute; auto: the best available device.
        dtype: number format of the weights; auto: chosen by device. See `choose_dtype` and `make_runner`.
        runner: the runner's configuration. The model's own limit caps its `context_length`.
        prefill_chunk: prompt tokens computed per step, of all sequences together.
    """

    device: Device
    dtype: Dtype
    runner: RunnerConfig
    prefill_chunk: int = PREFILL_CHUNK
