"""The dependencies of the package: read from requirements/, which the set-up and the images install from, too."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).resolve().parent
REQUIREMENTS = ROOT / "requirements"
EXTRAS = ("api", "worker", "train", "local", "tracing")


def requirements(file: Path) -> list[str]:
    """What a file and those that it includes with -r list; the constraints (-c) are pip's own."""
    found: list[str] = []
    for line in file.read_text("utf-8").splitlines():
        if included := re.fullmatch(r"-r (\S+)", line):
            found += requirements(file.parent / included[1])
        elif line and not line.startswith(("#", "-")):
            found.append(line)
    return sorted(set(found))


setup(
    install_requires=requirements(REQUIREMENTS / "cli.txt"),
    extras_require={extra: requirements(REQUIREMENTS / f"{extra}.txt") for extra in EXTRAS}
    | {"dev": sorted({*requirements(ROOT / "requirements.txt"), *requirements(REQUIREMENTS / "test.txt")})},
)
