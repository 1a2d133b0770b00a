"""The suites: where they come from, and which of their files apply."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Suite:
    """Tests in the source archive of a package on PyPI.

    `folder` is where they are run; `kept` are the parts of it that are unpacked. Each of `edits`, a pattern and a text
    in which `{model}` is the server's, is replaced in the tests. `quick` are the tests for CI.
    """

    name: str
    package: str
    version: str
    sha256: str
    folder: str
    kept: tuple[str, ...]
    files: tuple[str, ...]
    quick: tuple[str, ...]
    edits: tuple[tuple[str, str], ...]
    options: tuple[str, ...]
    reasons: dict[str, tuple[str, ...]]

    @property
    def plugin(self) -> str:
        """The module that replaces what would start the other server."""
        return f"judge_{_word(self.name)}"

    def reason(self, test: str) -> str | None:
        """Return why the test is expected to fail; None if it is not."""
        return next((why for why, tests in self.reasons.items() if any(_is_in(test, one) for one in tests)), None)


def suite(name: str) -> Suite:
    """Read the description of a suite."""
    fields = tomllib.loads((HERE / f"{_word(name)}.toml").read_text("utf-8"))
    reasons = {why: tuple(tests) for why, tests in fields.pop("reasons").items()}
    edits = tuple((before, after) for before, after in fields.pop("edits"))
    lists = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    return Suite(name, **lists, edits=edits, reasons=reasons)


def _word(name: str) -> str:
    return name.replace(".", "_")


def _is_in(test: str, entry: str) -> bool:
    """Return whether the entry, a folder, a file, a test or one of its cases, includes the test."""
    return test == entry or test.startswith((f"{entry}/", f"{entry}::", f"{entry}["))
