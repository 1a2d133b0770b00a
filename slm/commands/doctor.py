"""`slm doctor`: what is wrong with the server's machine, and what to change. It needs no running server."""

from __future__ import annotations

import platform
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from slm.failures import CommandError, shown
from slm.options import Json
from slm.output import Output

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.doctor.finding import Finding

doctor = typer.Typer()


@doctor.command("doctor")
def _doctor(*, as_json: Json = False) -> None:
    """Check the settings, this machine and Redis, and say what to change. Exit status 1 if something must change."""
    output = Output(as_json=as_json)
    with shown(output):
        findings = _examine()
        output.result({"findings": [asdict(one) for one in findings]}, "\n".join(map(_line, findings)))
    if any(one.level == "problem" for one in findings):
        raise typer.Exit(1)


def _examine() -> Sequence[Finding]:
    try:
        from deploy.doctor.examination import examine
    except ImportError as err:
        raise CommandError(
            f"'slm doctor' runs in the server's environment, as the server's user: {sys.executable} "
            f"(Python {platform.python_version()}) lacks {err.name}."
        ) from err
    return list(examine())


def _line(one: Finding) -> str:
    advice = f"\n{'':<26}{one.advice}" if one.advice else ""
    return f"{one.level.value:<9}{one.check:<17}{one.found}{advice}"
