"""The API reference, as a person reads it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, WIDE, OpenPage, Visit
from tests.processes import wait_for
from tests.scripted_worker import answer

Picture = Callable[[Page, str], None]
STORY = answer("Once ", "upon ", "a time.")


def open_docs(open_page: OpenPage, size: tuple[int, int] = WIDE, *, at: str = "", colors: str = "light") -> Visit:
    visit = open_page(STORY, size, colors=colors)
    visit.page.goto(f"{visit.api.url}/docs{at}")
    expect(visit.page.locator("details.operation").first).to_be_visible()
    return visit


def curl_line(visit: Visit, operation: str) -> str:
    return visit.page.locator(f"#{operation} figure.code pre").first.text_content() or ""


def run(line: str) -> str:
    done = subprocess.run(["bash", "-c", f"SLM_API_KEY=none; {line}"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_operation_is_shown_and_found_in_the_contents(open_page: OpenPage) -> None:
    visit = open_docs(open_page)
    document = visit.page.request.get(f"{visit.api.url}/openapi.json").json()
    ids = {operation["operationId"] for methods in document["paths"].values() for operation in methods.values()}
    shown = visit.page.locator("details.operation").evaluate_all("all => all.map(one => one.id)")
    linked = visit.page.locator("#contents a").evaluate_all("all => all.map(one => one.hash.slice(1))")
    assert set(shown) == set(linked) == ids
    assert visit.complaints == []
    assert {url.removeprefix(visit.api.url).partition("/")[0] for url in visit.requests} == {""}, "from elsewhere"


def test_a_link_opens_its_operation(open_page: OpenPage) -> None:
    visit = open_docs(open_page, at="#cancelJob")
    expect(visit.page.locator("#cancelJob")).to_have_attribute("open", "")
    visit.page.locator("#contents a[href='#generate']").click()
    expect(visit.page.locator("#generate .field", has_text="temperature").first).to_be_visible()
    expect(visit.page.locator("#generate .field", has_text="prompt").first).to_contain_text("required")


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("info", '"model_loaded"'), ("generate", "Once upon a time."), ("stream", '"full_text": "Once upon"')],
)
def test_the_line_to_try_works_as_it_stands(open_page: OpenPage, operation: str, expected: str) -> None:
    visit = open_docs(open_page, at=f"#{operation}")
    assert expected in run(curl_line(visit, operation))


def test_a_line_says_what_the_document_says(open_page: OpenPage) -> None:
    visit = open_docs(open_page, at="#load")
    assert json.loads(run(curl_line(visit, "load")))["success"] is True
    assert "-X DELETE" in curl_line(visit, "cancelJob")
    assert "limit=10" in curl_line(visit, "listJobs")
    assert "Authorization" not in curl_line(visit, "healthz")


def test_answers_unfold_down_to_their_fields(open_page: OpenPage) -> None:
    visit = open_docs(open_page, at="#showJob")
    answer_of = visit.page.locator("#showJob details.answer").first
    answer_of.locator("> summary").click()
    answer_of.locator("details.object", has_text="Job").first.locator("> summary").click()
    expect(answer_of.locator(".field .name", has_text="estimated_wait_s").first).to_be_visible()
    assert visit.complaints == []


@pytest.mark.parametrize(("size", "name"), [(WIDE, "wide"), (PHONE, "phone")])
@pytest.mark.parametrize("colors", ["light", "dark"])
def test_it_fits_the_screen(
    open_page: OpenPage, picture: Picture, size: tuple[int, int], name: str, colors: str
) -> None:
    visit = open_docs(open_page, size, at="#generate", colors=colors)
    visit.page.locator("#generate details.answer > summary").first.click()
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    picture(visit.page, f"docs-{name}-{colors}-answer")
    visit.page.mouse.wheel(0, -100_000)
    # The page allows no eval, by which playwright would wait inside of it.
    wait_for("the top of the page", lambda: visit.page.evaluate("window.scrollY === 0"))
    picture(visit.page, f"docs-{name}-{colors}")
