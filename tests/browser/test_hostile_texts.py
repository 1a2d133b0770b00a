"""Texts from outside that try to become part of the page: they are shown, and nothing of them runs."""

from __future__ import annotations

import json

from playwright.sync_api import FilePayload, Page, expect

from common.errors import ModelUnavailable
from tests.browser.chat import ask, said
from tests.browser.conftest import OpenPage, Visit
from tests.scripted_worker import answer

EVIL = '"><img src=x onerror="window.broken=1"><script>window.broken=1</script><b>bold</b>'


def check_that_nothing_ran(visit: Visit) -> None:
    assert visit.page.evaluate("window.broken") is None
    assert visit.page.locator("main :is(img, script, b, [onerror])").count() == 0
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
