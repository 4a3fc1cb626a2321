"""Unmodified ccxt.pro against the replay of every recorded capture: it must see what the capture holds."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ingestd.lab.sim.capture import CaptureError
from ingestd.lab.sim.faults import Fault
from ingestd.lab.sim.replay import MAX_SPEED, ReplayVenue, replay_venue
from tests.support.time_limits import within
from tests.unit.lab.sim.unmodified_ccxt import unmodified_ccxt, until, watching

CAPTURES = Path(__file__).parents[2].parent / "shared" / "data" / "captures"


@dataclass(frozen=True)
class Case:
    """A capture, the ccxt class that reads it, and how its best bid and ask are watched today."""

    capture: str
    exchange: str
    ticks_method: str = "watch_bids_asks"


CASES = [
    Case("binance-spot-2021-10", "binance"),
    Case("binance-usdm-2021-07", "binanceusdm"),
    Case("coinbase-exchange-2021-04", "coinbaseexchange", "watch_tickers"),
    Case("okx-v5-2022-05", "okx"),
    Case("krakenfutures-2021-07", "krakenfutures"),
]


def capture_path(name: str) -> Path:
    path = CAPTURES / f"{name}.ndjson.gz"
    if not path.exists():
        pytest.skip(f"NOT RUN: the recorded capture {path} is not on this machine")
    return path


def recorded_trades(path: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """(market id, trade id) → (price, quantity), read here without any of the simulator's code."""
    trades: dict[tuple[str, str], tuple[str, str]] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            if row["kind"] != "recv":
                continue
            data = json.loads(row["data"], parse_float=str, parse_int=str)
            data = data.get("data", data) if "stream" in data else data
            if data.get("e") == "aggTrade":
                trades[(data["s"], data["a"])] = (data["p"], data["q"])
            elif data.get("type") == "match":
                trades[(data["product_id"], data["trade_id"])] = (data["price"], data["size"])
            elif data.get("arg", {}).get("channel") == "trades" and "data" in data:
                for item in data["data"]:
                    trades[(item["instId"], item["tradeId"])] = (item["px"], item["sz"])
            elif data.get("feed") in ("trade", "trade_snapshot"):
                for item in data.get("trades", [data] if "uid" in data else []):
                    trades[(item["product_id"], item["uid"])] = (item["price"], item["qty"])
    return trades


