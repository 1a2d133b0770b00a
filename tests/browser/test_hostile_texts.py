"""Texts from outside that try to become part of the page: they are shown, and nothing of them runs."""

from __future__ import annotations

import json
import re

import pytest
import requests
from playwright.sync_api import FilePayload, Page, Route, expect
from redis import Redis

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.adapters.uploads import Uploads
from common.errors import ModelUnavailable
from common.settings import Settings
from tests.browser.chat import ask, said
from tests.browser.conftest import OpenPage, Visit
from tests.browser.test_views import set_alias, show, upload
from tests.scripted_worker import answer

EVIL = '"><img src=x onerror="window.broken=1"><script>window.broken=1</script><b>bold</b>'


def check_that_nothing_ran(visit: Visit) -> None:
    assert visit.page.evaluate("window.broken") is None
    assert visit.page.locator(":is(main, dialog) :is(img, script, b, [onerror])").count() == 0
    assert visit.complaints == []


def attach(page: Page, name: str, text: str) -> None:
    file = FilePayload(name=name, mimeType="text/plain", buffer=text.encode())
    page.locator(".composer input[type=file]").set_input_files(file)


def test_names_and_texts_of_attached_files_are_text(open_page: OpenPage) -> None:
    visit = open_page(answer("fine"))
    attach(visit.page, EVIL, EVIL)
    expect(visit.page.locator(".composer li")).to_contain_text(EVIL)
    ask(visit.page, "Read it")
    expect(said(visit.page)).to_contain_text("<script>window.broken=1</script>")
    expect(visit.page.locator("aside li")).to_contain_text("Read it")
    check_that_nothing_ran(visit)


def test_the_text_of_an_error_is_text(open_page: OpenPage) -> None:
    visit = open_page(lambda play: play.fail(ModelUnavailable(EVIL)))
    ask(visit.page, "Hi")
    expect(visit.page.get_by_role("alert")).to_have_text(EVIL)
    check_that_nothing_ran(visit)


def test_the_lines_of_a_dataset_are_text(open_page: OpenPage) -> None:
    visit = open_page(answer("x"))
    visit.page.goto(f"{visit.api.url}/#/training/new")
    lines = [{"instruction": EVIL, "response": EVIL}, {"instruction": "Hi", EVIL: 1}]
    visit.page.get_by_label("Or paste examples").fill("\n".join(map(json.dumps, lines)))
    visit.page.get_by_role("button", name="Check", exact=True).click()
    expect(visit.page.get_by_role("region", name="What is wrong")).to_be_visible()
    expect(visit.page.locator("main")).to_contain_text("<b>bold</b>")
    check_that_nothing_ran(visit)


def test_the_card_of_a_foreign_adapter_is_text(open_page: OpenPage, real_redis: Redis) -> None:
    row = {"name": EVIL, "reason": EVIL, "base": 1, "current": None, "candidate": 1, "bound": 1}
    sample = {"step": 1, "prompt": EVIL, "expected": EVIL, "response": EVIL}
    for number, card in enumerate(
        [
            {"method": EVIL, "recipe": {EVIL: [EVIL]}, "gate": {"rows": [row, row]}, "samples": [sample, sample]},
            {"method": 1, "data": [], "recipe": None, "gate": {"rows": [{}, 5]}, "samples": {}, "held_out_loss": "x"},
        ]
    ):
        facts = VersionFacts(f"{number}" * 64, "gpt2", "b5a4d58c", 8, ("c_attn",), 1, summary=card)
        AdapterRegistry(real_redis).register("support", facts)
    visit = open_page(answer("x"))
    show(visit, "models")
    for number in (1, 2):
        visit.page.get_by_role("button", name=f"Card: support@{number}").click()
        expect(visit.page.get_by_role("dialog")).to_contain_text("The whole card")
        if number == 1:
            expect(visit.page.get_by_role("dialog").get_by_role("article")).to_contain_text(EVIL)
        check_that_nothing_ran(visit)
        visit.page.keyboard.press("Escape")


def with_evil_names(route: Route) -> None:
    """Answer as the server, but with other names: it refuses them, and an old or foreign one may not."""
    answer = route.fetch()
    text = answer.text()
    for name in ("support", "production", "w1"):
        text = text.replace(name, json.dumps(EVIL + name)[1:-1])
    route.fulfill(response=answer, body=text)


@pytest.mark.parametrize("view", ["models", "chat", "chat/compare", "training/new", "jobs", "system"])
def test_the_names_of_models_are_text(open_page: OpenPage, view: str) -> None:
    visit = open_page(answer("x"))
    visit.worker.uploads = Uploads(Settings().data_dir / "uploads")  # where the API keeps them
    show(visit, "models")
    upload(visit, b"an archive")
    expect(visit.page.get_by_text("Published as support@1")).to_be_visible()
    set_alias(visit, "production", "support@1")
    asked = {"prompt": "Hi", "model": "production"}
    requests.post(f"{visit.api.url}/slm/generate", json=asked, timeout=60).raise_for_status()
    visit.page.route(re.compile("/slm/(models|adapters|aliases|info|jobs)"), with_evil_names)
    show(visit, view)
    if view == "training/new":
        visit.page.get_by_role("button", name="Use the example").click()
        visit.page.get_by_role("button", name="Check", exact=True).click()
        expect(visit.page.get_by_label("Continue an adapter")).to_contain_text(EVIL)
    expect(visit.page.locator("main")).to_contain_text(EVIL)
    if view == "models":
        visit.page.get_by_role("button", name="Roll back").or_(
            visit.page.get_by_role("button", name="Delete")
        ).first.click()
        expect(visit.page.get_by_role("dialog")).to_contain_text(EVIL)
    assert visit.page.evaluate("window.broken") is None
    visit.page.unroute_all(behavior="ignoreErrors")
    assert visit.page.locator(":is(main, dialog) :is(img, script, b, [onerror])").count() == 0
    assert visit.complaints == []
