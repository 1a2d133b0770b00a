"""The bot as a Discord client: receives messages and commands, and answers them."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import discord
from discord import app_commands
from slm_client import AsyncSLMClient

from slm_bot.in_flight import Busy, InFlight
from slm_bot.memory import REMEMBERED_CHARS, Memory
from slm_bot.post import Post
from slm_bot.relay import relay
from slm_bot.stop_button import StopButton
from slm_bot.transcript import THINKING

ONE_AT_A_TIME = "One at a time: I am still answering you."
HOW_TO_ASK = "Ask me something: mention me with a question, or use /ask."
# Together less than the 15 minutes during which the answer to a slash command can be edited.
MAX_WAIT_S, MAX_RUN_S = 540.0, 300.0
TEMPERATURE = 0.7

log = logging.getLogger(__name__)

Open = Callable[[], Awaitable[Post]]


class SLMBot(discord.Client):
    """Answers mentions, direct messages and /ask.

    discord.py reconnects to Discord automatically, and `slm` to the server.

    Args:
        slm: the client of the server; closed with the bot.
        edit_every_s: the pause between two edits of an answer, in seconds.
        max_new_tokens: the maximum number of tokens of an answer.
        model: the name of the model; None: the server's default.
        remembered_chars: the maximum length of a channel's earlier messages that a question is sent with.
    """

    def __init__(
        self,
        slm: AsyncSLMClient,
        *,
        edit_every_s: float,
        max_new_tokens: int,
        model: str | None = None,
        remembered_chars: int = REMEMBERED_CHARS,
    ) -> None:
        # No privileged intent: Discord sends the text of mentions and direct messages without one.
        intents = discord.Intents(guilds=True, guild_messages=True, dm_messages=True)
        super().__init__(intents=intents, allowed_mentions=discord.AllowedMentions.none())
        self.slm = slm
        self._in_flight = InFlight()
        self._edit_every_s = edit_every_s
        self._memory = Memory(slm, remembered_chars)
        self._options: dict[str, Any] = {
            "max_output_tokens": max_new_tokens,
            "temperature": TEMPERATURE,
            "ttl": MAX_WAIT_S,
            "timeout": MAX_RUN_S,
        }
        if model is not None:
            self._options["model"] = model
        self._tree = app_commands.CommandTree(self)
        self._tree.command(name="ask", description="Ask the language model")(self._on_ask)

    async def setup_hook(self) -> None:
        """Register the command with Discord; called once, before the first connection."""
        self.add_dynamic_items(StopButton)
        await self._tree.sync()

    async def close(self) -> None:
        """Close the connections to Discord and the server."""
        await super().close()
        await self.slm.aclose()

    async def on_message(self, message: discord.Message) -> None:
        """Answer a message that is addressed to the bot."""
        if message.author.bot or not self._is_meant_for_us(message):
            return
        prompt = _prompt_of(message.content)
        if not prompt:
            await message.reply(HOW_TO_ASK)
            return

        async def open_post() -> Post:
            return Post(await message.reply(THINKING), THINKING, message.channel.send, message.author.id)

        try:
            await self._answer(message.channel.id, prompt, message.author.id, f"discord-{message.id}", open_post)
        except Busy:
            await message.reply(ONE_AT_A_TIME)

    async def _on_ask(self, interaction: discord.Interaction[SLMBot], prompt: str) -> None:
        async def send(page: str) -> discord.WebhookMessage:
            return await interaction.followup.send(page, wait=True)

        async def open_post() -> Post:
            # Immediately: Discord accepts a first answer only within three seconds.
            await interaction.response.send_message(THINKING)
            return Post(await interaction.original_response(), THINKING, send, interaction.user.id)

        try:
            channel_id = interaction.channel_id or interaction.user.id
            await self._answer(channel_id, prompt, interaction.user.id, f"discord-{interaction.id}", open_post)
        except Busy:
            await interaction.response.send_message(ONE_AT_A_TIME, ephemeral=True)

    async def _answer(self, channel_id: int, prompt: str, user_id: int, key: str, open_post: Open) -> None:
        """Show the answer while it is generated. Raises `Busy` before anything is shown."""
        with self._in_flight.reserve(user_id):
            post = await open_post()
            stream = self._memory.ask(channel_id, prompt, key, self._options)
            try:
                await relay(stream, post, every_s=self._edit_every_s)
            except discord.HTTPException as err:
                log.warning("answer %s cannot be shown (%s)", stream.job_id, err)
                if stream.job_id is not None:
                    await self.slm.cancel(stream.job_id)

    def _is_meant_for_us(self, message: discord.Message) -> bool:
        return message.guild is None or (self.user is not None and self.user in message.mentions)


def _prompt_of(content: str) -> str:
    """Return a message's text without mentions of users and without the `!ask` prefix of older versions."""
    return re.sub(r"<@!?\d+>", "", content).strip().removeprefix("!ask ").strip()
