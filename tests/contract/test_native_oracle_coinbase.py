"""Coinbase, both of its venues: on every frame the native decoder says what ccxt's feed says."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from ingestd.feeds.ccxt.channels import method_for
from ingestd.feeds.ccxt.tap import features
from ingestd.lab.sim.venue_frames import VENUES, numbered
from ingestd.records import Tick, Trade
from ingestd.venues.coinbase import CoinbaseAdvanced
from ingestd.venues.coinbase_exchange import CoinbaseExchange
from ingestd.venues.messages import BookChange
from ingestd.venues.venue import Venue
from tests.support.captures import capture_bodies, capture_lines, recorded_markets, shared
from tests.support.oracle import START, Compared, Frame, compare, numbered_frames
from tests.support.venue_frames import TICKS
from tests.unit.feeds.doubles import Wire

ADVANCED, EXCHANGE = "wss://advanced-trade-ws.coinbase.com", "wss://ws-feed.exchange.coinbase.com"
NAMES = {"BTC/USD": "BTC-USD", "ETH/USD": "ETH-USD", "ETH/BTC": "ETH-BTC", "SOL/USD": "SOL-USD"}
FOLLOWED = ["BTC/USD", "ETH/USD", "ETH/BTC"]
VENUE_OF: dict[str, tuple[Venue, str]] = {
    "coinbase": (CoinbaseAdvanced({}), ADVANCED),
    "coinbaseexchange": (CoinbaseExchange({}), EXCHANGE),
}


async def compared(exchange: str, frames: list[str]) -> Compared:
    venue, url = VENUE_OF[exchange]
    wire = Wire(exchange, NAMES, url)
    markets = dict(wire.exchange.markets)
    await wire.close()
    return await compare(
        exchange, markets, numbered_frames(url, frames), venue.decoder, followed=FOLLOWED, book_rule=venue.book_rule
    )


async def test_every_recorded_frame_of_coinbase_exchange() -> None:
    lines = capture_lines("coinbase-exchange-2021-04")
    frames = [Frame(line["url"], int(line["ts"] * 1e6), line["data"]) for line in lines if line["kind"] == "recv"]
    markets = await recorded_markets("coinbaseexchange", capture_bodies(lines))
    venue = CoinbaseExchange({})

    outcome = await compare(
        "coinbaseexchange",
        markets,
        frames,
        venue.decoder,
        book_rule=venue.book_rule,
        levels=400,
    )

    types = [json.loads(frame.data)["type"] for frame in frames]
    assert outcome.records == {
        "trades": types.count("match") + types.count("last_match"),
        "ticks": types.count("ticker"),
        "order_book": types.count("l2update") + types.count("snapshot"),
    }
    assert len(outcome.books) == types.count("snapshot")
    assert {(notice.kind, notice.text) for notice in outcome.notices} == {
        ("subscribed", "level2"),
        ("subscribed", "ticker"),
        ("subscribed", "matches"),
    }
    assert outcome.refused == []


def test_the_recorded_book_changes_have_their_microseconds() -> None:
    frames = [line["data"] for line in capture_lines("coinbase-exchange-2021-04") if line["kind"] == "recv"]
    changes = [json.loads(frame) for frame in frames if '"l2update"' in frame]
    decode = CoinbaseExchange({}).decoder({change["product_id"]: "X/Y" for change in changes}, START)

    decoded = [decode(json.dumps(change).encode(), START)[0] for change in changes]

    fractions = [int(change["time"][20:-1].ljust(6, "0")) for change in changes]
    assert [change.time % 1_000_000 for change in decoded if isinstance(change, BookChange)] == fractions
    assert any(fraction % 1000 for fraction in fractions)


async def test_every_documented_message_of_coinbase_advanced() -> None:
    frames = {path.stem: path.read_text() for path in sorted((shared("messages") / "coinbase").glob("ws_*.json"))}

    outcome = await compared("coinbase", list(frames.values()))

    assert outcome.records == {"trades": 2, "ticks": 1, "order_book": 2}
    assert outcome.numbers == [json.loads(frame)["sequence_num"] for frame in frames.values()]
    kinds = [(notice.kind, notice.market_id) for notice in outcome.notices]
    subscribed = [("subscribed", product) for product in ("BTC-USD", "BTC-USD", "ETH-USD")]
    assert kinds == [("heartbeat", None), *subscribed]
    assert outcome.refused == []


@pytest.mark.parametrize("exchange", VENUE_OF)
async def test_a_burst(exchange: str) -> None:
    (venue,) = (venue for venue in VENUES if venue.exchange == exchange)

    outcome = await compared(exchange, [*numbered(venue.trade, 300), *numbered(TICKS[venue.exchange], 300)])

    assert outcome.records == {"trades": 300, "ticks": 300}


class Numbers:
    """Random texts of numbers and times, from a seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._trade_id = 10**6

    def price(self) -> str:
        return f"{self.random.randint(9_980, 10_020) / 10:.{self.random.choice([1, 2, 8])}f}"

    def size(self, *, zero: bool = False) -> str:
        sizes = ["0.10", "1", "1.500", "0.00000001", "25000", "3.0000000"]
        return self.random.choice(["0", "0.00000000", *sizes] if zero else sizes)

    def best(self) -> dict[str, str]:
        """Of one side of a ticker; sides without orders are left out, empty or zero."""
        price = self.random.choice([self.price()] * 6 + ["", "0", "0.00"])
        return {"price": price, "size": self.random.choice([self.size(), "", "0"])}

    def trade_id(self) -> int:
        self._trade_id += self.random.choice([1, 1, 1, 4])
        return self._trade_id

    def time(self) -> str:
        digits = self.random.choice([0, 1, 3, 6, 6, 6, 9])
        fraction = f".{self.random.randint(0, 10**digits - 1):0{digits}d}" if digits else ""
        return f"2026-{self.random.randint(1, 12):02d}-28T{self.random.randint(0, 23):02d}:59:30{fraction}Z"

    def market(self) -> str:
        return self.random.choice([*NAMES.values(), "NO-SUCH"])

    def sample(self, *choices: Any) -> Any:
        return self.random.choice(choices)


