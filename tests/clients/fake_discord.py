"""The parts of Discord that a bot needs, on a loopback port: the gateway's websocket and the REST routes.

Built after Discord's own documentation of gateway version 10; `discord_bot.py` makes discord.py connect to it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import WSMsgType, web

from tests.processes import PATIENCE_S, wait_for

APPLICATION = BOT = "100000000000000001"
GUILD, CHANNEL, DM = "200000000000000002", "300000000000000003", "300000000000000004"
OWNER = "400000000000000004"
MOST_CHARS = 2000
EPHEMERAL = 64
SOME_TIME = "2026-01-01T00:00:00+00:00"
TOKEN = "a.test.token"

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, HELLO, HEARTBEAT_ACK = 0, 1, 2, 6, 10, 11
COMMAND, COMPONENT = 2, 3
NEW_MESSAGE, UPDATE_MESSAGE = 4, 7  # types of answers to an interaction

Payload = dict[str, Any]


def user(user_id: str) -> Payload:
    return {"id": user_id, "username": f"u{user_id}", "discriminator": "0", "avatar": None, "bot": user_id == BOT}


def member(user_id: str) -> Payload:
    return {"user": user(user_id), "roles": [], "joined_at": SOME_TIME, "deaf": False, "mute": False, "flags": 0}


def guild() -> Payload:
    role = {"id": GUILD, "name": "@everyone", "color": 0, "hoist": False, "position": 0, "permissions": "3072"}
    channel = {"id": CHANNEL, "type": 0, "guild_id": GUILD, "position": 0, "name": "c", "permission_overwrites": []}
    return {
        "id": GUILD,
        "name": "g",
        "owner_id": OWNER,
        "roles": [role | {"managed": False, "mentionable": False}],
        "channels": [channel],
        "members": [member(BOT)],
        "member_count": 1,
    } | {name: [] for name in ("emojis", "stickers", "features", "threads", "voice_states", "presences")}


def replied(data: Any, status: int = 200) -> web.Response:
    """discord.py only reads JSON of exactly this type: aiohttp's own has a charset."""
    return web.Response(body=json.dumps(data).encode(), status=status, content_type="application/json")


