"""A rival's own Python environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deploy import bootstrap


@dataclass(frozen=True)
class Environment:
    """An environment with the packages of a file of requirements."""

    folder: Path
    requirements: Path

    def make(self) -> None:
        """Install the packages; an existing installation is kept.

        Raises:
            deploy.bootstrap.SetupError: pip failed; the console has its output.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        bootstrap.ensure([self.requirements], self.folder)

    def program(self, name: str) -> Path:
        """Return the path of one of its programs."""
        return bootstrap.python_of(self.folder).with_name(name)
