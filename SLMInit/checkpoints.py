"""Manages the checkpoints of a run and finds the one to resume from."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import TrainingError

Identity = Mapping[str, Any]  # the options that must be the same to resume from a checkpoint, by name


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The folder with `checkpoint-<step>` folders and `run.json`, the identity of the run that wrote them."""

    folder: Path

    def begin(self, identity: Identity) -> None:
        """Start a new run; deletes an earlier run's checkpoints, so that a later resume cannot mix the two."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._run_file.write_text(json.dumps(dict(identity), indent=2) + "\n", encoding="utf-8")

    def resume(self, identity: Identity) -> Path:
        """Return the last complete checkpoint of a run with this identity.

        Raises:
            TrainingError: there is none, or an option differs; the text names the option.
        """
        last = self._last()
        if last is None:
            raise TrainingError(f"Nothing to resume: {self.folder} has no checkpoint. Start without --resume.")
        before = json.loads(self._run_file.read_text(encoding="utf-8"))
        for option, value in identity.items():
            if before.get(option) != value:
                raise TrainingError(
                    f"Cannot resume {last}: it was made with {option} = {before.get(option)!r}; now it is {value!r}. "
                    "Use the same options, or start without --resume."
                )
        return last

    @property
    def _run_file(self) -> Path:
        return self.folder / "run.json"

    def _last(self) -> Path | None:
        """Return the last complete checkpoint: trainer_state.json is written last, so one without it is incomplete."""
        found = {
            int(match[1]): path
            for path in self.folder.glob("checkpoint-*")
            if (match := re.fullmatch(r"checkpoint-(\d+)", path.name)) and (path / "trainer_state.json").is_file()
        }
        return found[max(found)] if found else None