def last_recorded_bids(path: Path) -> dict[str, float]:
    """market id → the last best bid in the ticker stream."""
    bids: dict[str, float] = {}
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            if row["kind"] != "recv":
                continue
            data = json.loads(row["data"])
            if str(data.get("stream", "")).endswith("@bookTicker"):
                bids[data["data"]["s"]] = float(data["data"]["b"])
            elif data.get("type") == "ticker":
                bids[data["product_id"]] = float(data["best_bid"])
            elif data.get("arg", {}).get("channel") == "tickers" and "data" in data:
                bids[data["arg"]["instId"]] = float(data["data"][-1]["bidPx"])
            elif data.get("feed") == "ticker_lite" and "bid" in data:
                bids[data["product_id"]] = float(data["bid"])
    return bids


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.exchange)
async def test_ccxt_sees_exactly_the_recorded_trades(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    path = capture_path(case.capture)
    async with replay_venue(path, speed=MAX_SPEED, quiet_s=0.5, shift_to_now=True) as venue:
        exchange = unmodified_ccxt(case.exchange, venue.url_map)
        await exchange.load_markets()
        symbols = list(venue.symbols)
        assert set(symbols) <= set(exchange.markets)
        async with watching(exchange) as keep:
            for symbol in symbols:
                keep(partial(exchange.watch_trades, symbol), f"trades {symbol}")
                keep(partial(exchange.watch_order_book, symbol), f"book {symbol}")
                keep(partial(getattr(exchange, case.ticks_method), [symbol]), f"ticks {symbol}")
            await until(lambda: venue.source.finished, "the end of the replay")
            await venue.stop()
            expected = recorded_trades(path)
            await until(lambda: len(received_trades(exchange)) >= len(expected), "the last trades")
            assert received_trades(exchange) == {key: as_numbers(value) for key, value in expected.items()}
            assert received_bids(exchange) == last_recorded_bids(path)
            await until(lambda: any(book["bids"] for book in exchange.orderbooks.values()), "a book")
        adaptations = venue.source.adaptations()
        with capsys.disabled():
            print(f"\n{case.exchange}: adapted {json.dumps(adaptations[:3])} … {len(adaptations)} in all")


def received_trades(exchange: Any) -> dict[tuple[str, str], tuple[float, float]]:
    return {
        (exchange.market(trade["symbol"])["id"], trade["id"]): (trade["price"], trade["amount"])
        for trades in exchange.trades.values()
        for trade in trades
    }


def received_bids(exchange: Any) -> dict[str, float]:
    ticks = exchange.bidsasks or exchange.tickers
    return {exchange.market(symbol)["id"]: tick["bid"] for symbol, tick in ticks.items()}


def as_numbers(texts: tuple[str, str]) -> tuple[float, float]:
    return float(texts[0]), float(texts[1])


class Raw:
    """A plain websocket client of a replay: it subscribes and keeps what comes."""

    def __init__(self, session: aiohttp.ClientSession, venue: ReplayVenue, host: str) -> None:
        self._session, self._url = session, venue.url_map[host]
        self.frames: list[dict[str, Any]] = []
        self.task: asyncio.Task[None] | None = None

    async def open(self, path: str, *requests: dict[str, Any]) -> None:
        socket = await self._session.ws_connect(self._url + path, max_msg_size=0)
        for request in requests:
            await socket.send_json(request)
        self.task = asyncio.create_task(self._read(socket), name="raw-client")

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            self.frames.append(json.loads(message.data, parse_float=str))

    def of(self, kind: str, value: str) -> list[dict[str, Any]]:
        return [frame for frame in self.frames if frame.get(kind) == value]


@asynccontextmanager
async def raw_client(capture: str, host: str, **options: Any) -> AsyncIterator[tuple[ReplayVenue, Raw]]:
    path = capture_path(capture)
    async with replay_venue(path, **options) as venue, aiohttp.ClientSession() as session:
        yield venue, Raw(session, venue, host)


COINBASE_WS = "wss://ws-feed.exchange.coinbase.com"
USDM_WS = "wss://fstream.binance.com"


def coinbase(channel: str, *products: str) -> dict[str, Any]:
    return {"type": "subscribe", "product_ids": products, "channels": [channel]}


async def test_times_are_shifted_by_one_constant_and_nothing_else_changes() -> None:
    streams = "sushiusdt@aggTrade/ctkusdt@aggTrade/akrousdt@aggTrade/keepusdt@aggTrade"
    options: dict[str, Any] = {"speed": MAX_SPEED, "quiet_s": 0.1}
    for shift in (True, False):
        async with raw_client("binance-usdm-2021-07", USDM_WS, shift_to_now=shift, **options) as (_, client):
            await client.open(f"/stream?streams={streams}")
            await until(lambda: len(client.frames) == 91, "the recorded trades")
            moved = {frame["data"]["a"]: frame["data"] for frame in client.frames}
        recorded = recorded_aggregates(capture_path("binance-usdm-2021-07"))
        deltas = {moved[number]["T"] - recorded[number]["T"] for number in recorded}
        assert len(deltas) == 1
        delta = deltas.pop()
        assert (delta == 0) is not shift
        for number, frame in recorded.items():
            assert moved[number] == frame | {"T": frame["T"] + delta, "E": frame["E"] + delta}
        assert not shift or 0 < time.time() - max(frame["T"] for frame in moved.values()) / 1000 < 30


def recorded_aggregates(path: Path) -> dict[int, dict[str, Any]]:
    found = {}
    with gzip.open(path, "rt") as lines:
        for row in map(json.loads, lines):
            data = json.loads(row["data"]) if row["kind"] == "recv" else {}
            if data.get("stream", "").endswith("@aggTrade"):
                found[data["data"]["a"]] = data["data"]
    return found


async def test_only_what_is_subscribed_is_sent() -> None:
    options: dict[str, Any] = {"speed": MAX_SPEED, "quiet_s": 0.1}
    async with raw_client("coinbase-exchange-2021-04", COINBASE_WS, **options) as (venue, client):
        await client.open("", coinbase("matches", "SKL-USD"))
        await until(lambda: venue.source.finished, "the end")
        await venue.stop()
        await until(lambda: len(client.frames) > 1, "frames")
        assert {frame["type"] for frame in client.frames} <= {"subscriptions", "match", "last_match"}
        assert {frame.get("product_id", "SKL-USD") for frame in client.frames} == {"SKL-USD"}
        assert venue.ledger.sent["trades"] == len(client.frames) - 1
        assert venue.ledger.withheld_trades > 0


async def test_a_client_that_comes_back_gets_what_comes_next_and_a_book_to_put_it_on() -> None:
    async with raw_client("coinbase-exchange-2021-04", COINBASE_WS, speed=10, quiet_s=0.1) as (venue, client):
        await client.open("", coinbase("level2", "SKL-USD"))
        await until(lambda: len(client.of("type", "l2update")) > 100, "updates")
        await venue.apply(Fault("drop"))
        assert client.task is not None
        await asyncio.wait_for(client.task, 60)
        before, client.frames = client.frames, []
        await client.open("", coinbase("level2", "SKL-USD"))
        await until(lambda: len(client.of("type", "l2update")) > 100, "updates again")
        assert [frame["type"] for frame in client.frames[:3]] == ["subscriptions", "snapshot", "l2update"]
        assert client.frames[2]["time"] >= before[-1]["time"]
        book = {level[0]: level[1] for frame in before if frame["type"] == "snapshot" for level in frame["bids"]}
        for frame in before:
            book |= {price: size for side, price, size in frame.get("changes", ()) if side == "buy"}
        rebuilt = {level[0]: level[1] for level in client.frames[1]["bids"]}
        common = [price for price in rebuilt if book.get(price) == rebuilt[price]]
        assert len(common) > 0.8 * len(rebuilt)  # the book moved on while nobody listened
        assert any(note["kind"] == "snapshot" for note in venue.source.adaptations())


async def test_a_binance_snapshot_taken_late_fits_the_diffs_that_follow() -> None:
    async with raw_client("binance-usdm-2021-07", USDM_WS, speed=10, quiet_s=0.1) as (venue, client):
        await client.open("/stream?streams=sushiusdt@depth@100ms")
        await until(lambda: len(client.frames) > 120, "diffs")
        url = venue.url_map["https://fapi.binance.com"] + "/fapi/v1/depth?symbol=SUSHIUSDT&limit=1000"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            snapshot = await answer.json()
        await until(lambda: len(client.frames) > 180, "diffs after it")
        last = snapshot["lastUpdateId"]
        diffs = [frame["data"] for frame in client.frames if frame["data"]["u"] > last]
        assert diffs[0]["pu"] <= last <= diffs[0]["u"]
        assert any("cursor" in note["sent"] for note in venue.source.adaptations())
        book = {price: float(size) for price, size in snapshot["bids"]}
        for diff in (frame["data"] for frame in client.frames if frame["data"]["u"] <= last):
            for price, size in diff["b"]:  # what was sent before is in it
                assert float(size) == 0 or price in book or overwritten(client.frames, price, diff["u"], last)


def overwritten(frames: list[dict[str, Any]], price: str, after: int, last: int) -> bool:
    """Whether a later diff, up to the snapshot, changed this level again."""
    diffs = (frame["data"] for frame in frames if after < frame["data"]["u"] <= last)
    return any(price == level[0] for diff in diffs for level in diff["b"])


async def test_the_recorded_pace_is_kept_and_a_stop_holds_it() -> None:
    async with raw_client("coinbase-exchange-2021-04", COINBASE_WS, speed=20, quiet_s=0.1) as (venue, client):
        started = time.monotonic()
        await client.open("", coinbase("level2", "SKL-USD", "YFI-BTC", "NMR-EUR"))
        await until(lambda: venue.source.describe()["cursor"] != 0, "the start")
        await asyncio.sleep(0.5)
        assert await venue.stop()
        held = venue.source.describe()["cursor"]
        await asyncio.sleep(0.5)
        assert venue.source.describe()["cursor"] == held
        venue.source.switch.start()
        await until(lambda: venue.source.finished, "the end")
        took_s = time.monotonic() - started  # 31 s at 20 times, and half a second held
        assert took_s > 2
        assert within(took_s, 3.5)


async def test_replayed_trades_can_be_duplicated_withheld_and_hurried() -> None:
    async with raw_client("coinbase-exchange-2021-04", COINBASE_WS, speed=1, quiet_s=0.1) as (venue, client):
        await client.open("", coinbase("matches", *(market for market in venue.symbols.values())))
        await until(lambda: venue.source.describe()["cursor"] != 0, "the start")
        assert (await venue.apply(Fault("burst", n=40)))["touched"] == 40
        await until(lambda: len(client.of("type", "match")) >= 30, "the burst")
        await venue.apply(Fault("id_jump", n=5))
        await venue.apply(Fault("burst", n=15))
        assert venue.ledger.withheld_trades == 5
        assert (await venue.apply(Fault("duplicate", n=3)))["touched"] == 3
        assert venue.ledger.sent["trades"] >= venue.ledger.distinct_trades + 3


async def test_the_process_replays() -> None:
    path = capture_path("okx-v5-2022-05")
    command = [sys.executable, "-m", "ingestd.lab.sim", "replay", str(path), "--speed", "max", "--hold"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    ready = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    assert sorted(ready["symbols"]) == ["BTC/USD:BTC-220527", "BTC/USDT", "UNI/USD:UNI"]
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(ready["url_map"]["wss://ws.okx.com:8443"] + "/ws/v5/public") as socket:
            await socket.send_json({"op": "subscribe", "args": [{"channel": "trades", "instId": "BTC-USDT"}]})
            assert json.loads((await socket.receive(5)).data)["event"] == "subscribe"
            async with session.post(ready["control"] + "/_sim/start") as answer:
                assert answer.status == 200
            assert json.loads((await socket.receive(5)).data)["arg"]["channel"] == "trades"
        async with session.get(ready["control"] + "/_sim/adaptations") as answer:
            assert await answer.json() == []
    process.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), 60) == 0


async def test_a_file_that_is_no_capture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.ndjson"
    path.write_text('{"ts": 1, "conn": "a", "kind": "recv", "url": "wss://example.com", "data": "{}"}\n')
    with pytest.raises(CaptureError, match="no URL of a venue"):
        replay_venue(path)
