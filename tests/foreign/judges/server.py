"""Servers of ours with the default model, to be judged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from common.settings import ROOT
from models import default_model
from models.text.saved_template import TEMPLATE_FILE
from tests.compiled_kernels import share_kernels
from tests.free_port import free_port
from tests.processes import is_up, wait_for

MODELS = ROOT / "data" / "models"
MODEL = default_model.NAME
START_S = 300.0
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@contextmanager
def thinking(folder: Path) -> Iterator[str]:
    """Start one whose model reasons before it answers, with its data and its model in `folder`; yields its address."""
    model = folder / MODEL
    model.mkdir()
    for file in (MODELS / MODEL).iterdir():
        (model / file.name).symlink_to(file)
    template = model / TEMPLATE_FILE
    template.unlink(missing_ok=True)
    template.write_text((Path(__file__).parent / "thinking.jinja").read_text("utf-8"), "utf-8")
    with running(folder, {"SLM_BASE_MODEL": str(model)}) as url:
        yield url


@contextmanager
def running(folder: Path, settings: Mapping[str, str] = NO_SETTINGS) -> Iterator[str]:
    """Start one with its data in `folder`; yields its address. The model must be in `MODELS`."""
    data, port = folder / "data", free_port()
    data.mkdir()
    (data / "models").symlink_to(MODELS)
    share_kernels(data)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "start_slm_api.py"), "--port", str(port)],
            cwd=ROOT,
            env=os.environ
            | {"SLM_DATA_DIR": str(data), "SLM_TRAINER": "false", "SLM_CORS_ORIGINS": "localhost"}
            | settings,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for("the server's model", lambda: is_up(url, "/health") or process.poll() is not None, START_S)
        assert process.poll() is None, (folder / "server.log").read_text("utf-8")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_S)
