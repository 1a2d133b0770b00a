"""What only operators see: keys, settings, the audit log. And tools in the chat, whose results a person writes."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page, Route, expect
from redis import Redis

from api.auth.keyring import CACHE_S
from common.jobs.prompts import from_wire
from tests.browser.conftest import PHONE, WIDE, OpenPage
from tests.browser.test_chat import answers, ask
from tests.browser.test_views import show
from tests.browser.violations import violations_on
from tests.scripted_worker import Play, answer

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "<b>Paris</b>"}}\n</tool_call>'
VIEWS = ("jobs", "models", "training", "training/new", "chat/compare", "system/settings", "system/audit", "system/keys")


def command(page: Page, name: str) -> None:
    """Give a command by the palette, with the keyboard."""
    page.keyboard.press("Control+k")
    expect(page.get_by_placeholder("What do you want to do?")).to_be_focused()
    page.keyboard.type(name)
    expect(page.get_by_role("option", name=name)).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")


def test_keys_are_created_shown_once_limited_and_revoked(open_page: OpenPage, real_redis: Redis) -> None:
    visit = open_page(answer("x"))
    page = visit.page
    command(page, "System: API keys")
    expect(page.get_by_text("There are no API keys")).to_be_visible()
    command(page, "Create an API key")
    page.get_by_label("Name", exact=True).fill("root")
    page.get_by_role("dialog").get_by_role("button", name="Create").click()
    secret = page.get_by_role("dialog").get_by_label("API key").input_value()
    assert secret.startswith("slm_")
    page.get_by_role("button", name="Done").click()
    row = page.get_by_role("row").filter(has_text="root")
    expect(row).to_contain_text("Admin")  # the page uses the new key
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Name", exact=True).fill("guest-with-a-name-that-is-as-long-as-a-name-can-be-0123456789-x")
    page.get_by_text("Limits", exact=True).click()
    page.get_by_label("Tokens per day (UTC)").fill("1000")
    page.get_by_role("dialog").get_by_role("button", name="Create").click()
    page.get_by_role("button", name="Done").click()
    guest = page.get_by_role("row").filter(has_text="guest")
    expect(guest).to_contain_text("0 of 1,000")
    guest.get_by_role("button", name="Change").click()
    page.get_by_label("Role").select_option("trainer")
    page.get_by_role("button", name="Save").click()
    expect(guest).to_contain_text("Trainer")
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(page.locator(".toast.error")).to_contain_text("only the command line")  # the last admin stays
    guest.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(guest).to_have_count(0)
    assert secret not in page.content()
    page.get_by_role("link", name="Audit log").click()
    entries = page.get_by_role("region", name="Audit log").get_by_role("row")
    expect(entries.nth(1)).to_contain_text("Revoked a key")
    expect(entries.nth(2)).to_contain_text("role: trainer")
    expect(entries.nth(4)).to_contain_text("Created a key")
    real_redis.flushall()
    time.sleep(CACHE_S)


def test_the_palette_finds_an_admins_commands_when_the_account_is_known(open_page: OpenPage) -> None:
    page = open_page(answer("x")).page
    held: list[Route] = []
    page.route("**/slm/usage", lambda route: held.append(route))
    page.reload()
    page.keyboard.press("Control+k")
    page.get_by_placeholder("What do you want to do?").fill("System: Settings")
    expect(page.get_by_text("Nothing found")).to_be_visible()
    page.unroute("**/slm/usage")  # which lets the held ones go on
    expect(page.get_by_role("option", name="System: Settings")).to_have_attribute("aria-selected", "true")


def test_settings_are_found_and_secrets_hidden(open_page: OpenPage) -> None:
    page = open_page(answer("x")).page
    command(page, "System: Settings")
    expect(page.get_by_role("heading", name="Settings", exact=True)).to_be_visible()  # the chat has a search, too
    page.get_by_label("Search").fill("maximum number of waiting")
    rows = page.get_by_role("table", name="Settings").get_by_role("row")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_contain_text("SLM_MAX_QUEUE")
    expect(rows.nth(1)).to_contain_text("1000")
    page.get_by_label("Search").fill("")
    page.get_by_label("Only those that differ").check()
    expect(rows.filter(has_text="SLM_REDIS_URL")).to_contain_text("secret")


def test_a_tool_is_called_and_its_result_answered(open_page: OpenPage) -> None:
    seen = []

    def script(play: Play) -> None:
        seen.append(from_wire(play.job.params))
        play.end("It is sunny." if len(seen) > 1 else f"Let me see. {CALL}")

    visit = open_page(script)
    page = visit.page
    page.get_by_role("button", name="Settings of this chat").click()
    page.get_by_label("Tools").select_option("auto")
    page.get_by_label("Functions, as a JSON list").fill("[{}]")
    expect(page.get_by_role("alert")).to_contain_text("a list of functions")
    page.get_by_label("Functions, as a JSON list").fill('[{"name": "get_weather"}]')
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_role("button", name="Close").click()
    ask(page, "How is the weather?")
    expect(page.get_by_role("heading", name="Calls get_weather")).to_be_visible()
    expect(answers(page)).to_have_text("Let me see.")
    page.get_by_label("Result of get_weather").fill("sunny")
    page.get_by_role("button", name="Send the results").click()
    expect(answers(page).last).to_have_text("It is sunny.")
    assert seen[0].tools[0]["function"]["name"] == "get_weather"
    called, result = seen[1].messages[-2:]
    assert called["tool_calls"][0]["function"]["name"] == "get_weather"
    assert (result["role"], result["content"]) == ("tool", "sunny")
    page.reload()
    expect(page.get_by_text("Result sunny")).to_be_visible()
    assert page.locator("main b").count() == 0
    assert visit.complaints == []


def test_tokens_are_counted_while_a_message_is_written(open_page: OpenPage) -> None:
    page = open_page(answer("x")).page
    page.get_by_label("Message", exact=True).fill("Hello")
    expect(page.get_by_text("this message 5")).to_be_visible()
    expect(page.get_by_title("Used of the model's context")).to_contain_text("of 2,048 tokens")
    file = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"abcdefgh"}
    page.get_by_label("Attach a text file").last.set_input_files(file)  # type: ignore[arg-type]
    expect(page.get_by_role("listitem").filter(has_text="notes.txt")).to_contain_text("8 tokens")


def test_the_first_steps_go_away_by_themselves(open_page: OpenPage) -> None:
    page = open_page(answer("x"), PHONE).page
    steps = page.get_by_role("heading", name="Three things to do")
    expect(steps).to_be_in_viewport()
    for name in ("curl", "Python", "openai (Python)", "JavaScript"):
        page.get_by_role("tab", name=name, exact=True).click()
        expect(page.get_by_role("tabpanel")).to_contain_text(page.evaluate("location.origin"))
    ask(page, "Hi")
    expect(answers(page)).to_have_text("x")
    page.goto(page.evaluate("location.origin"))
    page.reload()  # a new address after the # alone loads nothing
    expect(steps).to_have_count(0)


@pytest.mark.parametrize("colors", ["light", "dark"])
def test_everybody_can_use_every_view_at_every_width(open_page: OpenPage, colors: str) -> None:
    visit = open_page(answer("x"), WIDE, colors=colors)
    visit.page.request.put(f"{visit.api.url}/slm/aliases/prod", data={"model": "gpt2"})
    visit.page.request.post(f"{visit.api.url}/slm/generate", data={"prompt": "Hi"})
    for view in VIEWS:
        show(visit, view)
        expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
        expect(visit.page.locator("main .loading")).to_have_count(0)
        assert violations_on(visit.page) == [], view
        visit.page.set_viewport_size({"width": 320, "height": 640})
        assert visit.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), view
        assert violations_on(visit.page) == [], view
        visit.page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
    visit.page.get_by_role("button", name="New key").click()
    assert violations_on(visit.page) == []
