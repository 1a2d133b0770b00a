"""`slm chat`: a conversation in the terminal, or one question per line of a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from slm_client import SLMClientError
from slm_client.call import Call

from slm import failures
from slm.answering import Answered, answer
from slm.conversation import HELP, Conversation
from slm.failures import CommandError
from slm.generation_options import MaxNewTokens, Model, More, Seed, Temperature, given
from slm.output import Output
from slm.server_command import server_command
from slm.session import Session

_TEMPERATURE = 0.7  # as of POST /slm/generate; chat completions have OpenAI's 1.0
_EXITS = ("/exit", "/quit", "/bye")

chat = typer.Typer()

System = Annotated[str | None, typer.Option(metavar="TEXT", help="An instruction that the model gets first.")]


@server_command(chat, "chat")
def _chat(
    session: Session,
    output: Output,
    model: Model = None,
    system: System = None,
    max_new_tokens: MaxNewTokens = None,
    temperature: Temperature = _TEMPERATURE,
    seed: Seed = None,
    more: More = None,
) -> None:
    """Talk with a model. Ctrl-C stops an answer; /exit or Ctrl-D ends. A pipe has one question per line."""
    named = {"max_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    fields = {"model": model or _default_model(session), **given(named, more)}
    conversation = Conversation(fields, system)
    if sys.stdin.isatty():
        output.note(f"Talking with {fields['model']}. {HELP}")
        prompt = "" if output.as_json or not sys.stdout.isatty() else "> "
        for text in _typed(output, prompt):
            _take_turn(session, output, conversation, text)
    else:
        for text in filter(None, map(str.strip, sys.stdin)):
            if text in _EXITS:
                return
            _say(session, output, conversation, text)


def _default_model(session: Session) -> str:
    """Return the first name that the server lists: its default."""
    models = session.fetch(Call("GET", "/v1/models"))["data"]
    if not models:
        raise CommandError("the server has no model yet: no worker has loaded one")
    return str(models[0]["id"])


def _typed(output: Output, prompt: str) -> Iterator[str]:
    """Yield what the user types, up to /exit or Ctrl-D."""
    import readline  # noqa: F401 - lines can be edited and called back

    while True:
        try:
            text = input(prompt).strip()
        except EOFError:
            output.note("")
            return
        except KeyboardInterrupt:
            output.note("\n/exit or Ctrl-D ends.")
            continue
        if text in _EXITS:
            return
        if text:
            yield text


def _take_turn(session: Session, output: Output, conversation: Conversation, text: str) -> None:
    """Say something; whatever goes wrong, the conversation continues."""
    try:
        _say(session, output, conversation, text)
    except KeyboardInterrupt:
        output.note("The answer was stopped.")
    except (SLMClientError, CommandError) as err:
        failures.show(err, output)


def _say(session: Session, output: Output, conversation: Conversation, text: str) -> None:
    if text.startswith("/"):
        output.note(conversation.obey(text))
        return
    answered = Answered()
    try:
        answer(session, output, session.converse(conversation.request(text)), answered)
    finally:
        conversation.note(text, answered.text)
