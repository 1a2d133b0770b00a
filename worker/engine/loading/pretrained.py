"""Reads a model with transformers: its weights, its settings and its tokenizer. Importing this takes seconds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils.logging import disable_progress_bar

from common.errors import ModelUnavailable
from common.settings import Device, Dtype, KvCacheDtype
from models.context import declared_context
from worker.engine.config import EngineConfig
from worker.engine.loading.errors import LOAD_ERRORS, UnusableFiles
from worker.engine.loading.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)

DEFAULT_CONTEXT = 2048  # tokens, for a model that does not declare its context


def read_model(source: str, config: EngineConfig) -> tuple[Any, Any, int]:
    """Return a model on its device, its tokenizer, and the maximum number of tokens that it supports.

    Raises:
        ModelUnavailable: the device does not exist, or does not support the number formats.
        UnusableFiles: its weights are not finite, or its tokenizer cannot be used.
        OSError, ValueError, ...: `LOAD_ERRORS`.
    """
    disable_progress_bar()  # type: ignore[no-untyped-call]
    device, device_reason = choose_device(config.device)
    dtype, dtype_reason = choose_dtype(config.dtype, device)
    check_cache_dtype(config.runner.kv_cache_dtype, device, dtype)
    logger.info("device=%s (%s) dtype=%s (%s)", device, device_reason, dtype, dtype_reason)
    model, tokenizer = _from_pretrained(source, dtype)
    _check_finite(model, source)
    model = model.to(device).eval().requires_grad_(requires_grad=False)
    return model, tokenizer, context_limit(model.config.get_text_config(), tokenizer)


def choose_device(wish: Device) -> tuple[torch.device, str]:
    """Return the device and the reason for it.

    Raises:
        ModelUnavailable: the requested device is not available.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wish == "auto":
        return torch.device(next(name for name in available if available[name])), "the best available"
    if not available[wish]:
        raise ModelUnavailable(f"This machine has no {wish} device. Set SLM_DEVICE to auto or cpu.")
    return torch.device(wish), "as configured"


def choose_dtype(wish: Dtype, device: torch.device) -> tuple[torch.dtype, str]:
    """Return the number format in which to read the weights, and the reason for it. int8 is quantised afterwards.

    Raises:
        ModelUnavailable: the device does not support the requested format.
    """
    if wish == "int8":
        if device.type != "cpu":
            raise ModelUnavailable(f"int8 runs on the CPU only. Set SLM_DTYPE to auto for {device.type}.")
        return torch.float32, "to be quantised"
    if wish != "auto":
        dtype: torch.dtype = getattr(torch, wish)
        return dtype, "as configured"
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16, "half the memory traffic with float32's range"
    if device.type in ("cuda", "mps"):
        return torch.float16, "half the memory traffic; this device computes no bfloat16"
    return torch.float32, "exact; made int8 where the native kernels run"


def check_cache_dtype(wish: KvCacheDtype, device: torch.device, dtype: torch.dtype) -> None:
    """Check that a runner for the weights, as they are read, may have a cache in that format.

    Raises:
        ModelUnavailable: only the native runner has such a cache, and it cannot compute these weights.
    """
    if wish == "int8" and (device.type != "cpu" or dtype != torch.float32):
        computed = str(dtype).removeprefix("torch.")
        raise ModelUnavailable(
            "A key-value cache in int8 needs a CPU, and weights in int8 or float32. "
            f"Set SLM_KV_CACHE_DTYPE to auto for {computed} on {device.type}."
        )


def context_limit(config: Any, tokenizer: Any) -> int:
    """Return the maximum number of tokens that the model supports."""
    limit = declared_context(config) or min(tokenizer.model_max_length, DEFAULT_CONTEXT)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        # Beyond this length the encoding of all earlier positions changes, which cached keys cannot follow.
        limit = min(limit, rope.get("original_max_position_embeddings") or limit)
    return int(limit)


def _from_pretrained(source: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Load model and tokenizer from the folder or the hub's cache if possible, else from the hub."""
    try:
        return _load(source, dtype, local_files_only=True)
    except (*LOAD_ERRORS, UnusableFiles):  # an incomplete cache fails in many ways
        if Path(source).is_dir():
            raise
        return _load(source, dtype, local_files_only=False)


def _load(source: str, dtype: torch.dtype, *, local_files_only: bool) -> tuple[Any, Any]:
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": local_files_only}
    config = AutoConfig.from_pretrained(source, **options)
    tokenizer = load_tokenizer(source, **options)
    model_class: Any = AutoModelForCausalLM
    model, report = model_class.from_pretrained(
        source, config=config, dtype=dtype, use_safetensors=True, output_loading_info=True, **options
    )
    if missing := sorted(report["missing_keys"]):
        raise ValueError(f"its weights are incomplete, {len(missing)} are missing, e.g. {missing[0]}.")
    return model, tokenizer


def _check_finite(model: Any, source: str) -> None:
    """Check that all weights are finite: a single NaN would silently spoil all answers that it affects."""
    for name, weight in model.named_parameters():
        if weight.numel() and not torch.stack(torch.aminmax(weight)).isfinite().all():
            raise UnusableFiles(
                f"the weights in {source!r} are broken: {name} holds values that are not finite numbers (NaN or "
                "infinite). Get them again, or train the model again if they are your own."
            )
