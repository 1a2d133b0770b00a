"""Loads the model that the settings name."""

from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path

import torch

from common.content import ContentHashes
from common.cores import usable_cores
from common.embedding.embedders import EmbedderReport
from common.settings import Settings
from models.encoder import EncoderSpec, read_encoder
from worker.engine.embedding.encoder import Encoder

log = logging.getLogger(__name__)


def load_encoder(settings: Settings, embedder_id: str) -> tuple[Encoder, EmbedderReport]:
    """Load the model; return it with the first report of its embedder.

    Raises:
        EncoderError: the model cannot be loaded.
    """
    torch.set_num_threads(settings.embed_threads or usable_cores())
    spec, device, started = read_encoder(settings.embed_folder or Path()), _device(settings), time.monotonic()
    encoder = Encoder(spec, device)
    report = _report(settings, embedder_id, spec, encoder, device)
    log.info(
        "%s is loaded on %s after %.1f s: %d dimensions, %d tokens",
        report.model,
        device,
        time.monotonic() - started,
        encoder.dimensions,
        encoder.max_tokens,
    )
    return encoder, report


def _device(settings: Settings) -> str:
    if settings.embed_device != "auto":
        return settings.embed_device
    return "cuda" if torch.cuda.is_available() else "cpu"


def _report(settings: Settings, embedder_id: str, spec: EncoderSpec, encoder: Encoder, device: str) -> EmbedderReport:
    return EmbedderReport(
        id=embedder_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        device=device,
        model=settings.embed_name or "",
        digest=ContentHashes().of_folder(spec.transformer),
        dimensions=encoder.dimensions,
        max_tokens=encoder.max_tokens,
        size=encoder.size,
        started=int(time.time()),
    )
