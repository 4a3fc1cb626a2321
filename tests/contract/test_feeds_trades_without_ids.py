"""A venue whose trades have no ids, as LBank: what is sent again keeps its name, and equal trades stay as many."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from ingestd.config.models import FeedConfig
from ingestd.feeds.ccxt import subscription
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.records import Trade
from ingestd.retry import Backoff
from tests.unit.feeds.doubles import ListIntake

WITHIN_S = 60.0

Row = tuple[str, float, str]  # the time of day within a minute, the quantity, the side

ONE: Row = ("10.100", 0.5, "buy")
ANOTHER: Row = ("10.100", 0.7, "buy")
LATER: Row = ("10.200", 0.5, "sell")


class Lbank:
    """One spot market; frames as https://www.lbank.com/en-US/docs/index.html#trade-record."""

    def __init__(self) -> None:
        self.sockets: list[web.WebSocketResponse] = []
        self.asked = 0
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/ws/V2/", self._socket)
        app.router.add_get("/v2/accuracy.do", self._accuracy)
        app.router.add_get("/{path:.*}", self._nothing)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        for socket in self.sockets:
            await socket.close()
        assert self._runner is not None
        await self._runner.cleanup()

    async def trade(self, row: Row) -> None:
        """A frame with one trade, to the newest socket."""
        time, volume, side = row
        at = f"2026-09-21T12:00:{time}"
        body = {"volume": volume, "amount": 1.0, "price": 12129, "direction": side, "TS": at}
        await self._send({"trade": body, "type": "trade", "pair": "btc_usdt", "SERVER": "V2", "TS": at})

    async def trades(self, *rows: Row) -> None:
        """A frame with several."""
        listed = [
            {"volume": volume, "amount": 1.0, "price": 12129, "direction": side, "TS": f"2026-09-21T12:00:{time}"}
            for time, volume, side in rows
        ]
        await self._send({"trades": listed, "type": "trade", "pair": "btc_usdt", "SERVER": "V2"})

    async def _send(self, frame: object) -> None:
        await self.sockets[-1].send_str(json.dumps(frame))

    async def _accuracy(self, _: web.Request) -> web.Response:
        listed = [{"symbol": "btc_usdt", "quantityAccuracy": "4", "minTranQua": "0.0001", "priceAccuracy": "2"}]
        return web.json_response({"result": "true", "data": listed, "error_code": 0})

    async def _nothing(self, _: web.Request) -> web.Response:
        return web.json_response({"result": "true", "data": [], "error_code": 0})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            if message.type == WSMsgType.TEXT and json.loads(message.data).get("action") == "subscribe":
                self.asked += 1
        return socket


class Running:
    """The feed, and how many trades it has handed over."""

    def __init__(self, venue: Lbank) -> None:
        self.venue = venue
        self.intake = ListIntake()
        config = FeedConfig(
            exchange="lbank",
            symbols=["BTC/USDT"],
            channels=["trades"],
            url_map={
                "https://api.lbank.info": f"http://{venue.url}",
                "https://api.lbkex.com": f"http://{venue.url}",
                "https://lbkperp.lbank.com": f"http://{venue.url}",
                "wss://www.lbkex.net": f"ws://{venue.url}",
            },
        )
        self.feed = CcxtFeed(config)
        self.task = asyncio.create_task(self.feed.run(self.intake))

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.002)

    async def has(self, count: int) -> list[str]:
        """Wait for so many trades: the names of all."""
        await self.until(lambda: len(self.intake.of(Trade)) >= count)
        return [trade.trade_id for trade in self.intake.of(Trade)]

    async def reconnect(self) -> None:
        asked = self.venue.asked
        await self.venue.sockets[-1].close()
        await self.until(lambda: self.venue.asked > asked)


@pytest.fixture
async def running(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    def quick(**_: Any) -> Backoff:
        return Backoff(base_s=0.001, cap_s=0.005)

    real = subscription.Subscription.__init__
    monkeypatch.setattr(
        subscription.Subscription, "__init__", lambda self, *a, **k: real(self, *a, **{**k, "backoff": quick})
    )
    venue = Lbank()
    await venue.start()
    made = Running(venue)
    await made.until(lambda: venue.asked)
    yield made
    await made.feed.close()
    await made.task
    await venue.stop()


async def test_the_last_trade_sent_again_after_a_reconnect_has_the_same_name(running: Running) -> None:
    await running.venue.trade(ONE)
    await running.has(1)

    await running.reconnect()
    await running.venue.trade(ONE)

    first, again = await running.has(2)
    assert first == again


async def test_equal_trades_of_one_connection_stay_two_and_are_the_same_two_afterwards(running: Running) -> None:
    await running.venue.trade(ONE)
    await running.venue.trade(ONE)
    await running.has(2)

    await running.reconnect()
    await running.venue.trades(ONE, ONE)

    names = await running.has(4)
    assert names[0] != names[1]
    assert names[2:] == names[:2]


@pytest.mark.parametrize(
    "again",
    [
        pytest.param([[ANOTHER]], id="the last alone"),
        pytest.param([[LATER, ANOTHER, ONE, ONE]], id="the newest first"),
        pytest.param([[ANOTHER, ONE, ONE, LATER]], id="in another order"),
        pytest.param([[ONE], [ONE], [ANOTHER], [LATER]], id="a frame each"),
        pytest.param([[ONE, ONE], [ANOTHER, LATER]], id="over two frames"),
    ],
)
async def test_a_snapshot_after_a_reconnect_adds_no_name(running: Running, again: list[list[Row]]) -> None:
    brought = [ONE, ONE, ANOTHER, LATER]
    for row in brought:
        await running.venue.trade(row)
    before = Counter(await running.has(len(brought)))
    assert set(before.values()) == {1}

    for _ in range(2):
        await running.reconnect()
        sent = sum(map(len, again)) + len(running.intake.of(Trade))
        for frame in again:
            await running.venue.trades(*frame)
        assert set(await running.has(sent)) == set(before)


async def test_a_window_sent_again_on_the_same_connection_adds_no_name(running: Running) -> None:
    """It goes back in time, which no new trade does."""
    newest: Row = ("10.300", 0.1, "buy")
    await running.venue.trades(ONE, ONE, LATER)
    await running.venue.trades(ONE, ONE, LATER, newest)
    await running.venue.trades(newest, LATER, LATER)

    names = await running.has(10)
    assert len(set(names[:3])) == 3
    assert names[3:6] == names[:3]
    assert len(set(names[:7])) == 4
    # Sent alone the newest one is as good as new; the second LATER is one that was not there before.
    assert names[8] == names[2]
    assert names[9] not in names[:7]