class FakeDiscord:
    """`messages` has all messages of the bot by id, each with its present `content` and all its `versions`."""

    def __init__(self) -> None:
        self.url = ""
        self.commands: list[Payload] = []
        self.messages: dict[str, Payload] = {}
        self.refusals: list[str] = []
        self.hellos: list[str] = []  # "identify" and "resume", as the bot connects
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._ids = itertools.count(500000000000000000)
        self._seq = itertools.count(1)
        self._socket: web.WebSocketResponse | None = None
        self._missed: list[Payload] = []
        self._first_of: dict[str, str] = {}  # an interaction's token -> the message that answered it
        self._pressed: dict[str, str] = {}  # a button's interaction's token -> the message with the button
        self._runner: web.AppRunner | None = None
        self._first = 0

    # -- what a test does ---------------------------------------------------------------------------------------------

    def begin_test(self) -> None:
        """Consider only later messages; the bot may still be busy with the earlier ones."""
        self._first = len(self.messages)

    def join(self) -> str:
        """Return a user that the bot does not know yet."""
        return self._new_id()

    def say(self, user_id: str, text: str, *, channel: str = CHANNEL, mention: bool = True) -> None:
        """A user writes a message."""
        is_direct = channel == DM
        content = f"<@{BOT}> {text}" if mention else text
        message = self._message(user(user_id), content, channel) | {"mentions": [user(BOT)] if mention else []}
        where = {"channel_type": 1} if is_direct else {"guild_id": GUILD, "member": member(user_id)}
        self._dispatch("MESSAGE_CREATE", message | where)

    def ask(self, user_id: str, prompt: str) -> None:
        """A user uses /ask."""
        options = [{"name": "prompt", "type": 3, "value": prompt}]
        data = {"id": self.commands[0]["id"], "name": "ask", "type": 1, "options": options}
        self._interact(user_id, COMMAND, data)

    def press_stop(self, user_id: str, message: Payload) -> None:
        """A user presses the button under the bot's message."""
        (button,) = buttons(message)
        data = {"component_type": 2, "custom_id": button["custom_id"]}
        token = f"pressed-{self._new_id()}"
        self._pressed[token] = message["id"]
        shown = {name: value for name, value in message.items() if name != "versions"}
        self._interact(user_id, COMPONENT, data, message=shown, token=token)

    def drop_connection(self) -> None:
        """Close the gateway's websocket, as Discord does occasionally."""
        socket, self._socket = self._socket, None
        if socket is not None:
            self._do(socket.close(code=4000))

    def delete(self, message: Payload) -> None:
        """A moderator deletes the bot's message."""
        del self.messages[message["id"]]

    def is_ready(self) -> bool:
        """Whether the bot is connected, and its commands are known."""
        return self._socket is not None and bool(self.commands)

    def wait_for_message(self, containing: str, number: int = 0) -> Payload:
        """The bot's message with that number, once it contains the text."""

        def look() -> Payload | None:
            found = self.present()
            return found[number] if len(found) > number and containing in found[number]["content"] else None

        return wait_for(f"{containing!r} in message {number} of {self.contents()}", look)

    def contents(self) -> list[str]:
        return [message["content"] for message in self.present()]

    def present(self) -> list[Payload]:
        """This test's messages, oldest first."""
        return list(self.messages.values())[self._first :]

    # -- the gateway --------------------------------------------------------------------------------------------------

    async def _gateway(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": HELLO, "d": {"heartbeat_interval": 41250}})
        async for frame in socket:
            if frame.type is WSMsgType.TEXT:
                await self._hear(socket, json.loads(frame.data))
        if self._socket is socket:
            self._socket = None
        return socket

    async def _hear(self, socket: web.WebSocketResponse, said: Payload) -> None:
        if said["op"] == HEARTBEAT:
            await socket.send_json({"op": HEARTBEAT_ACK})
        elif said["op"] == IDENTIFY:
            assert said["d"]["token"] == TOKEN
            await self._greet(socket)
            self._take(socket, "identify")
        elif said["op"] == RESUME:
            assert said["d"]["session_id"] == "s"
            for event in self._missed:
                await socket.send_json(event)
            self._missed.clear()
            await socket.send_json(self._event("RESUMED", {}))
            self._take(socket, "resume")

    async def _greet(self, socket: web.WebSocketResponse) -> None:
        ready = {"v": 10, "user": user(BOT), "session_id": "s", "resume_gateway_url": self._socket_url()}
        ready |= {"guilds": [{"id": GUILD, "unavailable": True}], "application": {"id": APPLICATION, "flags": 0}}
        await socket.send_json(self._event("READY", ready))
        await socket.send_json(self._event("GUILD_CREATE", guild()))

    def _take(self, socket: web.WebSocketResponse, how: str) -> None:
        self.hellos.append(how)
        self._socket = socket

    def _socket_url(self) -> str:
        return self.url.replace("http://", "ws://") + "/gateway"

    def _event(self, name: str, data: Payload) -> Payload:
        return {"op": DISPATCH, "t": name, "s": next(self._seq), "d": data}

    def _dispatch(self, name: str, data: Payload) -> None:
        """Send an event, or keep it for the bot's return."""
        event = self._event(name, data)
        if self._socket is None:
            self._missed.append(event)
        else:
            self._do(self._socket.send_json(event))

    def _interact(self, user_id: str, kind: int, data: Payload, **more: Any) -> None:
        number = self._new_id()
        interaction = {"id": number, "application_id": APPLICATION, "type": kind, "data": data, "token": f"t{number}"}
        interaction |= {"version": 1, "guild_id": GUILD, "member": member(user_id) | {"permissions": "3072"}}
        interaction |= {"channel": {"id": CHANNEL, "type": 0}, "attachment_size_limit": 1, "entitlements": []}
        self._dispatch("INTERACTION_CREATE", interaction | {"authorizing_integration_owners": {}} | more)

    # -- REST ---------------------------------------------------------------------------------------------------------

    def _routes(self) -> Iterator[web.RouteDef]:
        yield web.get("/gateway", self._gateway)
        yield web.get("/api/users/@me", self._show_me)
        yield web.get("/api/oauth2/applications/@me", self._show_application)
        yield web.put("/api/applications/{application}/commands", self._set_commands)
        yield web.post("/api/channels/{channel}/messages", self._create)
        yield web.patch("/api/channels/{channel}/messages/{message}", self._edit)
        yield web.post("/api/interactions/{interaction}/{token}/callback", self._answer_interaction)
        yield web.post("/api/webhooks/{application}/{token}", self._create)
        yield web.get("/api/webhooks/{application}/{token}/messages/{message}", self._show)
        yield web.patch("/api/webhooks/{application}/{token}/messages/{message}", self._edit)

    @web.middleware
    async def _check_token(self, request: web.Request, handler: Any) -> web.StreamResponse:
        sent = request.headers.get("Authorization")
        is_open = "/interactions/" in request.path or "/webhooks/" in request.path or request.path == "/gateway"
        if not is_open and sent != f"Bot {TOKEN}":
            return replied({"code": 0, "message": "401: Unauthorized"}, status=401)
        return await handler(request)

    async def _show_me(self, _request: web.Request) -> web.Response:
        return replied(user(BOT))

    async def _show_application(self, _request: web.Request) -> web.Response:
        facts = {"id": APPLICATION, "name": "slm", "description": "", "icon": None, "owner": user(OWNER)}
        return replied(facts | {"bot_public": True, "bot_require_code_grant": False, "verify_key": ""})

    async def _set_commands(self, request: web.Request) -> web.Response:
        known = {"application_id": APPLICATION, "version": "1", "default_member_permissions": None}
        self.commands = [{"id": self._new_id()} | known | command for command in await request.json()]
        return replied(self.commands)

    async def _create(self, request: web.Request) -> web.Response:
        return self._store(await request.json())

    async def _show(self, request: web.Request) -> web.Response:
        return replied(self.messages[self._named(request)])

    async def _edit(self, request: web.Request) -> web.Response:
        return self._change(self._named(request), await request.json())

    def _named(self, request: web.Request) -> str:
        name = request.match_info["message"]
        return self._first_of[request.match_info["token"]] if name == "@original" else name

    async def _answer_interaction(self, request: web.Request) -> web.Response:
        answer = await request.json()
        data = answer.get("data") or {}
        if answer["type"] == UPDATE_MESSAGE:
            self._change(self._pressed[request.match_info["token"]], data)
            return replied(self._callback(answer["type"], None))
        assert answer["type"] == NEW_MESSAGE
        stored = self._store(data)
        if stored.status == 200:
            self._first_of[request.match_info["token"]] = list(self.messages)[-1]
            stored = replied(self._callback(NEW_MESSAGE, list(self.messages)[-1]))
        return stored

    def _callback(self, kind: int, message_id: str | None) -> Payload:
        replied: Payload = {"interaction": {"id": self._new_id(), "type": COMMAND, "response_message_id": message_id}}
        if message_id is not None:
            replied["resource"] = {"type": kind, "message": self.messages[message_id]}
        return replied

    def _store(self, sent: Payload) -> web.Response:
        if (refusal := self._refusal(sent)) is not None:
            return refusal
        message = self._message(user(BOT), sent["content"], CHANNEL)
        message |= {"components": sent.get("components", []), "flags": sent.get("flags", 0)}
        self.messages[message["id"]] = message | {"versions": [sent["content"]]}
        return replied(message)

    def _change(self, message_id: str, sent: Payload) -> web.Response:
        if message_id not in self.messages:
            return replied({"code": 10008, "message": "Unknown Message"}, status=404)
        message = self.messages[message_id]
        if (refusal := self._refusal(message | sent)) is not None:
            return refusal
        message.update({name: value for name, value in sent.items() if name in ("content", "components")})
        if "content" in sent:
            message["versions"].append(sent["content"])
        return replied(message)

    def _refusal(self, sent: Payload) -> web.Response | None:
        if 0 < len(sent["content"]) <= MOST_CHARS:
            return None
        self.refusals.append(sent["content"])
        return replied({"code": 50035, "message": "Invalid Form Body"}, status=400)

    def _message(self, author: Payload, content: str, channel: str) -> Payload:
        lists: Payload = {name: [] for name in ("mentions", "mention_roles", "attachments", "embeds", "components")}
        flags = {"tts": False, "mention_everyone": False, "pinned": False, "type": 0, "edited_timestamp": None}
        number = self._new_id()
        facts = {"id": number, "channel_id": channel, "author": author, "content": content}
        return facts | {"timestamp": SOME_TIME} | flags | lists

    def _new_id(self) -> str:
        return str(next(self._ids))

    # -- the server ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        self._do(self._listen())

    def stop(self) -> None:
        assert self._runner is not None
        self.drop_connection()
        self._do(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        app = web.Application(middlewares=[self._check_token])
        app.add_routes(list(self._routes()))
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)


def buttons(message: Payload) -> list[Payload]:
    return [button for row in message["components"] for button in row["components"]]


@contextmanager
def fake_discord() -> Iterator[FakeDiscord]:
    """Start it, and stop it at the end."""
    discord = FakeDiscord()
    discord.start()
    try:
        yield discord
    finally:
        discord.stop()
