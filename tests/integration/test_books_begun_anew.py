"""Broken books of venues that do not send a book again when they are asked for it: over real sockets, to the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from ingestd.config.models import FeedConfig
from ingestd.feeds.books import ladder
from ingestd.feeds.ccxt import forget
from ingestd.feeds.ccxt.feed import CcxtFeed
from ingestd.feeds.ccxt.tap import close_exchange, make_exchange
from ingestd.feeds.ccxt.tap_state import Tap
from ingestd.feeds.markets.cache import MarketCache
from ingestd.records import BookSnapshot, FeedGap, Trade
from tests.support.book_venues import ModelBook, as_numbers, stored
from tests.unit.feeds.doubles import ListIntake, market

WITHIN_S = 60.0


class Venue:
    """One book and one stream of trades on every socket. `send_whole_again` says what it takes: "unsubscribed" or
    "never" (on the same socket)."""

    exchange: str
    ws: str
    symbol: str
    market_id: str

    def __init__(self, send_whole_again: str) -> None:
        self.send_whole_again = send_whole_again
        self.book = ModelBook({"100": "1", "99": "2"}, {"101": "1.5", "102": "2.5"})
        self.states = [self.book.as_numbers()]
        self.sockets: list[web.WebSocketResponse] = []
        self.heard: list[dict[str, Any]] = []
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{tail:.*}", self._socket)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}/"

    async def stop(self) -> None:
        for socket in self.sockets:
            await socket.close()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        self.opened()
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data.startswith("{"):
                said = json.loads(message.data)
                self.heard.append(said)
                for frame in self.answer(said):
                    await socket.send_str(frame)
        return socket

    async def send(self, *frames: str) -> None:
        with contextlib.suppress(ConnectionError):  # given up by the feed
            for frame in frames:
                await self.sockets[-1].send_str(frame)

    async def change(self, side: str, price: str, amount: str, *, told: bool = True) -> None:
        self.book.change(side, price, amount)
        self.states.append(self.book.as_numbers())
        if told and self.is_asked_for():
            await self.send(self.changed(side, price, amount))

    def opened(self) -> None:
        """Another socket."""

    def answer(self, said: dict[str, Any]) -> list[str]:
        raise NotImplementedError

    def is_asked_for(self) -> bool:
        """Whether the book is subscribed to."""
        raise NotImplementedError

    def has_been_asked_for(self, channel: str) -> bool:
        """Whether this is subscribed to on the last socket."""
        raise NotImplementedError

    def changed(self, side: str, price: str, amount: str) -> str:
        raise NotImplementedError

    def trade(self, number: int) -> str:
        raise NotImplementedError

    async def break_the_book(self) -> None:
        """A change that is never sent, and what tells of it."""
        raise NotImplementedError


class Bitfinex(Venue):
    """Refuses a second subscription to the same book: code 10301, "subscribe: dup"."""

    exchange, ws, symbol, market_id = "bitfinex", "wss://api-pub.bitfinex.com/", "BTC/USD", "tBTCUSD"

    def opened(self) -> None:
        self.channels: dict[int, str] = {}

    def answer(self, said: dict[str, Any]) -> list[str]:
        if said["event"] == "unsubscribe" and self.send_whole_again != "never":
            if not isinstance(said["chanId"], int) or said["chanId"] not in self.channels:
                return ['{"event":"error","msg":"unsubscribe: invalid","code":10400}']
            del self.channels[said["chanId"]]
            return [json.dumps({"event": "unsubscribed", "status": "OK", "chanId": said["chanId"]})]
        if said["event"] != "subscribe":
            return []
        name = said["channel"]
        if name in self.channels.values():
            return [json.dumps({"event": "error", "msg": "subscribe: dup", "code": 10301, "channel": name})]
        channel = 100 * len(self.sockets) + len(self.heard)
        self.channels[channel] = name
        begun = {
            "event": "subscribed",
            "channel": name,
            "chanId": channel,
            "symbol": "tBTCUSD",
            "prec": "P0",
            "len": "25",
        }
        return [json.dumps(begun), self.whole(channel) if name == "book" else f"[{channel},[]]"]

    def is_asked_for(self) -> bool:
        return self.has_been_asked_for("book")

    def has_been_asked_for(self, channel: str) -> bool:
        return channel in self.channels.values()

    def channel(self, name: str) -> int:
        return next(channel for channel, known in self.channels.items() if known == name)

    def row(self, side: str, price: str, amount: str) -> str:
        sign = "" if side == "bids" else "-"
        return f"[{price},1,{sign}{amount}]" if float(amount) else f"[{price},0,{sign}1]"

    def whole(self, channel: int) -> str:
        rows = [self.row(side, *row) for side in ("bids", "asks") for row in self.book.rows(side)]
        return f"[{channel},[{','.join(rows)}]]"

    def changed(self, side: str, price: str, amount: str) -> str:
        return f"[{self.channel('book')},{self.row(side, price, amount)}]"

    def trade(self, number: int) -> str:
        return f'[{self.channel("trades")},"te",[{number},1790000000000,0.5,100.5]]'

    def checksum(self) -> str:
        """https://docs.bitfinex.com/docs/ws-websocket-checksum"""
        pairs = itertools.zip_longest(self.book.rows("bids")[:25], self.book.rows("asks")[:25])
        texts = [text for bid, ask in pairs for text in ((bid or ()), (ask and (ask[0], f"-{ask[1]}")) or ())]
        number = zlib.crc32(":".join(":".join(text) for text in texts if text).encode())
        return f'[{self.channel("book")},"cs",{number - 2**32 if number >= 2**31 else number}]'

    async def break_the_book(self) -> None:
        await self.send(self.checksum())
        await self.change("bids", "99", "7", told=False)
        await self.send(self.checksum())


