"""The button that stops an answer. Its id holds all its data, so it also works after a restart of the bot."""

from __future__ import annotations

import re
from typing import Any

import discord
from slm_client import SLMClientError


class StopButton(
    discord.ui.DynamicItem[discord.ui.Button[Any]], template=r"slm-stop:(?P<job>[0-9a-f-]{1,64}):(?P<user>[0-9]{1,20})"
):
    """Cancels the job; only for the user who asked."""

    def __init__(self, job_id: str, asker_id: int) -> None:
        label = discord.ui.Button[Any](
            label="Stop", style=discord.ButtonStyle.secondary, custom_id=f"slm-stop:{job_id}:{asker_id}"
        )
        super().__init__(label)
        self._job_id = job_id
        self._asker_id = asker_id

    @classmethod
    async def from_custom_id(
        cls, _interaction: discord.Interaction[Any], _item: discord.ui.Item[Any], match: re.Match[str], /
    ) -> StopButton:
        """Recreate the pressed button from its id."""
        return cls(match["job"], int(match["user"]))

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Handle a press; the interaction's client is an `SLMBot`."""
        if interaction.user.id != self._asker_id:
            await interaction.response.send_message("This is somebody else's answer.", ephemeral=True)
            return
        await interaction.response.edit_message(view=None)
        try:
            await interaction.client.slm.cancel(self._job_id)
        except SLMClientError as err:
            await interaction.followup.send(f"It could not be stopped: {err}", ephemeral=True)


def stop_view(job_id: str, asker_id: int) -> discord.ui.View:
    """Return the view with the button, to attach to a message."""
    view = discord.ui.View(timeout=None)
    view.add_item(StopButton(job_id, asker_id))
    return view
