"""The generated market against unmodified ccxt.pro and a plain websocket client; every fault does what it says."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
import pytest

from ingestd.lab.sim.faults import Fault
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from tests.support.time_limits import AT_LENGTH
from tests.unit.lab.sim.unmodified_ccxt import unmodified_ccxt, until, watching

SPOT_WS = "wss://stream.binance.com:9443"
SPOT_REST = "https://api.binance.com"


class Plain:
    """A websocket client that keeps every frame, and knows nothing but JSON."""

    def __init__(self, session: aiohttp.ClientSession, venue: SyntheticVenue) -> None:
        self.frames: list[dict[str, Any]] = []
        self.bad: list[str] = []
        self._session, self._venue = session, venue
        self._task: asyncio.Task[None] | None = None
        self.opened = 0

    async def open(self, *streams: str) -> None:
        socket = await self._session.ws_connect(self._venue.url_map[SPOT_WS] + "/ws/0", max_msg_size=0)
        await socket.send_json({"method": "SUBSCRIBE", "params": streams, "id": 1})
        self.opened += 1
        self._task = asyncio.create_task(self._read(socket), name="plain-client")

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            try:
                self.frames.append(json.loads(message.data))
            except ValueError:
                self.bad.append(message.data)

    async def closed(self) -> None:
        assert self._task is not None
        await asyncio.wait_for(self._task, 60)

    @property
    def trades(self) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame.get("e") == "trade"]


@asynccontextmanager
async def plain_client(rate: float = 500, symbols: int = 1) -> AsyncIterator[tuple[SyntheticVenue, Plain]]:
    async with synthetic_venue(symbols=symbols, rate=rate) as venue, aiohttp.ClientSession() as session:
        yield venue, Plain(session, venue)


async def all_received(venue: SyntheticVenue, client: Plain) -> None:
    assert await venue.stop()
    await until(lambda: len(client.trades) >= venue.ledger.sent["trades"], "what was sent")


@pytest.mark.parametrize(("name", "spot", "futures"), [("binance", 5, 0), ("binanceusdm", 0, 5)])
async def test_ccxt_keeps_its_books_in_step(name: str, spot: int, futures: int) -> None:
    async with synthetic_venue(symbols=spot, futures_symbols=futures, rate=2000) as venue:
        exchange = unmodified_ccxt(name, venue.url_map)
        exchange.options["tradesLimit"] = 100_000
        await exchange.load_markets()
        assert set(venue.symbols) == set(exchange.markets)
        updates = dict.fromkeys(venue.symbols, 0)

        async def watch_book(symbol: str) -> None:
            book = await exchange.watch_order_book(symbol)
            updates[symbol] += 1
            assert book["bids"][0][0] < book["asks"][0][0]

        async with watching(exchange) as keep:  # a nonce error ends its task, and with it the test
            for symbol in venue.symbols:
                keep(partial(watch_book, symbol), f"book {symbol}")
                keep(partial(exchange.watch_trades, symbol), f"trades {symbol}")
                keep(partial(exchange.watch_bids_asks, [symbol]), f"ticks {symbol}")
            await until(lambda: min(updates.values()) > 30 and venue.ledger.sent["trades"] > 4000, "enough of all")
            assert await venue.stop()
            markets = {key: symbol for symbol, key in venue.symbols.items()}
            await until(lambda: books_agree(exchange, venue, markets), "the venue's own book in ccxt")
            sent = {
                (line["symbol"], line["trade_id"]): (float(line["price"]), float(line["quantity"]))
                for line in map(json.loads, venue.ledger.trade_lines())
            }
            await until(lambda: sum(map(len, exchange.trades.values())) >= len(sent), "the last trades")
            received = {
                (symbol, trade["id"]): (trade["price"], trade["amount"])
                for symbol, trades in exchange.trades.items()
                for trade in trades
            }
            assert len(sent) > 4000
            assert received == sent


def books_agree(exchange: Any, venue: SyntheticVenue, markets: dict[str, str]) -> bool:
    """The client's ten best bids are the generator's (whose last changes may wait for a depth frame: one tick)."""
    for key, lane in venue.source.lane_of_key.items():
        best = float(lane.market.price(lane.market.bid))
        if abs(exchange.orderbooks[markets[key]]["bids"][0][0] - best) > 0.25:
            return False
    return True


async def test_what_arrives_is_what_the_ledger_says() -> None:
    async with plain_client(symbols=3, rate=3000) as (venue, client):
        await client.open("btcusdt@trade", "ethusdt@trade", "ethusdt@bookTicker", "solusdt@kline_1m")
        await asyncio.sleep(1)
        await all_received(venue, client)
        lines = [json.loads(line) for line in venue.ledger.trade_lines()]
        keys = ("market_id", "trade_id", "price", "quantity", "time_ms", "side")
        assert [tuple(line[key] for key in keys) for line in lines] == [
            (t["s"], str(t["t"]), t["p"], t["q"], t["T"], "sell" if t["m"] else "buy") for t in client.trades
        ]
        ticks = [json.loads(line) for line in venue.ledger.tick_lines()]
        received = [f for f in client.frames if "B" in f and "e" not in f]
        assert [(tick["bid_price"], tick["ask_volume"]) for tick in ticks] == [(f["b"], f["A"]) for f in received]
        summary = venue.summary()
        assert summary["emitting"] is False
        assert not {f["s"] for f in client.trades} - {"BTCUSDT", "ETHUSDT"}


async def test_rate_is_kept() -> None:
    async with plain_client(rate=4000, symbols=4) as (venue, client):
        started = time.monotonic()
        await client.open(*(f"{key.lower()}@trade" for key in venue.symbols.values()))
        await asyncio.sleep(1.5)
        await all_received(venue, client)
        rate = len(client.trades) / (time.monotonic() - started)
        assert (3000 if AT_LENGTH else 1000) < rate < 4400


async def test_drop_cuts_and_the_market_goes_on() -> None:
    async with plain_client() as (venue, client):
        await client.open("btcusdt@trade")
        await until(lambda: len(client.trades) > 50, "trades")
        await venue.apply(Fault("drop"))
        await client.closed()
        last = client.trades[-1]["t"]
        await asyncio.sleep(0.2)
        await client.open("btcusdt@trade")
        await until(lambda: client.trades[-1]["t"] > last, "trades after the reconnect")
        await all_received(venue, client)
        ids = [trade["t"] for trade in client.trades]
        missing = set(range(ids[0], ids[-1] + 1)) - set(ids)
        withheld = {int(json.loads(line)["trade_id"]) for line in venue.ledger.trade_lines(withheld=True)}
        assert missing
        assert missing <= withheld
        assert venue.ledger.uncertain_trades() == 0


async def test_half_open_is_silent_without_closing() -> None:
    async with plain_client() as (venue, client):
        await client.open("btcusdt@trade")
        await until(lambda: len(client.trades) > 50, "trades")
        await venue.apply(Fault("half_open", seconds=0.6))
        await asyncio.sleep(0.1)
        count = len(client.trades)
        await asyncio.sleep(0.3)
        assert len(client.trades) == count
        await until(lambda: len(client.trades) > count, "the same socket to speak again")
        assert client.opened == 1


async def test_half_open_ends_with_the_reconnect() -> None:
    async with plain_client() as (venue, client):
        await client.open("btcusdt@trade")
        await until(lambda: len(client.trades) > 50, "trades")
        await venue.apply(Fault("half_open"))
        await asyncio.sleep(0.1)
        count = len(client.trades)
        await client.open("btcusdt@trade")
        await until(lambda: len(client.trades) > count, "trades on the new socket")
        assert len(venue.hub.connections) == 1


async def test_malformed_burst_duplicate_and_id_jump() -> None:
    async with plain_client() as (venue, client):
        await client.open("btcusdt@trade")
        await until(lambda: len(client.trades) > 50, "trades")
        await venue.apply(Fault("malformed", n=7))
        await until(lambda: len(client.bad) == 7, "the malformed frames")
        before = venue.ledger.distinct_trades
        await venue.apply(Fault("burst", n=1500, symbol="BTC/USDT"))
        assert venue.ledger.distinct_trades >= before + 1500
        await venue.apply(Fault("duplicate", n=20))
        await venue.apply(Fault("id_jump", n=30))
        await asyncio.sleep(0.1)
        await all_received(venue, client)
        ids = [trade["t"] for trade in client.trades]
        assert len(ids) - len(set(ids)) == 20
        assert max(ids) - min(ids) + 1 - len(set(ids)) == 30
        assert venue.ledger.distinct_trades == len(set(ids))
        recovered = await rest(venue, f"/api/v3/historicalTrades?symbol=BTCUSDT&fromId={min(ids)}&limit=1000")
        assert [trade["id"] for trade in recovered] == list(range(min(ids), min(ids) + 1000))


async def test_rate_limit_refuses_then_answers() -> None:
    async with plain_client() as (venue, _), aiohttp.ClientSession() as session:
        await venue.apply(Fault("rate_limit", n=2, status=418, retry_after_s=3))
        url = venue.url_map[SPOT_REST] + "/api/v3/time"
        answers = [await session.get(url) for _ in range(3)]
        assert [answer.status for answer in answers] == [418, 418, 200]
        assert answers[0].headers["Retry-After"] == "3"


async def test_a_client_that_does_not_read_holds_the_market_up_and_leaves_doubt() -> None:
    async with plain_client(rate=50_000) as (venue, _), aiohttp.ClientSession() as session:
        socket = await session.ws_connect(venue.url_map[SPOT_WS] + "/ws/btcusdt@trade", max_msg_size=0)
        connection = socket._response.connection
        assert connection is not None
        transport = connection.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        held = -1
        async with asyncio.timeout(60):  # until every buffer on the way is full, and then it stays so
            while held != (held := venue.ledger.sent["trades"]):
                await asyncio.sleep(0.5)
        assert sum(c.transport.get_write_buffer_size() for c in venue.hub.connections) < 1 << 20
        transport.abort()
        await until(lambda: not venue.hub.connections, "the dead socket to be noticed")
        assert venue.ledger.uncertain_trades() > 0


async def rest(venue: SyntheticVenue, path: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(venue.url_map[SPOT_REST] + path) as answer:
        return await answer.json()


async def test_history_and_candles_over_rest_agree_with_the_stream() -> None:
    async with plain_client() as (venue, client):
        await client.open("btcusdt@trade")
        await until(lambda: len(client.trades) > 200, "trades")
        await all_received(venue, client)
        exchange = unmodified_ccxt("binance", venue.url_map)
        try:
            trades = await exchange.fetch_trades("BTC/USDT", since=client.trades[0]["T"], limit=1000)
            candles = await exchange.fetch_ohlcv("BTC/USDT", "1m")
        finally:
            await exchange.close()
        assert [trade["price"] for trade in trades] == [float(trade["p"]) for trade in client.trades]
        assert sum(candle[5] for candle in candles) == pytest.approx(sum(float(t["q"]) for t in client.trades))
        assert candles[-1][4] == float(client.trades[-1]["p"])


async def test_the_spot_pair_and_its_perpetual_are_told_apart() -> None:
    async with synthetic_venue(symbols=2, futures_symbols=2, rate=400) as venue:
        exchange = unmodified_ccxt("binance", venue.url_map)
        async with watching(exchange) as keep:
            for symbol in venue.symbols:
                keep(partial(exchange.watch_trades, symbol), symbol)
            await until(lambda: set(exchange.trades) == set(venue.symbols), "trades of all four")
            assert await venue.stop()
            counts = {symbol: venue.ledger.by_market[key]["trades"] for symbol, key in venue.symbols.items()}
            await until(lambda: {s: len(t) for s, t in exchange.trades.items()} == counts, "all that was sent")
        assert {json.loads(line)["symbol"] for line in venue.ledger.trade_lines()} == set(venue.symbols)


async def test_futures_polls_answer() -> None:
    async with synthetic_venue(symbols=0, futures_symbols=1) as venue:
        exchange = unmodified_ccxt("binanceusdm", venue.url_map)
        try:
            interest = await exchange.fetch_open_interest("BTC/USDT:USDT")
            funding = await exchange.fetch_funding_rate("BTC/USDT:USDT")
        finally:
            await exchange.close()
        assert interest["openInterestAmount"] > 0
        assert funding["fundingRate"] == 0.0001


async def test_the_process_says_it_is_ready_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "ingestd.lab.sim", "synthetic", "--symbols", "2", "--fault", "malformed@0.1:3"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    assert ready["exchange"] == "binance"
    assert ready["symbols"] == ["BTC/USDT", "ETH/USDT"]
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(ready["url_map"][SPOT_WS] + "/stream?streams=btcusdt@trade") as socket:
            frame = json.loads((await asyncio.wait_for(socket.receive(), 60)).data)
            assert frame["stream"] == "btcusdt@trade"
            await asyncio.sleep(0.3)
            async with session.post(ready["control"] + "/_sim/stop") as answer:
                assert await answer.json() == {"emitting": False, "drained": True}
        async with session.get(ready["control"] + "/_sim/ledger") as answer:
            ledger = await answer.json()
        async with session.get(ready["control"] + "/_sim/ledger/trades") as answer:
            lines = (await answer.text()).splitlines()
        async with session.get(ready["control"] + "/_sim/markets") as answer:
            assert await answer.json() == {"BTC/USDT": "BTCUSDT", "ETH/USDT": "ETHUSDT"}
        async with session.post(ready["control"] + "/_sim/faults", json={"kind": "melt"}) as answer:
            assert answer.status == 400
    assert ledger["malformed"] == 3
    assert ledger["distinct_trades"] == len(lines) > 0
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0