class ExchangeFrames(Numbers):
    """Coinbase Exchange."""

    def frames(self, count: int) -> Iterator[str]:
        kinds = [
            self._match,
            self._match,
            self._ticker,
            self._ticker,
            self._update,
            self._update,
            self._update,
            self._other,
        ]
        for market in NAMES.values():
            yield json.dumps(self._snapshot(market))
        for _ in range(count):
            yield json.dumps(self.random.choice(kinds)(self.sample(*NAMES.values())))

    def _match(self, market: str) -> Any:
        ids = {"maker_order_id": "0f358725-2134-435e-be11-753912a326e0", "taker_order_id": "252b7002-87a3-425c"}
        row = {"type": self.sample("match", "match", "last_match"), "trade_id": self.trade_id(), **ids}
        row |= {"side": self.sample("buy", "sell"), "size": self.size(), "price": self.price(), "product_id": market}
        return {**row, "sequence": 7, "time": self.time()}

    def _ticker(self, market: str) -> Any:
        row = {"type": "ticker", "sequence": 3, "product_id": market, "price": self.price(), "time": self.time()}
        for side in ("bid", "ask"):
            best = self.best()
            row |= {f"best_{side}": best["price"], f"best_{side}_size": best["size"]}
        for name in self.sample([], [], ["best_bid_size", "best_ask_size"], ["best_bid", "best_ask"], ["time"]):
            del row[name]
        return row

    def _snapshot(self, market: str) -> Any:
        sides = {side: [[self.price(), self.size()] for _ in range(30)] for side in ("bids", "asks")}
        distinct = {
            side: list({float(price): [price, size] for price, size in rows}.values()) for side, rows in sides.items()
        }
        return {"type": "snapshot", "product_id": market, **distinct, **self.sample({}, {"time": self.time()})}

    def _update(self, market: str) -> Any:
        changes = [
            [self.sample("buy", "sell"), self.price(), self.size(zero=True)] for _ in range(self.sample(1, 1, 2, 9))
        ]
        return {"type": "l2update", "product_id": market, "changes": changes, "time": self.time()}

    def _other(self, market: str) -> Any:
        return self.sample(
            self._snapshot(market),
            {"type": "heartbeat", "sequence": 90, "last_trade_id": 20, "product_id": market, "time": self.time()},
            {"type": "subscriptions", "channels": [{"name": "ticker", "product_ids": [market]}, {"name": "status"}]},
            {"type": "auction", "product_id": market},
        )


