"""Downloads or converts the base model before anything is started."""

from __future__ import annotations

import os
import subprocess

from common.settings import ROOT
from deploy.launch import tied
from deploy.processes.stack import MODEL, Stack, module
from deploy.setup.preflight import PreflightError
from deploy.setup.stage import Stage


class ModelProgress:
    """The current step, read from the output of `models.base_model`. An indented line adds detail to the last step."""

    def __init__(self) -> None:
        self._step = ""
        self._share = ""

    def note(self, line: str) -> None:
        """Take one line of output."""
        if line.startswith(" "):
            self._share = line.strip()
        elif line.strip():
            self._step, self._share = line.strip(), ""

    def __str__(self) -> str:
        return f"{self._step} {self._share}".rstrip()


def make_model(stack: Stack, model: str) -> None:
    """Download or convert a base model in a separate process, because that needs torch.

    The process ends with this one, or keeps the data folder's lock until it has ended.

    Raises:
        PreflightError: the model is not available; the text says why.
    """
    progress, log = ModelProgress(), stack.logs / "model.log"
    with (
        Stage(f"Model {model}", progress.__str__),
        log.open("a", encoding="utf-8", buffering=1) as kept,
        subprocess.Popen(
            tied(module(*MODEL, "--base-model", model)),
            cwd=ROOT,
            env=stack.environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            pass_fds=(stack.lock,),
        ) as process,
    ):
        for line in process.stdout or ():
            kept.write(line)
            progress.note(line)
        if process.wait() != 0:
            raise PreflightError(f"{progress} Details: {log}")
