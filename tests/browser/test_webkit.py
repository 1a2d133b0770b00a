"""The main flows of the page in WebKit; run by `TEST_BROWSER=webkit`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from common.adapters.uploads import Uploads
from common.settings import Settings
from tests.api_process import ApiProcess
from tests.browser.conftest import BROWSER
from tests.browser.webkit import CONTROL, ENTER, ESCAPE, WebKitPage, field, is_there, named, running_webkit, showing
from tests.missing import skip_or_fail
from tests.scripted_worker import Play, Script, ScriptedWorker, answer

pytestmark = pytest.mark.skipif(BROWSER != "webkit", reason="only with TEST_BROWSER=webkit")

SAID = "//article[contains(@class, 'user')]"
ANSWERS = "//article[contains(@class, 'assistant')]"
WATCH = "window.complaints = []; addEventListener('error', (event) => complaints.push(event.message));"
RICH = "A **short** answer:\n\n```python\ndef greet(): ...\n```\n\n| name | value |\n|---|---|\n| a | 1 |\n"
A_SECOND = 1

OpenPage = Callable[[Script], WebKitPage]


@pytest.fixture(scope="module")
def webkit() -> Iterator[WebKitPage]:
    if not is_there():
        skip_or_fail("there is no WebKitWebDriver, or no xvfb-run")
    with running_webkit() as page:
        yield page


@pytest.fixture
def open_page(webkit: WebKitPage, api: ApiProcess, real_redis: Redis) -> Iterator[OpenPage]:
    workers: list[ScriptedWorker] = []

    def open_it(script: Script) -> WebKitPage:
        workers.append(ScriptedWorker(real_redis, script).__enter__())
        workers[0].uploads = Uploads(Settings().data_dir / "uploads")  # where the API keeps them
        webkit.goto(api.url)
        webkit.evaluate(WATCH)
        return webkit

    yield open_it
    assert not webkit.evaluate("return window.complaints")
    for worker in workers:
        worker.__exit__(None, None, None)


def ask(page: WebKitPage, text: str) -> None:
    page.write(named("Message"), text + ENTER)


def test_a_chat_goes_on_with_markdown_and_a_menu(open_page: OpenPage) -> None:
    page = open_page(answer(RICH))
    page.wait_for(showing("Three things to do"))
    ask(page, "Hi")
    page.wait_for(f"{ANSWERS}//strong[.='short']")
    page.wait_for(f"{ANSWERS}//*[contains(@class, 'hljs-keyword')][.='def']")
    page.wait_for(f"{ANSWERS}//td[.='a']")
    ask(page, "Again")
    page.wait_for(f"({ANSWERS})[2]//strong")
    page.wait_for(named("Send"))
    page.evaluate("document.querySelector('aside li button').focus()")  # without a mouse above it, it is invisible
    page.press(ENTER)
    page.click("//*[@role='menuitem'][contains(., 'Rename')]")
    page.write(field("Name"), " and more" + ENTER)
    page.wait_for(showing("Hi and more", "//aside"))


def test_an_answer_survives_a_reload(open_page: OpenPage) -> None:
    def script(play: Play) -> None:
        play.say("before ")
        time.sleep(5 * A_SECOND)
        play.end("after all")

    page = open_page(script)
    ask(page, "Hi")
    page.wait_for(showing("before", ANSWERS))
    page.reload()
    page.wait_for(showing("before after all", ANSWERS))
    page.wait_for(showing("tokens", ANSWERS))


def test_escape_stops_an_answer(open_page: OpenPage) -> None:
    def script(play: Play) -> None:
        play.say("one half")
        play.run_until_cancelled()

    page = open_page(script)
    ask(page, "Hi")
    page.wait_for(showing("one half", ANSWERS))
    page.press(ESCAPE)
    page.wait_for(showing("Stopped", ANSWERS))


def test_a_command_leads_to_the_jobs(open_page: OpenPage) -> None:
    page = open_page(answer("fine"))
    ask(page, "A question about lighthouses")
    page.wait_for(showing("fine", ANSWERS))
    page.press(CONTROL, "k")
    page.write("//dialog//input", "Go to jobs" + ENTER)
    page.wait_for("//h1[.='Jobs']")
    page.write(field("Search"), "about lighthouses")
    page.wait_for(showing("1 of 1 jobs"))
    page.write(field("Search"), ENTER)
    page.wait_for("//h1[contains(., 'Succeeded')]")
    page.wait_for(showing("A question about lighthouses"))


def test_a_model_is_uploaded_and_compared(open_page: OpenPage, tmp_path: Path, api: ApiProcess) -> None:
    page = open_page(answer("an answer"))
    page.goto(f"{api.url}/#/models")
    archive = tmp_path / "webkit.zip"
    archive.write_bytes(b"webkit")
    page.evaluate("document.querySelectorAll('input[type=file]').forEach((one) => one.className = '')")
    page.write("//input[@type='file']", str(archive))
    page.click(named("Upload"))
    page.wait_for(showing("Published as webkit@1"))
    page.goto(f"{api.url}/#/chat/compare?model=webkit")
    page.write(field("Question"), "Hi" + ENTER)
    page.wait_for(f"({showing('an answer', '//section')})[2]")


def test_a_dataset_is_checked_and_trained_on(open_page: OpenPage, api: ApiProcess) -> None:
    page = open_page(answer("x"))
    page.goto(f"{api.url}/#/training/new")
    page.click(named("Use the example"))
    page.click(named("Check"))
    page.wait_for(showing("The dataset can be used."))
    page.write(field("Name of the adapter"), "gtk" + ENTER)
    page.wait_for(showing("Published as gtk@1"))
    page.wait_for("//*[@role='img'][starts-with(@aria-label, 'Loss')]")


@pytest.mark.parametrize("view", ["chat", "jobs", "models", "training", "system", "system/settings"])
def test_the_views_fit_on_a_phone(open_page: OpenPage, api: ApiProcess, view: str) -> None:
    page = open_page(answer("x"))
    page.resize(390, 844)
    page.goto(f"{api.url}/#/{view}")
    page.wait_for("//h1 | //h2")
    assert page.evaluate("return document.documentElement.scrollWidth <= window.innerWidth")
    page.resize(1280, 800)
