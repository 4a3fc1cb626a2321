"""Liquidations of OKX through the native feed: asked for by type on a socket of their own, silent without harm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError
from ingestd.feeds.markets.listing import Choice
from ingestd.feeds.native.message_reader import MessageReader
from ingestd.feeds.native.session import NativeSession
from ingestd.feeds.stopping import Stop
from ingestd.records import FeedGap, Liquidation
from ingestd.retry import Backoff
from ingestd.venues.okx import Okx
from tests.unit.feeds.doubles import ListIntake

WITHIN_S = 60.0
FOLLOWED = {f"{base}/USDT:USDT": f"{base}-USDT-SWAP" for base in ("BTC", "ETH")}


class Exchange:
    """Consents to every argument; `asked` are those of each socket, by its path."""

    def __init__(self) -> None:
        self.sockets: list[tuple[str, web.WebSocketResponse]] = []
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.url = ""

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        port = request.path.split("/")[1]
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append((port, socket))
        async for message in socket:
            if message.type == WSMsgType.TEXT and message.data.startswith("{"):
                request_made = json.loads(message.data)
                for arg in request_made["args"]:
                    self.asked.append((port, arg))
                    await socket.send_json({"event": request_made["op"], "arg": arg})
        return socket

    async def force(self, *market_ids: str) -> None:
        """One liquidation of each, to the newest socket."""
        details = [{"side": "sell", "posSide": "long", "bkPx": "9910.5", "sz": "2", "ts": "1692266434010"}]
        data = [{"instId": market_id, "instType": "SWAP", "details": details} for market_id in market_ids]
        arg = {"channel": "liquidation-orders", "instType": "SWAP"}
        await self.sockets[-1][1].send_json({"arg": arg, "data": data})


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    made = Exchange()
    app = web.Application()
    app.router.add_get("/{tail:.*}", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    for _, socket in made.sockets:
        await socket.close()
    await runner.cleanup()


class Running:
    def __init__(self, exchange: Exchange, *channels: Any) -> None:
        self.intake = ListIntake()
        config = FeedConfig(
            exchange="okx",
            symbols=["*"],
            channels=list(channels),
            stale_after_s=0.2,
            url_map={f"wss://ws.okx.com:{port}": f"{exchange.url}/{port}" for port in ("443", "8443")},
        )
        venue = Okx({})
        self.reader = MessageReader(config, venue, self.intake)
        self.session = NativeSession(config, venue, self.reader, self._no_book)
        self.stop = Stop()
        markets = {
            s: {"id": i, "symbol": s, "swap": True, "contract": True, "linear": True} for s, i in FOLLOWED.items()
        }
        self.session.follow(Choice(list(markets), markets))
        self.task = asyncio.create_task(self.session.run(self.stop))

    async def _no_book(self, symbol: str, levels: int | None) -> Mapping[str, Any]:
        raise FeedError(f"nobody asks for the book of {symbol}")

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.002)

    def forced(self) -> list[str]:
        return [record.symbol for record in self.intake.of(Liquidation)]

    async def close(self) -> None:
        self.reader.recorder.closing = True
        self.stop.set()
        await self.task


async def test_they_are_asked_for_once_and_those_of_other_markets_are_left_out(exchange: Exchange) -> None:
    running = Running(exchange, "liquidations")
    await running.until(lambda: exchange.asked)
    assert exchange.asked == [("8443", {"channel": "liquidation-orders", "instType": "SWAP"})]
    await exchange.force("BTC-USDT-SWAP", "IOST-USDT-SWAP", "ETH-USDT-SWAP")
    await running.until(lambda: len(running.forced()) == 2)
    assert running.forced() == list(FOLLOWED)
    assert running.reader.ledger.counts.unrequested_records == 0
    await running.close()


async def test_a_socket_of_liquidations_alone_is_kept_however_silent_it_is(exchange: Exchange) -> None:
    running = Running(exchange, "liquidations")
    await running.until(lambda: exchange.asked)
    await asyncio.sleep(1.0)  # five times the limit of other sockets
    assert len(exchange.sockets) == 1
    assert running.reader.ledger.counts.stale_reconnects == 0
    await exchange.force("BTC-USDT-SWAP")
    await running.until(running.forced)
    assert running.intake.of(FeedGap) == []
    await running.close()


async def test_trades_have_another_socket(exchange: Exchange) -> None:
    running = Running(exchange, "trades", "liquidations")
    await running.until(lambda: len(exchange.asked) >= 3)
    ports = {arg["channel"]: port for port, arg in exchange.asked}
    assert ports == {"trades": "443", "liquidation-orders": "8443"}
    await running.close()


async def test_what_was_lost_is_a_gap_until_the_next_one(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingestd.feeds.native.connection.Backoff", lambda **_: Backoff(base_s=0.001, cap_s=0.005))
    running = Running(exchange, "liquidations")
    await running.until(lambda: exchange.asked)
    await exchange.sockets[0][1].close()
    await running.until(lambda: len(exchange.asked) == 2)
    await exchange.force("BTC-USDT-SWAP")
    await running.until(running.forced)
    gaps = [gap for gap in running.intake.of(FeedGap) if gap.symbol == "BTC/USDT:USDT"]
    assert [(gap.channel, gap.cause, gap.ended_at is None) for gap in gaps] == [
        ("liquidations", "disconnect", True),
        ("liquidations", "disconnect", False),
    ]
    await running.close()
