"""The dependencies of the package: read from requirements/, which the set-up and the images install from, too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

EXTRAS = {"tracing": ["requirements/tracing.txt"], "dev": ["requirements/test.txt"]}
SERVE = "requirements.txt"


class Dependencies(MetadataHookInterface):
    """Whoever installs the package can serve and train with it; the extras are what a server can do without."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the dynamic fields to the project's metadata."""
        root = Path(self.root)
        metadata["dependencies"] = requirements(root / SERVE)
        metadata["optional-dependencies"] = {
            extra: sorted({one for file in files for one in requirements(root / file)})
            for extra, files in EXTRAS.items()
        }


def requirements(file: Path) -> list[str]:
    """What a file and those that it includes with -r list; the constraints (-c) are pip's own."""
    found: list[str] = []
    for line in file.read_text("utf-8").splitlines():
        if included := re.fullmatch(r"-r (\S+)", line):
            found += requirements(file.parent / included[1])
        elif line and not line.startswith(("#", "-")):
            found.append(line)
    return sorted(set(found))
