"""The API reference, as a person reads and tries it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect
from redis import Redis

from api.auth.keyring import CACHE_S
from common.owners.api_keys import ApiKeyStore, Role
from tests.browser.conftest import PHONE, WIDE, OpenPage, Visit, in_chromium
from tests.scripted_worker import answer

Picture = Callable[[Page, str], None]
STORY = answer("Once ", "upon ", "a time.")


def open_docs(open_page: OpenPage, size: tuple[int, int] = WIDE, *, at: str = "", colors: str = "light") -> Visit:
    """Open the page, at an operation such as `get-/slm/info`."""
    visit = open_page(STORY, size, colors=colors)
    visit.page.goto(f"{visit.api.url}/docs{at and '#'}{at}")
    expect(visit.page.locator(".nav-bar-path, .m-endpoint").first).to_be_visible()
    return visit


def routes_in(document: dict[str, Any]) -> set[str]:
    """Every route as `POST /slm/generate`, and every webhook."""
    described = document["paths"] | document["webhooks"]
    return {f"{method.upper()} {path}" for path, methods in described.items() for method in methods}


def listed(visit: Visit) -> set[str]:
    """The visible routes of the page's navigation."""
    rows = visit.page.locator(".nav-bar-path").all_inner_texts()
    return {re.sub(r"\s+", " ", row.replace("WEBHOOK", "")).strip() for row in rows}


def document_of(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = visit.page.request.get(f"{visit.api.url}/openapi.json").json()
    return found


def try_it(visit: Visit) -> Locator:
    """Press "Try" in the operation that is shown; returns where the answer appears."""
    visit.page.locator("[part~=btn-try]").click()
    expect(visit.page.get_by_text("Response Status:")).to_be_visible()
    return visit.page.locator("api-request")  # the examples of answers are outside it


def test_every_route_is_listed_and_nothing_is_loaded_from_elsewhere(open_page: OpenPage) -> None:
    visit = open_docs(open_page)
    assert listed(visit) == routes_in(document_of(visit))
    assert len(listed(visit)) > 30
    assert {url.removeprefix(visit.api.url).partition("/")[0] for url in visit.requests} == {""}, "from elsewhere"
    assert visit.complaints == []


def test_every_route_can_be_shown(open_page: OpenPage) -> None:
    visit = open_docs(open_page)
    for row in visit.page.locator(".nav-bar-path").all():
        row.click()
        operation = visit.page.locator(f"[id='{row.get_attribute('data-content-id')}']")
        expect(operation).to_be_visible()
        expect(operation.locator("api-response")).to_contain_text("RESPONSE")
    assert visit.complaints == []


def test_the_filter_finds_a_route(open_page: OpenPage) -> None:
    visit = open_docs(open_page)
    search = visit.page.locator("#nav-bar-search")
    search.press_sequentially("detokenize")  # Firefox takes no change of a text that was set by a script
    search.press("Enter")
    expect(visit.page.locator(".nav-bar-path")).to_have_count(2)
    assert listed(visit) == {"POST /slm/detokenize", "POST /detokenize"}


def test_the_search_finds_a_field_of_a_body(open_page: OpenPage) -> None:
    visit = open_docs(open_page)
    visit.page.get_by_role("button", name="SEARCH").click()
    visit.page.locator("#search-api-request-body").check()
    visit.page.locator("#input-advanced-search-dialog").press_sequentially("webhook_url")
    found = visit.page.locator("dialog-box [data-content-id='post-/slm/generate']")
    found.click()
    expect(visit.page.locator(".expanded-endpoint-body")).to_contain_text("/slm/generate")


def test_a_link_opens_its_operation_with_its_fields(open_page: OpenPage) -> None:
    visit = open_docs(open_page, at="post-/slm/generate")
    visit.page.get_by_role("button", name="SCHEMA").first.click()
    fields = visit.page.locator("api-request schema-table")
    expect(fields).to_contain_text("temperature")
    expect(fields).to_contain_text(re.compile(r"prompt\s*\*"))


def test_a_get_route_can_be_tried(open_page: OpenPage) -> None:
    visit = open_docs(open_page, at="get-/slm/info")
    expect(try_it(visit)).to_contain_text('"model_loaded"')
    assert visit.complaints == []


def test_a_post_route_can_be_tried_with_the_example_of_the_document(open_page: OpenPage) -> None:
    visit = open_docs(open_page, at="post-/slm/generate")
    content = document_of(visit)["paths"]["/slm/generate"]["post"]["requestBody"]["content"]["application/json"]
    body = visit.page.locator("textarea.request-body-param-user-input")
    assert json.loads(body.input_value()) == content["example"]
    expect(try_it(visit)).to_contain_text('"response": "Once upon a time."')
    assert visit.complaints == []


def test_a_stream_can_be_tried_and_its_example_is_shown(open_page: OpenPage) -> None:
    visit = open_docs(open_page, at="post-/slm/stream")
    expect(visit.page.locator("api-response")).to_contain_text('id: 0 data: {"status": "Queued", "position": 1}')
    expect(try_it(visit)).to_contain_text('"full_text": "Once upon a time.", "is_complete": true')
    assert visit.complaints == []


@pytest.fixture
def secret(real_redis: Redis) -> Iterator[str]:
    """A key of a server that has keys as long as the test runs. The API knows their state with a delay."""
    yield ApiKeyStore(real_redis).create("ann", Role.USER)
    real_redis.flushall()
    time.sleep(CACHE_S)


def test_a_key_is_sent_with_the_request_that_is_tried(open_page: OpenPage, secret: str) -> None:
    time.sleep(CACHE_S)
    visit = open_docs(open_page, at="auth")
    visit.page.locator("[id='link-get-/slm/jobs']").click()
    expect(try_it(visit)).to_contain_text("Response Status: UNAUTHORIZED:401")
    visit.page.locator("#link-auth").click()
    visit.page.locator("#security-scheme-bearer .api-key-input").fill(secret)
    visit.page.locator("#security-scheme-bearer button").click()
    visit.page.locator("[id='link-get-/slm/jobs']").click()
    expect(try_it(visit)).to_contain_text('"jobs"')


@pytest.mark.parametrize("colors", ["light", pytest.param("dark", marks=in_chromium("there it follows the system"))])
def test_it_fits_the_screen(open_page: OpenPage, picture: Picture, colors: str) -> None:
    visit = open_docs(open_page, at="post-/slm/stream", colors=colors)
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= WIDE[0]
    background = visit.page.locator("rapi-doc").evaluate("one => getComputedStyle(one).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert brightness > 200 if colors == "light" else brightness < 60
    picture(visit.page, f"docs-wide-{colors}")


def test_a_phone_lists_every_route_in_the_page(open_page: OpenPage, picture: Picture) -> None:
    visit = open_docs(open_page, PHONE)
    rows = visit.page.locator(".m-endpoint")
    expect(rows).to_have_count(len(routes_in(document_of(visit))))
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    visit.page.locator("[id='post-/slm/generate'] .endpoint-head").click()
    expect(visit.page.locator("[id='post-/slm/generate']").locator("[part~=btn-try]")).to_be_visible()
    picture(visit.page, "docs-phone")
    assert visit.complaints == []
