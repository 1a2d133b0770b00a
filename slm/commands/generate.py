"""`slm generate`: one answer to one prompt."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from slm_client import call

from slm.answering import Answered, answer
from slm.failures import CommandError
from slm.generation_options import MaxNewTokens, Model, More, Seed, Temperature, given
from slm.output import Output
from slm.server_command import server_command
from slm.session import Session

generate = typer.Typer()

Prompt = Annotated[str, typer.Argument(metavar="PROMPT", help="The prompt; - reads it from the standard input.")]


@server_command(generate, "generate")
def _generate(
    session: Session,
    output: Output,
    prompt: Prompt,
    model: Model = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = None,
    seed: Seed = None,
    more: More = None,
) -> None:
    """Answer a prompt. The answer appears as it is generated; Ctrl-C cancels it."""
    text = sys.stdin.read().rstrip("\n") if prompt == "-" else prompt
    if not text.strip():
        raise CommandError("the prompt is empty", exit_status=2)
    named = {"model": model, "max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    stream, answered = session.stream(text, **given(named, more)), Answered()
    answer(session, output, stream, answered)
    if output.as_json:
        job = session.fetch(call.show(str(stream.job_id)))
        output.event({"type": "result", **(job["result"] or {})})
    if answered.was_cancelled:
        raise CommandError("the job was cancelled, so the answer is not complete")
