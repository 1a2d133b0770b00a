"""Runs clients/discord/bot.py against another Discord: python discord_bot.py URL BOT-ARGUMENT..."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import yarl
from discord.gateway import DiscordWebSocket
from discord.http import Route

BOT = Path(__file__).resolve().parents[2] / "clients" / "discord" / "bot.py"

if __name__ == "__main__":
    url, *arguments = sys.argv[1:]
    Route.BASE = f"{url}/api"
    DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(url.replace("http://", "ws://") + "/gateway")
    sys.argv = [str(BOT), *arguments]
    sys.path.insert(0, str(BOT.parent))  # as Python does for a script
    runpy.run_path(str(BOT), run_name="__main__")
