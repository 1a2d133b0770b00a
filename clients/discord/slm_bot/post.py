"""Shows one answer in one or more Discord messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import discord

from slm_bot.stop_button import stop_view


class Editable(Protocol):
    """A message of the bot, in a channel or as the answer to a command."""

    async def edit(self, *, content: str, view: discord.ui.View | None) -> object:
        """Replace its content and buttons."""


Send = Callable[[str], Awaitable[Editable]]


class Post:
    """The messages of one answer. Edits only the messages that changed, because Discord limits edits.

    Args:
        first: the existing message, with the text `content`.
        send: sends another message below it.
        asker_id: the user who may stop the answer.
    """

    def __init__(self, first: Editable, content: str, send: Send, asker_id: int) -> None:
        self._messages = [first]
        self._shown: list[tuple[str, str | None]] = [(content, None)]
        self._send = send
        self._asker_id = asker_id

    async def show(self, pages: list[str], job_id: str | None) -> None:
        """Update the messages; the last one has a button that stops the job, if there is one.

        Raises:
            discord.HTTPException: a message no longer exists, or Discord rejects it.
        """
        wanted = [(page, job_id if number == len(pages) else None) for number, page in enumerate(pages, 1)]
        for number, (page, button_of) in enumerate(wanted):
            if number == len(self._messages):
                self._messages.append(await self._send(page))
                self._shown.append((page, None))
            if self._shown[number] != (page, button_of):
                view = None if button_of is None else stop_view(button_of, self._asker_id)
                await self._messages[number].edit(content=page, view=view)
                self._shown[number] = (page, button_of)
