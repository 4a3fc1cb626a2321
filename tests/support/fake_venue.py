"""A venue on this machine for the ccxt feed: REST replies by path, and sockets of which a test sees every message."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from ingestd.config.models import FeedConfig
from ingestd.feeds.ccxt.feed import CcxtFeed
from tests.unit.feeds.doubles import ListIntake

WITHIN_S = 60.0


class Connection:
    """One socket that the feed has dialled, and the messages (decoded) that it sent on it."""

    def __init__(self, path: str, socket: web.WebSocketResponse) -> None:
        self.path = path
        self.socket = socket
        self.asked: list[Any] = []

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it."""
        return not self.socket.closed

    async def send(self, *messages: Any) -> None:
        """Text as it is, anything else as JSON; nothing when it is closed."""
        for message in messages:
            if self.is_open:
                await self.socket.send_str(message if isinstance(message, str) else json.dumps(message))


class FakeVenue:
    """`replies` says what REST answers, by path: JSON, or a function of the request that returns JSON or a response.

    `answer(connection, message)` returns what the venue says to a message.
    """

    def __init__(self, answer: Callable[[Connection, Any], list[Any]]) -> None:
        self.replies: dict[str, Any] = {}
        self.answer = answer
        self.connections: list[Connection] = []
        self.requests: list[str] = []
        self.host = ""
        self._runner: web.AppRunner | None = None

    @property
    def open(self) -> list[Connection]:
        """The sockets that are open now, the oldest first."""
        return [connection for connection in self.connections if connection.is_open]

    async def start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        for connection in self.connections:
            await connection.socket.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self.serve_socket(request)
        self.requests.append(request.path_qs)
        reply = self.replies.get(request.path)
        if callable(reply):
            reply = reply(request)
        if isinstance(reply, web.StreamResponse):
            return reply
        return web.json_response(reply, status=404 if reply is None else 200)

    async def serve_socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        connection = Connection(request.path, socket)
        self.connections.append(connection)
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                asked = json.loads(message.data) if message.data[:1] in "{[" else message.data
                connection.asked.append(asked)
                await connection.send(*self.answer(connection, asked))
        return socket


class Running:
    """The feed in a task of its own; `hosts` are the prefixes of the venue's URLs, of REST and of sockets."""

    def __init__(self, venue: FakeVenue, exchange: str, *hosts: str, **settings: Any) -> None:
        url_map = {host: f"{'ws' if host.startswith('ws') else 'http'}://{venue.host}" for host in hosts}
        self.intake = ListIntake()
        self.feed = CcxtFeed(FeedConfig(exchange=exchange, url_map=url_map, **settings))
        self.task = asyncio.create_task(self.feed.run(self.intake))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Yield to the loop until the condition holds; fails with the feed's own error if it ends first."""
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.002)

    @property
    def quarantined(self) -> dict[str, str]:
        """Why each symbol that is put aside is."""
        return {s.symbol: s.quarantined for s in self.feed.status().streams if s.quarantined is not None}

    async def close(self) -> None:
        await self.feed.close()
        await self.task
