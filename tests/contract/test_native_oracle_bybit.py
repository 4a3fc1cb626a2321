"""Bybit: on every frame the native decoder says what ccxt's feed says.

But for two things that ccxt does not do: it numbers no book, and it keeps both depths of a market in one book, so best
prices and books are compared apart (ccxt has one book for both, `test_the_best_price_does_not_replace_the_book`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ingestd.lab.sim.venue_frames import VENUES, numbered
from ingestd.records import BookSnapshot, Channel, Tick
from ingestd.venues.bybit import Bybit
from ingestd.venues.venue import Venue
from tests.support.captures import shared
from tests.support.oracle import Compared, compare, numbered_frames
from tests.support.venue_frames import TICKS
from tests.unit.feeds.doubles import Wire

ADDRESS = "wss://stream.bybit.com/v5/public/"
KINDS = {
    "spot": {"BTC/USDT": "BTCUSDT", "ETH/USDT": "ETHUSDT"},
    "linear": {"BTC/USDT:USDT": "BTCUSDT", "ETH/USDT:USDT": "ETHUSDT"},
    "inverse": {"BTC/USD:BTC": "BTCUSD", "ETH/USD:ETH": "ETHUSD"},
}


async def markets() -> dict[str, Any]:
    names = {symbol: market_id for kind in KINDS.values() for symbol, market_id in kind.items()}
    wire = Wire("bybit", names, ADDRESS + "spot")
    found = dict(wire.exchange.markets)
    await wire.close()
    return found


async def compared(kind: str, frames: list[str], channels: Sequence[Channel]) -> Compared:
    """ccxt knows the markets of every kind; those of this one are followed."""
    venue: Venue = Bybit({})
    found = await markets()
    urls = {venue.address(found[symbol], channel) for symbol in KINDS[kind] for channel in venue.channels}
    assert urls == {ADDRESS + kind}
    return await compare(
        "bybit",
        found,
        numbered_frames(urls.pop(), frames),
        venue.decoder,
        followed=KINDS[kind],
        book_rule=venue.book_rule,
        channels=channels,
    )


async def test_every_documented_message() -> None:
    """The recorded messages are a test's own: they name topics as no version of the venue's does."""
    names = {"trade.linear.BTCUSDT": "publicTrade.BTCUSDT", "orderbook.1.": "orderbook.50."}
    frames = [path.read_text() for path in sorted((shared("messages") / "bybit").glob("ws_*.json"))]
    for wrong, right in names.items():
        frames = [frame.replace(wrong, right) for frame in frames]
    frames.sort(key=lambda frame: '"delta"' in frame)

    outcome = await compared("linear", frames, ("trades", "order_book"))

    assert outcome.records == {"trades": 1, "order_book": 2}
    assert [(notice.kind, notice.market_id) for notice in outcome.notices] == [("subscribed", None), ("refused", None)]
    assert outcome.refused == []


async def test_a_burst() -> None:
    (venue,) = (venue for venue in VENUES if venue.exchange == "bybit")

    outcome = await compared(
        "linear", [*numbered(venue.trade, 300), *numbered(TICKS[venue.exchange], 300)], ("trades", "ticks")
    )

    assert outcome.records == {"trades": 300, "ticks": 300}


class Generator:
    """Frames of the documented forms with random content, from a seed."""

    def __init__(self, kind: str, seed: int) -> None:
        self._random = random.Random(seed)
        self._kind = kind
        self._ids = list(KINDS[kind].values())
        self._number: dict[str, int] = {}
        self._best: dict[tuple[str, str], str] = {}
        self._trade = 2_290_000_000_068_683_805

    def frames(self, count: int, *kinds: str) -> Iterator[str]:
        makers = {"trades": self._trades, "best": self._best_price, "book": self._book}
        for _ in range(count):
            yield json.dumps(makers[self._random.choice(kinds)](self._random.choice(self._ids)))

    def _price(self) -> str:
        return f"{self._random.randint(9_980, 10_020) / 10:.2f}"

    def _amount(self) -> str:
        return self._random.choice(["0.10", "1", "1.500", "0.00000001", "25000"])

    def _time(self) -> int:
        return 1_790_000_000_000 + self._random.randint(0, 10**9)

    def _trades(self, market: str) -> Any:
        rows = []
        for _ in range(self._random.choice([1, 1, 2, 5])):
            self._trade += self._random.choice([1, 1, 3])
            name = str(self._trade) if self._kind == "spot" else f"20f43950-d8dd-5b31-9112-{self._trade:x}"
            row = {"T": self._time(), "s": market, "S": self._random.choice(["Buy", "Sell"]), "v": self._amount()}
            row |= {"p": self._price(), "i": name, "BT": False, "RPI": False, "seq": 1783284617}
            rows.append(row)
        return {"topic": f"publicTrade.{market}", "type": "snapshot", "ts": self._time(), "data": rows}

    def _best_price(self, market: str) -> Any:
        """Snapshots with a side that may be empty, deltas that take away the old best and bring the new one."""
        is_new = (market, "b") not in self._best or self._random.random() < 0.2
        data: dict[str, Any] = {"s": market, "u": 5, "seq": 7961638724}
        for side in ("b", "a"):
            held, changes = self._best.get((market, side), ""), self._random.random() < 0.7
            price, rows = self._price(), []
            if is_new or changes:
                if held and held != price and not is_new:
                    rows.append([held, self._random.choice(["0", "0.000"])])
                empty = self._random.random() < 0.1
                rows += [] if empty else [[price, self._amount()]]
                if empty and held == price and not is_new:
                    rows.append([held, "0"])
                self._best[market, side] = "" if empty else price
            self._random.shuffle(rows)
            data[side] = rows
        kind = "snapshot" if is_new else "delta"
        return {"topic": f"orderbook.1.{market}", "type": kind, "ts": self._time(), "data": data, "cts": 1}

    def _book(self, market: str) -> Any:
        number = self._number.get(market)
        is_new = number is None or self._random.random() < 0.05
        number = self._random.choice([1, 18521288]) if is_new or number is None else number + 1
        self._number[market] = number
        data: dict[str, Any] = {"s": market, "u": number, "seq": self._random.randint(1, 10**10)}
        for side in ("b", "a"):
            prices = {self._price() for _ in range(20 if is_new else 4)}
            data[side] = [[price, self._amount() if is_new or self._random.random() < 0.6 else "0"] for price in prices]
        kind = "snapshot" if is_new else "delta"
        return {"topic": f"orderbook.50.{market}", "type": kind, "ts": self._time(), "data": data, "cts": 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
async def test_generated_trades_and_best_prices(kind: str, seed: int) -> None:
    outcome = await compared(kind, list(Generator(kind, seed).frames(600, "trades", "best")), ("trades", "ticks"))

    assert min(outcome.records[channel] for channel in ("trades", "ticks")) > 100
    assert outcome.refused == []


@pytest.mark.parametrize("kind", KINDS)
async def test_generated_trades_and_books(kind: str) -> None:
    outcome = await compared(kind, list(Generator(kind, 7).frames(600, "trades", "book")), ("trades", "order_book"))

    assert min(outcome.records[channel] for channel in ("trades", "order_book")) > 100
    assert outcome.refused == []


async def test_the_best_price_does_not_replace_the_book() -> None:
    """ccxt's code has one book for both streams of a market: each best price would leave one level of it."""
    sides = '"b":[["10.1","1"]%s],"a":[["10.2","1"]],"u":5,"seq":7'
    frame = '{"topic":"orderbook.%d.BTCUSDT","type":"%s","ts":1790000000000,"data":{"s":"BTCUSDT",%s},"cts":1}'
    whole, change = frame % (50, "snapshot", sides % ',["10.0","2"]'), frame % (1, "delta", sides % "")
    best = frame % (1, "snapshot", sides % "")
    wire = Wire("bybit", {"BTC/USDT": "BTCUSDT"}, ADDRESS + "spot", order_book_interval_ms=0)
    decode = Bybit({}).decoder({"BTCUSDT": "BTC/USDT"}, 0)

    wire.frames(best, whole, change, best)
    ours = [message for text in (best, whole, change, best) for message in decode(text.encode(), 0)]

    assert [len(snapshot.bids) for snapshot in wire.intake.of(BookSnapshot)] == [2]
    assert [tick.bid_price for tick in wire.intake.of(Tick)] == ["10.1", "10.1", "10.1"]
    assert [message.bid_price for message in ours if isinstance(message, Tick)] == ["10.1", "10.1", "10.1"]
    await wire.close()
