"""What commands that compute with models on this machine have in common: the libraries, and how progress is shown."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from slm.failures import CommandError
from slm.output import Output

_NEEDED = ("peft", "safetensors", "torch", "transformers")


class GgufFormat(StrEnum):
    """The number formats of a GGUF file's matrices, known without loading a library."""

    F16 = "F16"
    Q8_0 = "Q8_0"


@contextmanager
def model_tools(output: Output) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a step as a line on the standard error; errors in models' files end the command.

    Raises:
        CommandError: a library is missing, or what the block raised about a model's files or a setting.
    """
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise CommandError(
            f"the command needs {' and '.join(missing)}, which this Python does not have: pip install -e '.[worker]', "
            "or run 'python -m slm' where the server is installed"
        )
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with output.live_line("Loading the libraries") as live:
        from transformers.utils.logging import disable_progress_bar

        from common.settings import SettingsError
        from models.errors import FineTuningError

        disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield lambda line: live.show(line) if live.is_shown else output.step(line)
        except (FineTuningError, SettingsError) as err:
            raise CommandError(str(err)) from err
