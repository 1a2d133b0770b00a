"""Lets Playwright drive the system's Firefox: python firefox_bridge.py FIREFOX ARGUMENTS

Playwright drives an unpatched Firefox by WebDriver BiDi. It begins with a command of that protocol that Firefox does
not have yet, and takes the error for a failure. This program stands between the two, and answers such commands.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, web

ANNOUNCED = "WebDriver BiDi listening on "  # what Playwright waits for in the output of Firefox
UNKNOWN_TO_FIREFOX = {"emulation.setMediaFeaturesOverride"}  # so every scheme is that of the system: light
Socket = web.WebSocketResponse | ClientWebSocketResponse
MAX_BYTES = 256 * 2**20  # of a message, such as a screenshot


async def run(command: list[str]) -> int:
    """Run Firefox to its end, and connect whoever connects here with it."""
    firefox = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert firefox.stderr is not None
    async for line in firefox.stderr:
        text = line.decode("utf-8", "replace").rstrip()
        if text.startswith(ANNOUNCED):
            text = ANNOUNCED + await listen(text.removeprefix(ANNOUNCED))
        print(text, file=sys.stderr, flush=True)
    return await firefox.wait()


async def listen(firefox: str) -> str:
    """Return the address at which the commands for the one of Firefox are taken."""

    async def connect(request: web.Request) -> web.WebSocketResponse:
        playwright = web.WebSocketResponse(max_msg_size=MAX_BYTES)
        await playwright.prepare(request)
        async with (
            ClientSession() as session,
            session.ws_connect(firefox + request.path, max_msg_size=MAX_BYTES) as ours,
        ):
            await asyncio.wait(
                [asyncio.create_task(pass_on(playwright, ours)), asyncio.create_task(pass_on(ours, playwright))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        return playwright

    app = web.Application()
    app.router.add_get("/{path:.*}", connect)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0]
    return f"ws://{host}:{port}"


async def pass_on(source: Socket, target: Socket) -> None:
    """Pass all messages on, except commands that Firefox does not know."""
    async for message in source:
        if message.type is not WSMsgType.TEXT:
            continue
        command = json.loads(message.data)
        if command.get("method") in UNKNOWN_TO_FIREFOX:
            await source.send_json({"type": "success", "id": command["id"], "result": {}})
        else:
            await target.send_str(message.data)


if __name__ == "__main__":
    sys.exit(asyncio.run(run(sys.argv[1:])))
