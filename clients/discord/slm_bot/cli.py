"""The command line of the bot."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import discord
from slm_client import AsyncSLMClient
from slm_client.connection import DEFAULT_URL

from slm_bot.client import SLMBot
from slm_bot.memory import REMEMBERED_CHARS
from slm_bot.relay import EDIT_EVERY_S

EPILOG = """\
DISCORD_TOKEN is the bot's token (Developer Portal, Bot). Invite it with the scopes "bot" and "applications.commands"
and the permission to send messages. SLMCLIENT_API_KEY is the API key, if the server has keys.
"""


def main(argv: Sequence[str]) -> int:
    """Run the bot until it is stopped; returns the exit status."""
    asked = _parser().parse_args(argv)
    token = os.environ.get("DISCORD_TOKEN")
    if not token:
        print("bot: DISCORD_TOKEN is not set; --help explains where to get it", file=sys.stderr)
        return 2
    discord.utils.setup_logging()
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))  # both end it cleanly
    try:
        asyncio.run(_run(asked, token))
    except discord.LoginFailure:
        print("bot: Discord does not accept the token", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


async def _run(asked: argparse.Namespace, token: str) -> None:
    slm = AsyncSLMClient(asked.url, api_key=os.environ.get("SLMCLIENT_API_KEY"))
    bot = SLMBot(
        slm,
        edit_every_s=asked.edit_every,
        max_new_tokens=asked.max_new_tokens,
        model=asked.model,
        remembered_chars=asked.remember,
    )
    async with bot:
        await bot.start(token)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bot.py",
        description="A Discord bot that answers mentions, direct messages and /ask with the SLM server's model.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--url", default=os.environ.get("SLMCLIENT_URL", DEFAULT_URL), help=f"server ({DEFAULT_URL})")
    parser.add_argument("--model", help="name of the model (the server's default)")
    parser.add_argument("--max-new-tokens", type=int, default=300, help="maximum tokens of an answer (300)")
    parser.add_argument(
        "--remember",
        type=int,
        default=REMEMBERED_CHARS,
        help=f"characters of a channel's earlier messages that a question is sent with ({REMEMBERED_CHARS})",
    )
    parser.add_argument(
        "--edit-every",
        type=float,
        default=EDIT_EVERY_S,
        help=f"seconds between two edits of a message ({EDIT_EVERY_S})",
    )
    return parser
