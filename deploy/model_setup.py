"""Make the base model ready before anything is started."""

from __future__ import annotations

import os
import subprocess

from common.settings import ROOT
from deploy.launch import tied
from deploy.preflight import PreflightError
from deploy.stack import MODEL, Stack, module
from deploy.stage import Stage


class ModelProgress:
    """What is being done to the model, from the lines of `SLMInit.base_model`. An indented one adds to the last."""

    def __init__(self) -> None:
        self._step = ""
        self._share = ""

    def note(self, line: str) -> None:
        """Take one line."""
        if line.startswith(" "):
            self._share = line.strip()
        elif line.strip():
            self._step, self._share = line.strip(), ""

    def __str__(self) -> str:
        return f"{self._step} {self._share}".rstrip()


def make_model(stack: Stack) -> None:
    """Download or convert the model, in a process of its own: that takes torch.

    The process ends with this one, or else keeps the data folder's lock until it has.

    Raises:
        PreflightError: it cannot be had; the text says why.
    """
    progress, log = ModelProgress(), stack.logs / "model.log"
    with (
        Stage(f"Model {stack.settings.base_model}", progress.__str__),
        log.open("a", encoding="utf-8", buffering=1) as kept,
        subprocess.Popen(
            tied(module(*MODEL)),
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
            raise PreflightError(f"{progress} More: {log}")
