"""Splits a long text into messages within Discord's limit."""

from __future__ import annotations

import re

MESSAGE_CHARS = 2000
FENCE = "```"
_ROOM = 100  # characters for the first and last line of a code block on a page
_LANGUAGE = re.compile(r"[\w+#.-]{0,30}")


def split_pages(text: str) -> list[str]:
    """Return the text as pages, split at a line break or a space if possible.

    A full page does not change when the text grows, so sent messages need no edit. A split code block is closed on its
    page and reopened, with its language, on the next.
    """
    pages = []
    opening = ""
    rest = text
    while len(opening) + len(rest) > MESSAGE_CHARS:
        cut = _cut(rest)
        page = opening + rest[:cut]
        rest = rest[cut:].lstrip("\n") if opening else rest[cut:].lstrip()
        opening = _open_fence(page)
        pages.append(page.rstrip() + ("\n" + FENCE if opening else ""))
    pages.append(opening + rest)
    return [page for page in pages if page.strip()]  # Discord rejects blank messages


def _cut(text: str) -> int:
    """Return where to end a page if `text` is too long for it; a page is at least half full even if the end is ugly."""
    window = text[: MESSAGE_CHARS - _ROOM]
    for border in ("\n\n", "\n", " "):
        if (found := window.rfind(border)) >= len(window) // 2:
            return found
    return len(window)


def _open_fence(page: str) -> str:
    """Return the first line of the code block that `page` leaves open; empty if there is none."""
    if page.count(FENCE) % 2 == 0:
        return ""
    language = page.rpartition(FENCE)[2].partition("\n")[0]
    return FENCE + (language if _LANGUAGE.fullmatch(language) else "") + "\n"
