"""The chat's parts, as tests find them."""

from __future__ import annotations

from playwright.sync_api import Locator, Page


def ask(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def write(field: Locator, text: str) -> None:
    """Replace what a field has, key by key: in Firefox, Playwright's `fill` appends to a number."""
    field.press("ControlOrMeta+a")
    field.press_sequentially(text)


def said(page: Page) -> Locator:
    """What the person has said."""
    return page.locator(".turn.user .said")


def answers(page: Page) -> Locator:
    """What the model has answered."""
    return page.locator(".turn.assistant .markdown")


def note(page: Page) -> Locator:
    """The line below the last answer."""
    return page.locator(".turn.assistant .note").last
