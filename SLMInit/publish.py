"""What comes after the training: serving the adapter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from models.errors import FineTuningError
from SLMInit.environment import ROOT
from SLMInit.options import OUTPUT, TrainingOptions


def publish(options: TrainingOptions) -> None:
    """Publish the adapter to a running server (SLMCLIENT_URL), as `slm adapters add` does.

    Raises:
        FineTuningError: the server does not take it.
    """
    add = ["-m", "slm", "adapters", "add", str(options.output.resolve()), "--name", str(options.publish)]
    if subprocess.run([sys.executable, *add], cwd=ROOT, check=False).returncode:
        raise FineTuningError(f"Not published: the server did not take it. The adapter is in {options.output}.")


def advice(options: TrainingOptions) -> str:
    """Say how to serve the adapter."""
    folder = _shown(options.output)
    if options.publish:
        return f'Ask for it by name: "model": "{options.publish}".'
    if options.output == OUTPUT[options.device]:
        return (
            "A server that is started here serves it by default: python start_slm_api.py\n"
            f"Publish it under a name to a running one: slm adapters add {folder} --name NAME"
        )
    return (
        f"Serve it by default: SLM_LORA_PATH={folder} python start_slm_api.py\n"
        f"Publish it under a name to a running server: slm adapters add {folder} --name NAME"
    )


def _shown(folder: Path) -> Path:
    """Return the path as short as possible."""
    path = folder.resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
