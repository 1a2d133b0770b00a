"""The Discord bot: the real discord.py and the real API, with a fake Discord."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from common.errors import JobTimeout
from common.jobs.prompts import Conversation
from tests.clients.conftest import Worker
from tests.clients.fake_discord import CHANNEL, DM, EPHEMERAL, TOKEN, FakeDiscord, buttons, fake_discord
from tests.clients.mortal_api import MortalApi
from tests.processes import wait_for
from tests.scripted_worker import TIMEOUT_S, Play, answer

LAUNCHER = Path(__file__).parent / "discord_bot.py"


@pytest.fixture(scope="module")
def discord(lasting_api: MortalApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeDiscord]:
    with fake_discord() as discord, running_bot(discord, lasting_api.url, tmp_path_factory.mktemp("bot")):
        yield discord


@pytest.fixture(autouse=True)
def _own_messages(discord: FakeDiscord) -> None:
    discord.begin_test()


@pytest.fixture
def alice(discord: FakeDiscord) -> str:
    return discord.join()


@pytest.fixture
def bob(discord: FakeDiscord) -> str:
    return discord.join()


@contextmanager
def running_bot(discord: FakeDiscord, url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    env = os.environ | {"DISCORD_TOKEN": TOKEN}
    command = [sys.executable, str(LAUNCHER), discord.url, "--url", url, "--edit-every", "0.05"]
    with (folder / "bot.log").open("wb") as log:
        bot = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        wait_for("the bot to connect or end", lambda: discord.is_ready() or bot.poll() is not None, 60)
        assert bot.poll() is None, (folder / "bot.log").read_text()
        yield bot
    finally:
        bot.kill()
        bot.wait()


class Script:
    """Emits the pieces that the test sends, until the end."""

    def __init__(self, first: str, last: str) -> None:
        self.go_on = threading.Event()
        self._first, self._last = first, last

    def __call__(self, play: Play) -> None:
        play.say(self._first)
        assert self.go_on.wait(TIMEOUT_S)
        play.end(self._last)


def states(url: str) -> Callable[[], list[str]]:
    return lambda: [job["status"] for job in requests.get(f"{url}/slm/jobs", timeout=60).json()["jobs"]]


def test_a_mention_is_answered_in_a_message_that_grows(
    discord: FakeDiscord, url: str, worker: Worker, alice: str
) -> None:
    prompts = []
    script = Script("Once ", "upon a time.")

    def play(play: Play) -> None:
        prompts.append(play.params.prompt)
        script(play)

    with worker(play):
        discord.say(alice, "tell me a story")
        message = discord.wait_for_message("Once")
        assert len(buttons(message)) == 1
        script.go_on.set()
        discord.wait_for_message("Once upon a time.")
        wait_for("the button to go", lambda: not buttons(message), TIMEOUT_S)
    assert prompts == [Conversation(({"role": "user", "content": "tell me a story"},))]
    assert message["versions"][0] == "*Thinking …*"
    assert message["content"] == "Once upon a time."


def test_what_was_said_in_a_channel_is_remembered_there_only(discord: FakeDiscord, url: str, worker: Worker) -> None:
    prompts = []

    def play(play: Play) -> None:
        prompts.append(play.params.prompt)
        play.end(f"Answer {len(prompts)}.")

    with worker(play):
        for number, channel in enumerate((CHANNEL, CHANNEL, DM)):
            discord.say(discord.join(), f"question {number + 1}", channel=channel)
            message = discord.wait_for_message(f"Answer {number + 1}.", number=number)
            wait_for("the end of the answer", lambda message=message: not buttons(message), TIMEOUT_S)
    turns = [("user", "question 1"), ("assistant", "Answer 1."), ("user", "question 2")]
    assert prompts[1] == Conversation(tuple({"role": role, "content": content} for role, content in turns))
    assert prompts[2] == Conversation(({"role": "user", "content": "question 3"},))


def test_the_command_is_answered_too(discord: FakeDiscord, url: str, worker: Worker, bob: str) -> None:
    assert [command["name"] for command in discord.commands] == ["ask"]
    with worker(answer("For", "ty-two.")):
        discord.ask(bob, "What is the answer?")
        discord.wait_for_message("Forty-two.")


def test_a_direct_message_needs_no_mention_and_other_messages_are_ignored(
    discord: FakeDiscord, url: str, worker: Worker, alice: str
) -> None:
    with worker(answer("Hello.")):
        discord.say(alice, "not for the bot", mention=False)
        discord.say(alice, "!ask hi", channel=DM, mention=False)
        discord.wait_for_message("Hello.")
    assert len(discord.contents()) == 1


def test_a_long_answer_continues_in_further_messages(
    discord: FakeDiscord, url: str, worker: Worker, alice: str
) -> None:
    words = [f"word{number} " for number in range(700)]
    with worker(answer(*words, "end")):
        discord.ask(alice, "Talk")
        discord.wait_for_message("end", number=2)
    assert " ".join(discord.contents()).split() == "".join([*words, "end"]).split()
    assert discord.refusals == []
    assert [buttons(message) for message in discord.present()] == [[], [], []]


def test_a_user_gets_one_answer_at_a_time_while_others_get_theirs(
    discord: FakeDiscord, url: str, worker: Worker, alice: str, bob: str
) -> None:
    script = Script("slow ", "done")
    with worker(script):
        discord.say(alice, "one")
        discord.wait_for_message("slow", number=0)
        discord.ask(alice, "two")
        refusal = discord.wait_for_message("One at a time", number=1)
        assert refusal["flags"] & EPHEMERAL
        discord.say(bob, "three")
        discord.wait_for_message("slow", number=2)
        script.go_on.set()
        discord.wait_for_message("done", number=0)
        discord.wait_for_message("done", number=2)


def test_the_queue_position_is_shown_and_updated(discord: FakeDiscord, url: str, worker: Worker, alice: str) -> None:
    with worker(answer("never")) as idle:
        idle.stop_looking()
        ahead = []
        while not ahead or requests.get(f"{url}/slm/jobs/{ahead[-1]}", timeout=60).json()["position"] < 2:
            body = {"prompt": "x", "async": True}
            ahead.append(requests.post(f"{url}/slm/generate", json=body, timeout=60).json()["job_id"])
        discord.say(alice, "Hi")
        message = discord.wait_for_message("Position in the queue: 3")
        requests.delete(f"{url}/slm/jobs/{ahead[-1]}", timeout=60)
        discord.wait_for_message("Position in the queue: 2")
        discord.press_stop(alice, message)
        discord.wait_for_message("Stopped.")


def test_the_stop_button_stops_for_the_asker_only(
    discord: FakeDiscord, url: str, worker: Worker, alice: str, bob: str
) -> None:
    def endless(play: Play) -> None:
        play.say("on and on ")
        play.run_until_cancelled()

    with worker(endless):
        discord.say(alice, "Talk")
        message = discord.wait_for_message("on and on")
        discord.press_stop(bob, message)
        discord.wait_for_message("somebody else's", number=1)
        assert states(url)() == ["running"]
        discord.press_stop(alice, message)
        discord.wait_for_message("*Stopped.*")
    assert message["content"].startswith("on and on")
    assert buttons(message) == []


def test_a_failure_is_reported_and_the_next_question_is_answered(
    discord: FakeDiscord, url: str, worker: Worker, alice: str, bob: str
) -> None:
    def fail(play: Play) -> None:
        play.say("half ")
        play.fail(JobTimeout("It took too long."))

    with worker(fail) as one:
        discord.say(alice, "")  # only the mention
        discord.wait_for_message("Ask me something", number=0)
        discord.say(alice, "Hi")
        message = discord.wait_for_message("It took too long.", number=1)
        wait_for("the button to go", lambda: not buttons(message), TIMEOUT_S)
        one.script = answer("Fine.")
        discord.say(bob, "Hi")
        discord.wait_for_message("Fine.", number=2)
    assert message["content"] == "half\n\n*That did not work: It took too long.*"


def test_a_deleted_message_ends_its_job(discord: FakeDiscord, url: str, worker: Worker, alice: str) -> None:
    def endless(play: Play) -> None:
        play.say("on ")
        seen.wait(TIMEOUT_S)
        play.say("and on ")
        play.run_until_cancelled()

    seen = threading.Event()
    with worker(endless):
        discord.say(alice, "Talk")
        discord.delete(discord.wait_for_message("on"))
        seen.set()
        wait_for("the job to be cancelled", lambda: states(url)() == ["cancelled"], TIMEOUT_S)
        discord.say(alice, "")
        discord.wait_for_message("Ask me something")


def test_the_answer_continues_after_discord_and_the_api_disconnect(
    discord: FakeDiscord, dying_api: MortalApi, worker: Worker, alice: str, bob: str
) -> None:
    script = Script("before ", "after")
    with worker(script):
        discord.say(alice, "Talk")
        discord.wait_for_message("before")
        discord.drop_connection()
        discord.say(bob, "")  # while nobody listens: it arrives after the resumption
        dying_api.restart()
        script.go_on.set()
        discord.wait_for_message("before after")
        discord.wait_for_message("Ask me something", number=1)
    assert discord.hellos == ["identify", "resume"]


def test_a_button_works_after_a_restart_and_sigterm_ends_the_bot_cleanly(
    lasting_api: MortalApi, url: str, worker: Worker, alice: str, tmp_path: Path
) -> None:
    def endless(play: Play) -> None:
        play.say("on and on ")
        play.run_until_cancelled()

    with fake_discord() as discord, worker(endless):
        with running_bot(discord, url, tmp_path) as first:
            discord.say(alice, "Talk")
            message = discord.wait_for_message("on and on")
            first.send_signal(signal.SIGTERM)
            assert first.wait(60) == 0, (tmp_path / "bot.log").read_text()
        discord.commands.clear()
        with running_bot(discord, url, tmp_path):
            discord.press_stop(alice, message)
            wait_for("the job to be cancelled", lambda: states(url)() == ["cancelled"], TIMEOUT_S)
    assert buttons(message) == []


@pytest.mark.parametrize(("token", "status", "complaint"), [(None, 2, "DISCORD_TOKEN is not set"), ("bad", 1, "token")])
def test_an_invalid_token_is_reported(discord: FakeDiscord, token: str | None, status: int, complaint: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "DISCORD_TOKEN"}
    env |= {} if token is None else {"DISCORD_TOKEN": token}
    command = [sys.executable, str(LAUNCHER), discord.url]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == status
    assert complaint in done.stderr
