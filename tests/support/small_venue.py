"""A small venue of one's own on this machine: REST bodies by path, and a socket that answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import WSMsgType, web

from ingestd.config.models import FeedConfig
from ingestd.feeds.base import Feed
from tests.support.feeds import make_feed
from tests.unit.feeds.doubles import ListIntake

WITHIN_S = 60.0

Answer = Callable[[str, Any], list[Any]]  # from the socket's path and what was asked on it, the frames to send
Rest = Callable[[str, dict[str, str]], Any]  # from the path and the query, the body; None: 404


class FakeVenue:
    """`asked` are the messages of its sockets with the path each came on."""

    def __init__(self, rest: Rest, answer: Answer) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.address = ""
        self._rest = rest
        self._answer = answer
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> FakeVenue:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            body = self._rest(request.path, dict(request.query))
            return web.json_response(body) if body is not None else web.Response(status=404)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT and message.data.startswith("{"):
                asked = json.loads(message.data)
                self.asked.append((request.path, asked))
                for frame in self._answer(request.path, asked):
                    await socket.send_str(frame if isinstance(frame, str) else json.dumps(frame))
        return socket


class RunningFeed:
    """A feed of either kind against a fake venue, in a task of its own."""

    def __init__(self, config: FeedConfig, decoder: str) -> None:
        self.intake = ListIntake()
        self.feed: Feed = make_feed(config, decoder)
        self._task = asyncio.create_task(self.feed.run(self.intake))

    async def __aenter__(self) -> RunningFeed:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.feed.close()
        await self._task

    async def until(self, condition: Callable[[], Any]) -> None:
        """Yield to the loop until the condition holds; fails with the feed's own error if it ends first."""
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(0.002)

    def aside(self) -> dict[str, str]:
        """Why each symbol that is put aside is."""
        return {s.symbol: s.quarantined for s in self.feed.status().streams if s.quarantined is not None}
