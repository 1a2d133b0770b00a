"""A long text as messages that Discord takes."""

from __future__ import annotations

import re

MESSAGE_CHARS = 2000
FENCE = "```"
_ROOM = 100  # for a code block's first and last line on a page
_LANGUAGE = re.compile(r"[\w+#.-]{0,30}")


def split_pages(text: str) -> list[str]:
    """The text in messages, cut at a line's end or a blank where there is one.

    A page that is full stays as it is when the text grows: messages that were sent need no change. A code block that is
    cut ends on its page and begins again, in its language, on the next.
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
    return [page for page in pages if page.strip()]  # Discord takes no blank ones


def _cut(text: str) -> int:
    """Where to end a page that `text` is too long for; no page becomes less than half full for a nicer end."""
    window = text[: MESSAGE_CHARS - _ROOM]
    for border in ("\n\n", "\n", " "):
        if (found := window.rfind(border)) >= len(window) // 2:
            return found
    return len(window)


def _open_fence(page: str) -> str:
    """The first line of the code block that `page` leaves open; empty where it leaves none."""
    if page.count(FENCE) % 2 == 0:
        return ""
    language = page.rpartition(FENCE)[2].partition("\n")[0]
    return FENCE + (language if _LANGUAGE.fullmatch(language) else "") + "\n"
