"""`slm chat` in a pipe and on a terminal, against an API process."""

from __future__ import annotations

import io
import sys

import pytest
from slm_client import SLMClient

from common.jobs.prompts import Conversation
from tests.clients.conftest import Worker
from tests.clients.mortal_api import MortalApi
from tests.process.slm.conftest import Command, CommandAt, count_through_a_restart
from tests.process.slm.terminal import CTRL_C, CTRL_D, terminal
from tests.processes import wait_for
from tests.scripted_worker import Play


def contents(play: Play) -> list[str]:
    prompt = play.params.prompt
    assert isinstance(prompt, Conversation)
    return [f"{one['role'][0]}:{one['content']}" for one in prompt.messages]


def repeat(play: Play) -> None:
    """Answer with the conversation so far."""
    play.say("[")
    play.end(f"{'|'.join(contents(play))}]")


def wait(play: Play) -> None:
    """Answer until the answer is cancelled."""
    play.say("so far")
    play.run_until_cancelled()


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    lines = io.StringIO()
    monkeypatch.setattr(sys, "stdin", lines)
    return lines


def test_each_line_of_a_pipe_is_a_question(slm: CommandAt, worker: Worker, typed: io.StringIO) -> None:
    typed.write("Hi\n\n/system Be brief.\nHow are you?\n/reset\nBye\n/exit\nnever sent\n")
    typed.seek(0)
    with worker(repeat):
        done = slm("chat", "--seed", "1")
    assert done.out.splitlines() == [
        "[u:Hi]",
        "[s:Be brief.|u:Hi|a:[u:Hi]|u:How are you?]",
        "[s:Be brief.|u:Bye]",
    ]


def test_a_program_gets_the_events_of_each_answer(slm: CommandAt, worker: Worker, typed: io.StringIO) -> None:
    typed.write("Hi\nBye\n")
    typed.seek(0)
    with worker(repeat):
        done = slm("chat", "--json", "--system", "S")
    assert [one["text"] for one in done.events if one["type"] == "text"] == [
        "[",
        "s:S|u:Hi]",
        "[",
        "s:S|u:Hi|a:[s:S|u:Hi]|u:Bye]",
    ]
    assert [one["type"] for one in done.events].count("finished") == 2


def test_a_stream_continues_when_the_api_dies(
    command: Command, dying_api: MortalApi, worker: Worker, typed: io.StringIO
) -> None:
    typed.write("Count\n")
    typed.seek(0)

    with worker(count_through_a_restart(dying_api)):
        assert command.at(dying_api.url)("chat").out == "one two three\n"


def test_an_error_ends_a_pipe_and_has_the_servers_text(slm: CommandAt, worker: Worker, typed: io.StringIO) -> None:
    typed.write("Hi\nBye\n")
    typed.seek(0)
    with worker(repeat):
        done = slm("chat", "--model", "nope", status=1)
    assert done.err.startswith("slm: There is no model 'nope'")
    assert "gpt2" in done.err
    assert done.out == ""


def statuses(url: str) -> set[str]:
    with SLMClient(url) as client:
        return {str(job.status) for job in client.jobs()}


def test_ctrl_c_stops_the_answer_and_the_conversation_goes_on(url: str, worker: Worker) -> None:
    with worker(wait) as running, terminal("chat", "--url", url) as screen:
        screen.wait_for("/exit ends.")
        screen.wait_for("> ")
        screen.type("Hi\n")
        screen.wait_for("so far")
        screen.type(CTRL_C)
        screen.wait_for("The answer was stopped.")
        screen.wait_for("> ")
        wait_for("the job to be cancelled", lambda: statuses(url) == {"cancelled"})
        running.script = repeat
        screen.type("Go on\n")
        screen.wait_for("[u:Hi|a:so far|u:Go on]")
        screen.wait_for("> ")
        screen.type(CTRL_C)  # readline notices it only at the next key if it comes between the prompt and its wait
        screen.wait_for("Ctrl-D ends.", repeated=CTRL_C)
        screen.wait_for("> ")
        screen.type(CTRL_D)
        assert screen.end() == 0
