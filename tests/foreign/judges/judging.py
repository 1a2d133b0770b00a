"""Runs a suite against a server, and compares what failed with what is expected to."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy import bootstrap
from tests.foreign.foreign_python import FOLDER, SILENCE
from tests.foreign.foreign_python import HERE as FOREIGN
from tests.foreign.judges import sources
from tests.foreign.judges.suites import HERE, Suite

INI = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"


@dataclass
class Verdict:
    """What the suite said. `failed` and `missing` have a text for each test; `now_pass` were expected to fail."""

    passed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    expected: dict[str, str] = field(default_factory=dict)  # why they fail
    failed: dict[str, str] = field(default_factory=dict)
    now_pass: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether there is no failure that is not expected, and something passed."""
        return not self.failed and bool(self.passed)

    def __str__(self) -> str:
        lines = [f"FAILED {test}\n{why}" for test, why in self.failed.items()]
        lines += [f"passes, but is expected to fail: {test}" for test in self.now_pass]
        counts = f"{len(self.passed)} passed, {len(self.expected)} failed as expected, {len(self.failed)} failed"
        return "\n".join([*lines, f"{counts}, {len(self.skipped)} skipped"])


def judge(
    suite: Suite, url: str, model: str, tokenizer: Path, *, thinking_url: str | None = None, quick: bool = False
) -> Verdict:
    """Run the suite, or its quick part, against the server at `url`, which serves `model`.

    Args:
        suite: the tests.
        url: the server's address.
        model: the name of a model that it serves.
        tokenizer: the folder with that model's tokenizer.
        thinking_url: the address of a server whose model reasons; None skips the tests that need one.
        quick: run only the tests that `quick` of the suite names.
    """
    python = bootstrap.ensure([FOREIGN / "requirements.txt"], FOLDER)
    folder = sources.unpacked(suite, model)
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report"
        urls = {"JUDGE_URL": url} | ({} if thinking_url is None else {"JUDGE_THINKING_URL": thinking_url})
        variables = {**urls, "JUDGE_TOKENIZER": str(tokenizer), "JUDGE_REPORT": str(report)}
        paths = {"PYTHONPATH": f"{HERE / 'plugins'}:{_root(folder, suite)}", "PYTEST_PLUGINS": ""}
        chosen = suite.quick if quick else suite.files
        ini = Path(scratch) / "pytest.ini"  # without it, pytest would find this project's
        ini.write_text(INI)
        command = [str(python), "-m", "pytest", "-p", suite.plugin, "-p", "judge_report", "-q", "--tb=short", "-c", ini]
        done = subprocess.run(
            [*command, "--rootdir=.", f"--basetemp={scratch}/tests", *suite.options, *chosen],
            cwd=folder,
            env=os.environ | SILENCE | variables | paths,
            capture_output=True,
            text=True,
            check=False,
        )
        assert report.exists(), done.stdout + done.stderr
        return verdict_of(suite, report.read_text("utf-8").splitlines())


def _root(folder: Path, suite: Suite) -> Path:
    """Return the folder above the tests, from which vLLM's import each other."""
    return folder.parents[len(Path(suite.folder).parts) - 1]


def verdict_of(suite: Suite, lines: Sequence[str]) -> Verdict:
    """Return what the lines of a report mean for the suite."""
    verdict = Verdict()
    for line in lines:
        said = json.loads(line)
        test, why = said["test"], suite.reason(said["test"])
        match said["outcome"]:
            case "skipped":
                verdict.skipped.append(test)
            case "passed":
                verdict.passed.append(test)
                if why is not None:
                    verdict.now_pass.append(test)
            case _ if why is not None:
                verdict.expected[test] = why
            case _:
                verdict.failed[test] = said["text"]
    return verdict