class AdvancedFrames(Numbers):
    """Coinbase Advanced Trade."""

    def frames(self, count: int) -> Iterator[str]:
        kinds = [self._trades, self._trades, self._tickers, self._books, self._books, self._books, self._other]
        yield from (
            json.dumps(self._frame("l2_data", [self._book(market, "snapshot", 30)])) for market in NAMES.values()
        )
        for _ in range(count):
            yield json.dumps(self.random.choice(kinds)())

    def _frame(self, channel: str, events: list[Any]) -> Any:
        number = self.random.randint(0, 10**9)
        return {"channel": channel, "timestamp": self.time(), "sequence_num": number, "events": events}

    def _trades(self) -> Any:
        def trade() -> Any:
            row = {"trade_id": str(self.trade_id()), "product_id": self.market(), "price": self.price()}
            side = self.sample("BUY", "SELL", "BUY", "SELL", "UNKNOWN_ORDER_SIDE")
            return {**row, "size": self.size(), "side": side, "time": self.time()}

        events = [
            {"type": "update", "trades": [trade() for _ in range(self.sample(1, 1, 4))]}
            for _ in range(self.sample(1, 2))
        ]
        return self._frame("market_trades", events)

    def _tickers(self) -> Any:
        def ticker() -> Any:
            bid, ask = self.best(), self.best()
            row = {"type": "ticker", "product_id": self.sample(self.market(), self.market(), ""), "price": self.price()}
            row |= {"best_bid": bid["price"], "best_bid_quantity": bid["size"]}
            return {**row, **self.sample({}, {"best_ask": ask["price"], "best_ask_quantity": ask["size"]})}

        return self._frame("ticker", [{"type": "update", "tickers": [ticker() for _ in range(self.sample(1, 1, 3))]}])

    def _book(self, market: str, kind: str, levels: int) -> Any:
        updates = [
            {
                "side": self.sample("bid", "offer"),
                "event_time": "1970-01-01T00:00:00Z",
                "price_level": self.price(),
                "new_quantity": self.size(zero=kind == "update"),
            }
            for _ in range(levels)
        ]
        return {"type": kind, "product_id": market, "updates": updates}

    def _books(self) -> Any:
        kind, levels = self.sample(("update", 1), ("update", 3), ("update", 9), ("snapshot", 20))
        return self._frame("l2_data", [self._book(self.sample(*NAMES.values()), kind, levels)])

    def _other(self) -> Any:
        return self.sample(
            self._frame("heartbeats", [{"current_time": "2026-01-01 00:00:00 +0000 UTC", "heartbeat_counter": 7}]),
            self._frame("subscriptions", [{"subscriptions": {"level2": ["BTC-USD"]}}]),
            self._frame("candles", [{"type": "update", "candles": []}]),
        )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("exchange", VENUE_OF)
async def test_generated_frames(exchange: str, seed: int) -> None:
    generator = AdvancedFrames(seed) if exchange == "coinbase" else ExchangeFrames(seed)

    outcome = await compared(exchange, list(generator.frames(1_000)))

    assert min(outcome.records[channel] for channel in ("trades", "ticks", "order_book")) > 50
    assert len({notice.kind for notice in outcome.notices}) == 2
    assert outcome.refused == []


async def test_the_side_of_a_trade_is_the_takers_by_both_feeds_of_both_venues() -> None:
    """The venue's documents say that theirs is the maker's, with and without order ids."""
    for exchange, (venue, url) in VENUE_OF.items():
        (recorded,) = (frames for frames in VENUES if frames.exchange == exchange)
        first = recorded.trade.replace("{n}", "7")
        frames = [first, first.replace('"maker_order_id"', '"a"').replace('"taker_order_id"', '"b"')]
        makers = json.loads(first).get("side") or json.loads(first)["events"][0]["trades"][0]["side"]
        wire = Wire(exchange, {"BTC/USD": "BTC-USD"}, url)

        wire.frames(*frames)
        theirs = [trade.side for trade in wire.intake.of(Trade)]
        decode = venue.decoder({"BTC-USD": "BTC/USD"}, START)
        ours = [message.side for frame in frames for message in decode(frame.encode(), START) if type(message) is Trade]
        await wire.close()

        takers = {"buy": "sell", "sell": "buy"}[makers.lower()]
        assert theirs == ours == [takers, takers]


async def test_ticker_batch_of_coinbase_advanced_has_no_best_prices() -> None:
    """The venue leaves them out of `ticker_batch`, as its description shows: each is asked for alone, as `ticker`."""
    method = method_for("ticks", "coinbase", features("coinbase"))
    assert method is not None
    assert method.name == "watch_ticker"
    ticker = {"type": "ticker", "product_id": "BTC-USD", "price": "68900.50", "volume_24_h": "1", "low_24_h": "1"}
    frame = {"channel": "ticker_batch", "timestamp": "2026-04-07T14:30:03.000000Z", "sequence_num": 4}
    wire = Wire("coinbase", {"BTC/USD": "BTC-USD"}, ADVANCED)
    wire.reader.ticks_from_tickers = True

    wire.frames(json.dumps({**frame, "events": [{"type": "snapshot", "tickers": [ticker]}]}))

    assert wire.ledger.counts.malformed_frames == 0
    assert wire.intake.of(Tick) == []
    await wire.close()
