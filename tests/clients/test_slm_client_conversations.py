"""Chats with tools, models and conversations with the httpx client, blocking and asynchronous; and its README."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest
from slm_client import SLMClient
from slm_client.errors import NotFound

from common.jobs.reasoning import THINK, Reasoning
from common.settings import ROOT
from tests.clients.blocking import BlockingClient
from tests.clients.conftest import Worker
from tests.scripted_worker import Play, answer

README = ROOT / "clients" / "python" / "README.md"
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]


@pytest.fixture(params=[SLMClient, BlockingClient], ids=["blocking", "async"])
def slm(request: pytest.FixtureRequest, url: str) -> Any:
    with request.param(url) as client:
        yield client


def test_a_conversation_is_kept_by_the_server(slm: Any, worker: Worker) -> None:
    with worker(answer("No, they swim.")):
        made = slm.create_conversation(title="Birds", system_prompt="Be brief.")
        question = slm.append(made.id, "Can penguins fly?")
        asked = slm.conversation(made.id).to_prompt()
        assert [one["role"] for one in asked] == ["system", "user"]
        done = slm.chat(asked, conversation=made.id)
    found = slm.conversation(made.id)
    assert [one.content for one in found.shown()] == ["Can penguins fly?", "No, they swim."]
    assert (found.messages[1].job_id, found.messages[1].parent_id) == (done.job_id, question.id)
    assert slm.change_message(made.id, found.messages[1].id, rating="up").rating == "up"
    slm.append(made.id, "Can bees?", parent_id=None)
    assert slm.change_conversation(made.id, leaf_id=question.id).leaf_id == question.id
    assert [one.id for one in slm.conversations(text="PENGUINS")] == [made.id]
    assert slm.conversations(text="whale") == []
    slm.delete_conversation(made.id)
    with pytest.raises(NotFound):
        slm.conversation(made.id)


def test_feedback_is_kept_listed_and_made_a_dataset(slm: Any, worker: Worker) -> None:
    with worker(answer("No, they swim.")):
        ids = [slm.generate(prompt).job_id for prompt in ("Can penguins fly?", "Can ducks?")]
    given = slm.give_feedback(ids[0], rating="up", tags=["birds", "true"])
    assert (given.rating, given.prompt, given.response) == ("up", "Can penguins fly?", "No, they swim.")
    slm.give_feedback(ids[1], rating="down", correction="Yes.")
    assert slm.feedback(ids[0]) == given
    first = slm.feedback_page(limit=1, after=None)
    assert ([one.job_id for one in first.feedback], first.has_more) == ([ids[1]], True)
    assert [one.job_id for one in slm.feedback_page(limit=1, after=first.last_id).feedback] == [ids[0]]
    assert [one.job_id for one in slm.feedback_page(rating="up", tags=["birds", "true"]).feedback] == [ids[0]]
    assert slm.feedback_dataset(kind="pairs")["examples"] == 2
    for job_id in ids:
        slm.delete_feedback(job_id)
    assert not slm.feedback_page().feedback
    with pytest.raises(NotFound):
        slm.feedback(ids[0])


def test_a_chat_calls_tools(slm: Any, worker: Worker) -> None:
    def script(play: Play) -> None:
        play.status("Generating response...", tool_form="hermes")
        play.end(CALL)

    with worker(script):
        done = slm.chat([{"role": "user", "content": "What is the weather?"}], tools=TOOLS)
    [call] = done.tool_calls
    assert (call.name, call.arguments, done.finish_reason) == ("weather", {"city": "Paris"}, "tool_calls")
    assert done.message["tool_calls"][0]["id"] == call.id


def test_a_chat_has_the_reasoning_apart(slm: Any, worker: Worker) -> None:
    def script(play: Play) -> None:
        play.status("Generating response...", reasoning=Reasoning(THINK, is_open=True))
        play.end("It is a bird.</think>No.")

    messages = [{"role": "user", "content": "Does it swim?"}]
    with worker(script):
        done = slm.chat(messages)
        slm.chat([*messages, done.message, *messages])
    assert (done.reasoning, done.text) == ("It is a bird.", "No.")


def test_models_are_listed(slm: Any, worker: Worker) -> None:
    with worker(answer("x")):
        assert [(one.name, one.kind) for one in slm.models()] == [("default", "alias"), ("gpt2", "base")]


def test_the_snippets_of_the_readme_run(url: str, worker: Worker) -> None:
    snippets = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert len(snippets) == 6
    program = "\n".join(snippets).replace("SLMClient()", f"SLMClient({url!r})")
    with worker(answer("No, ", "they swim.")):
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONPATH": str(README.parent)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "user Can penguins fly?\nassistant No, they swim.\n" in done.stdout