class Okx(Venue):
    """Says that it has subscribed, but sends a book that it has sent already only after it was unsubscribed."""

    exchange, ws, symbol, market_id = "okx", "wss://ws.okx.com:443/", "BTC/USDT", "BTC-USDT"

    def opened(self) -> None:
        self.asked: set[str] = set()

    def answer(self, said: dict[str, Any]) -> list[str]:
        frames = []
        for asked in said["args"]:
            frames.append(json.dumps({"event": said["op"], "arg": asked, "connId": "a"}))
            if said["op"] == "unsubscribe":
                if self.send_whole_again != "never":
                    self.asked.discard(asked["channel"])
                continue
            if asked["channel"] == "books" and "books" not in self.asked:
                self.number = getattr(self, "number", 0) + 1
                frames.append(self.frame("snapshot", self.book.rows("bids"), self.book.rows("asks"), -1))
            self.asked.add(asked["channel"])
        return frames

    def is_asked_for(self) -> bool:
        return self.has_been_asked_for("books")

    def has_been_asked_for(self, channel: str) -> bool:
        return channel in self.asked

    def frame(self, action: str, bids: Any, asks: Any, before: int) -> str:
        sides = {side: [[*row, "0", "1"] for row in rows] for side, rows in (("bids", bids), ("asks", asks))}
        data = {**sides, "ts": "1790000000000", "prevSeqId": before, "seqId": self.number, "checksum": 0}
        return json.dumps({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": action, "data": [data]})

    def changed(self, side: str, price: str, amount: str) -> str:
        self.number += 1
        rows = {"bids": [], "asks": [], side: [(price, amount)]}
        return self.frame("update", rows["bids"], rows["asks"], self.number - 1)

    def trade(self, number: int) -> str:
        data = {
            "instId": "BTC-USDT",
            "tradeId": str(number),
            "px": "1",
            "sz": "1",
            "side": "buy",
            "ts": "1790000000000",
        }
        return json.dumps({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [data]})

    async def break_the_book(self) -> None:
        self.number += 1
        await self.change("bids", "99", "7", told=False)
        await self.change("bids", "98", "7")


class Running:
    """The feed of that venue."""

    def __init__(self, venue: Venue, feed: CcxtFeed) -> None:
        self.venue = venue
        self.feed = feed
        self.intake = ListIntake()

    def books(self) -> list[BookSnapshot]:
        return self.intake.of(BookSnapshot)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                await asyncio.sleep(0.01)

    async def until_book_is_the_venues(self) -> None:
        await self.until(lambda: self.books() and stored(self.books()[-1]) == self.venue.book.as_numbers())


@asynccontextmanager
async def running(venue: Venue, folder: Path) -> AsyncIterator[Running]:
    await venue.start()
    config = FeedConfig(
        exchange=venue.exchange,
        symbols=[venue.symbol],
        channels=["order_book", "trades"],
        url_map={venue.ws: venue.url},
        order_book_interval_ms=0,
        book_audit_interval_s=0,
    )
    exchange = make_exchange(venue.exchange, Tap())
    cache = MarketCache(folder, config)
    cache.write([market(exchange, venue.symbol, venue.market_id)])
    await close_exchange(exchange)
    made = Running(venue, CcxtFeed(config, cache=cache))
    task = asyncio.create_task(made.feed.run(made.intake))
    try:
        yield made
    finally:
        await made.feed.close()
        await task
        await venue.stop()


@pytest.fixture(params=[Bitfinex, Okx])
def kind(request: pytest.FixtureRequest) -> type[Venue]:
    made: type[Venue] = request.param
    return made


@pytest.mark.parametrize(("again", "sockets"), [("unsubscribed", 1), ("never", 2)])
async def test_a_broken_book_is_begun_anew_until_a_whole_one_comes(
    kind: type[Venue], again: str, sockets: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ladder, "SNAPSHOT_WITHIN_S", 0.5)
    monkeypatch.setattr(forget, "UNSUBSCRIBED_WITHIN_S", 0.5)
    async with running(kind(again), tmp_path) as made:
        venue = made.venue
        await made.until_book_is_the_venues()
        await venue.change("asks", "101.5", "3")
        await made.until_book_is_the_venues()

        before = len(made.books())
        await venue.break_the_book()
        await made.until(lambda: made.intake.of(FeedGap))
        async with asyncio.timeout(WITHIN_S):
            while len(made.books()) == before or stored(made.books()[-1]) != venue.book.as_numbers():
                await venue.change("bids", "98.5", str(len(venue.states)))
                await asyncio.sleep(0.05)
        await made.until(lambda: venue.has_been_asked_for("trades"))
        await venue.send(venue.trade(7))
        await made.until(lambda: made.intake.of(Trade))

    assert len(venue.sockets) == sockets
    assert [stored(book) for book in made.books() if stored(book) not in venue.states] == []
    assert all(book.valid for book in made.books())
    opened = next(gap for gap in made.intake.of(FeedGap) if gap.channel == "order_book")
    assert opened.cause == "book_broken"
    assert as_numbers(made.books()[-1].bids)[1] == (99.0, 7.0)  # what was not told
    if sockets > 1:
        cut = [gap for gap in made.intake.of(FeedGap) if gap.channel == "trades"]
        assert "no whole book of" in str(cut[0].detail)
