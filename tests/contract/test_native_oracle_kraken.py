"""Kraken, spot and futures: on every frame the native decoder says what ccxt's feed says.

But for what ccxt leaves unread: the numbers of Kraken Futures' books.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator

import pytest

from ingestd.lab.sim.venue_frames import VENUES, numbered
from ingestd.records import Tick, Trade
from ingestd.venues.kraken import Kraken
from ingestd.venues.kraken_futures import KrakenFutures
from ingestd.venues.messages import BookChange
from tests.support.captures import capture_bodies, capture_lines, recorded_markets, shared
from tests.support.oracle import START, Compared, Frame, PlainBook, compare, numbered_frames
from tests.support.venue_frames import TICKS
from tests.unit.feeds.doubles import Wire

SPOT, FUTURES = "wss://ws.kraken.com/v2", "wss://futures.kraken.com/ws/v1"
SPOT_NAMES = {"BTC/USD": "XXBTZUSD", "ETH/USD": "XETHZUSD", "DOGE/USD": "XDGUSD"}
FUTURES_NAMES = {"BTC/USD:BTC": "PI_XBTUSD", "BTC/USD:USD": "PF_XBTUSD", "ETH/USD:USD": "PF_ETHUSD"}
CAPTURE = "krakenfutures-2021-07"


async def compared_spot(frames: list[str]) -> Compared:
    wire = Wire("kraken", SPOT_NAMES, SPOT)
    markets = dict(wire.exchange.markets)
    await wire.close()
    venue = Kraken({})
    return await compare(
        "kraken",
        markets,
        numbered_frames(SPOT, frames),
        venue.decoder,
        symbols={venue.market_id(market): symbol for symbol, market in markets.items()},
        book_rule=venue.book_rule,
    )


async def compared_futures(frames: list[str]) -> Compared:
    wire = Wire("krakenfutures", FUTURES_NAMES, FUTURES)
    markets = dict(wire.exchange.markets)
    await wire.close()
    venue = KrakenFutures({})
    return await compare(
        "krakenfutures",
        markets,
        numbered_frames(FUTURES, frames),
        venue.decoder,
        book_rule=venue.book_rule,
    )


def captured() -> tuple[dict[str, str], list[Frame]]:
    lines = capture_lines(CAPTURE)
    frames = [Frame(line["url"], int(line["ts"] * 1e6), line["data"]) for line in lines if line["kind"] == "recv"]
    return capture_bodies(lines), frames


async def test_every_recorded_frame_of_kraken_futures() -> None:
    bodies, frames = captured()
    markets = await recorded_markets("krakenfutures", bodies)
    venue = KrakenFutures({})

    outcome = await compare(
        "krakenfutures",
        markets,
        frames,
        venue.decoder,
        followed=[symbol for symbol in markets if "/" in symbol],
        book_rule=venue.book_rule,
        levels=5_000,
    )

    sent = [json.loads(frame.data) for frame in frames]
    feeds = [frame.get("feed") for frame in sent if "event" not in frame]
    snapshots = [len(frame["trades"]) for frame in sent if frame.get("feed") == "trade_snapshot"]
    assert outcome.records == {
        "trades": feeds.count("trade") + sum(snapshots),
        "ticks": feeds.count("ticker_lite"),
        "order_book": feeds.count("book") + feeds.count("book_snapshot"),
    }
    assert [notice.kind for notice in outcome.notices] == ["subscribed"] * 30
    assert len(outcome.books) == feeds.count("book_snapshot")
    assert outcome.refused == []


def test_the_recorded_books_are_numbered_one_by_one() -> None:
    """So that our rule takes each change, and none of them twice or out of turn."""
    frames = captured()[1]
    sent = [json.loads(frame.data) for frame in frames]
    venue = KrakenFutures({})
    decode = venue.decoder({frame["product_id"]: frame["product_id"] for frame in sent if "product_id" in frame}, START)
    standing: dict[str, int | None] = {}
    taken = 0

    for frame in frames:
        for change in decode(frame.data.encode(), frame.received_at):
            if isinstance(change, BookChange):
                before = standing.get(change.symbol)
                assert change.is_snapshot or venue.book_rule.follows(change, before) is True
                assert before is None or venue.book_rule.follows(change, (before or 0) + 1) is None
                assert before is None or venue.book_rule.follows(change, (before or 0) - 1) is False
                standing[change.symbol] = change.last
                taken += 1

    assert taken == sum('"feed":"book' in frame.data and '"event"' not in frame.data for frame in frames)


async def test_every_documented_message_of_kraken() -> None:
    paths = sorted((shared("messages") / "kraken").glob("ws_*.json"))

    outcome = await compared_spot([path.read_text() for path in paths if "futures" not in path.name])

    assert outcome.records == {"trades": 2, "ticks": 1, "order_book": 2}
    assert [(notice.kind, notice.text, notice.market_id) for notice in outcome.notices] == [
        ("subscribed", "ticker", "BTC/USD")
    ]
    assert outcome.refused == []


async def test_every_documented_message_of_kraken_futures() -> None:
    """The recorded change is of long after the recorded snapshot: its book is not gone on with."""
    folder = shared("messages") / "kraken"
    names = ("trade", "trade_snapshot", "book_snapshot", "book_delta")
    frames = {name: (folder / f"ws_futures_{name}.json").read_text() for name in names}

    outcome = await compared_futures([frames["trade"], frames["trade_snapshot"], frames["book_snapshot"]])

    assert outcome.records == {"trades": 3, "order_book": 1}
    (change,) = KrakenFutures({}).decoder({"PI_XBTUSD": "X"}, START)(frames["book_delta"].encode(), START)
    assert isinstance(change, BookChange)
    assert (change.asks, change.last, change.time) == ((("34981", "0"),), 326094134, 1612269953629000)


@pytest.mark.parametrize("exchange", ["kraken", "krakenfutures"])
async def test_a_burst(exchange: str) -> None:
    (venue,) = (venue for venue in VENUES if venue.exchange == exchange)
    compared = compared_spot if exchange == "kraken" else compared_futures

    outcome = await compared([*numbered(venue.trade, 300), *numbered(TICKS[venue.exchange], 300)])

    assert outcome.records == {"trades": 300, "ticks": 300}


def digits(text: str) -> str:
    return text.replace(".", "").lstrip("0")


class SpotBook:
    """What the venue knows of one market: prices and amounts as texts, whole price steps as keys."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[str, dict[int, tuple[str, str]]] = {"bids": {}, "asks": {}}

    def best(self, side: str) -> list[tuple[str, str]]:
        steps = sorted(self.sides[side], reverse=side == "bids")[: self.depth]
        return [self.sides[side][step] for step in steps]

    def checksum(self) -> int:
        levels = [*self.best("asks")[:10], *self.best("bids")[:10]]
        return zlib.crc32("".join(digits(price) + digits(amount) for price, amount in levels).encode())


class SpotFrames:
    """Frames of the documented forms with random content, from a seed. Numbers are written, not dumped: as texts."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._trade = 10**6
        self._books = {symbol: SpotBook(10) for symbol in SPOT_NAMES}
        self._seconds = 0

    def frames(self, count: int) -> Iterator[str]:
        yield from map(self._snapshot, SPOT_NAMES)
        kinds = [self._trades, self._ticker, self._ticker, self._update, self._update, self._other]
        for _ in range(count):
            yield self._random.choice(kinds)(self._random.choice(list(SPOT_NAMES)))

    def _number(self, *, zero: bool = False) -> str:
        numbers = ["0.00027620", "2.5", "40.0", "7", "1e-7", "123456789.00000001"]
        return self._random.choice([*numbers, "0", "0.00000000"] if zero else numbers)

    def _price(self, step: int) -> str:
        return f"{step / 10:.{self._random.choice([1, 1, 2])}f}"

    def _time(self) -> str:
        self._seconds += 1
        return (
            f'"2026-10-06T{self._seconds // 3600:02d}:{self._seconds // 60 % 60:02d}:{self._seconds % 60:02d}.440295Z"'
        )

    def _trades(self, symbol: str) -> str:
        rows = []
        for _ in range(self._random.choice([1, 1, 2, 5])):
            self._trade += self._random.choice([1, 1, 3])
            side, price = self._random.choice(["buy", "sell"]), self._price(self._random.randint(1_000, 9_999))
            rows.append(
                f'{{"symbol":"{symbol}","side":"{side}","price":{price},"qty":{self._number()},"ord_type":"limit",'
                f'"trade_id":{self._trade},"timestamp":{self._time()}}}'
            )
        kind = self._random.choice(["update", "snapshot"])
        return f'{{"channel":"trade","type":"{kind}","data":[{",".join(rows)}]}}'

    def _ticker(self, symbol: str) -> str:
        fields = [f'"symbol":"{symbol}"', '"last":1.5']
        for side in ("bid", "ask"):
            price = self._random.choice(
                [self._price(self._random.randint(1_000, 9_999))] * 5 + ["0", "0.0", "null", ""]
            )
            fields += [f'"{side}":{price}'] if price else []
            fields += self._random.choice([[], [f'"{side}_qty":{self._number(zero=True)}']])
        fields += self._random.choice([[], [f'"timestamp":{self._time()}']])
        return f'{{"channel":"ticker","type":"update","data":[{{{",".join(fields)}}}]}}'

    def _levels(self, rows: list[tuple[str, str]]) -> str:
        return ",".join(f'{{"price":{price},"qty":{amount}}}' for price, amount in rows)

    def _amount(self) -> str:
        return self._random.choice(["0.00027620", "2.50000000", "40.00000000", "1098.39475580"])

    def _snapshot(self, symbol: str) -> str:
        book = self._books[symbol]
        for side, first in (("bids", 4_000), ("asks", 5_000)):
            steps = self._random.sample(range(first, first + 900), 20)
            book.sides[side] = {step: (f"{step / 10:.1f}", self._amount()) for step in steps}
        sides = f'"bids":[{self._levels(book.best("bids"))}],"asks":[{self._levels(book.best("asks"))}]'
        time = self._random.choice(["", f',"timestamp":{self._time()}'])
        row = f'{{"symbol":"{symbol}",{sides},"checksum":{book.checksum()}{time}}}'
        return f'{{"channel":"book","type":"snapshot","data":[{row}]}}'

    def _update(self, symbol: str) -> str:
        """Some levels change, appear or go; what comes into the depth by that is sent along, what leaves it is not."""
        book = self._books[symbol]
        sent: dict[str, list[tuple[str, str]]] = {}
        for side, first in (("bids", 4_000), ("asks", 5_000)):
            before = book.best(side)
            for _ in range(self._random.choice([0, 1, 1, 3])):
                step = self._random.choice([*book.sides[side], self._random.randint(first, first + 899)])
                if len(book.sides[side]) > 12 and self._random.random() < 0.4 and step in book.sides[side]:
                    del book.sides[side][step]
                else:
                    book.sides[side][step] = (f"{step / 10:.1f}", self._amount())
            left = {price for price, _ in book.sides[side].values()}
            gone = [(price, "0.00000000") for price, _ in before if price not in left]
            sent[side] = [*gone, *(level for level in book.best(side) if level not in before)]
        sides = ",".join(f'"{side}":[{self._levels(rows)}]' for side, rows in sent.items())
        row = f'{{"symbol":"{symbol}",{sides},"checksum":{book.checksum()},"timestamp":{self._time()}}}'
        return f'{{"channel":"book","type":"update","data":[{row}]}}'

    def _other(self, symbol: str) -> str:
        if self._random.random() < 0.2:
            return self._snapshot(symbol)
        return self._random.choice(
            [
                '{"channel":"heartbeat"}',
                '{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online"}]}',
                '{"method":"pong","req_id":7,"time_in":"2023-09-25T09:04:31.742599Z"}',
                '{"channel":"instrument","type":"update","data":{"assets":[],"pairs":[]}}',
            ]
        )


@pytest.mark.parametrize("seed", range(6))
async def test_generated_frames_of_kraken(seed: int) -> None:
    outcome = await compared_spot(list(SpotFrames(seed).frames(1_000)))

    assert min(outcome.records[channel] for channel in ("trades", "ticks", "order_book")) > 50
    assert {notice.kind for notice in outcome.notices} == {"heartbeat"}
    assert outcome.refused == []


@pytest.mark.parametrize("seed", range(3))
def test_the_books_checksum_is_of_the_texts_as_they_were_sent(seed: int) -> None:
    venue = Kraken({})
    decode = venue.decoder({symbol: symbol for symbol in SPOT_NAMES}, START)
    books: dict[str, PlainBook] = {}
    checked = 0

    for frame in SpotFrames(seed).frames(500):
        for change in decode(frame.encode(), START):
            if not isinstance(change, BookChange):
                continue
            if change.is_snapshot:
                books[change.symbol] = PlainBook()
            book = books[change.symbol]
            book.apply(change)
            book.forget_below(10)
            whole = book.snapshot("kraken", change.symbol, 10)
            assert whole is not None
            bids, asks = whole.bids, whole.asks
            assert venue.book_rule.agrees(change, lambda n, rows=bids: rows[:n], lambda n, rows=asks: rows[:n])  # type: ignore[misc]
            assert not venue.book_rule.agrees(change, lambda n, rows=bids: rows[1:n], lambda n, rows=asks: rows[:n])  # type: ignore[misc]
            checked += 1

    assert checked > 100


class FuturesFrames:
    """The same for Kraken Futures."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._sequence: dict[str, int] = {}
        self._time = 1_790_000_000_000

    def frames(self, count: int) -> Iterator[str]:
        products = list(FUTURES_NAMES.values())
        yield from map(self._snapshot, products)
        kinds = [
            self._trade,
            self._trade,
            self._trades,
            self._ticker,
            self._ticker,
            self._change,
            self._change,
            self._other,
        ]
        for _ in range(count):
            self._time += 7
            yield self._random.choice(kinds)(self._random.choice(products))

    def _number(self) -> str:
        return self._random.choice(["15000", "440.0", "0.00010", "1e-7", "34969.5", "7"])

    def _price(self) -> str:
        return self._random.choice(
            [str(self._random.randint(300, 330)), f"{self._random.randint(3000, 3300) / 10:.2f}"]
        )

    def _trade(self, product: str) -> str:
        uid = f"{self._random.getrandbits(128):032x}"
        kind, side = self._random.choice(["fill", "liquidation"]), self._random.choice(["buy", "sell"])
        return (
            f'{{"feed":"trade","product_id":"{product}","uid":"{uid}","side":"{side}","type":"{kind}","seq":653355,'
            f'"time":{self._time},"qty":{self._number()},"price":{self._price()}}}'
        )

    def _trades(self, product: str) -> str:
        rows = [self._trade(product) for _ in range(self._random.choice([0, 1, 4]))]
        return f'{{"feed":"trade_snapshot","product_id":"{product}","trades":[{",".join(rows)}]}}'

    def _ticker(self, product: str) -> str:
        fields = ['"feed":"ticker_lite"', f'"product_id":"{product}"', '"change":-1.5', '"pair":"XBT:USD"']
        for side in ("bid", "ask"):
            fields += self._random.choice([[f'"{side}":{self._price()}']] * 4 + [[f'"{side}":0.0'], []])
        return "{" + ",".join(fields) + "}"

    def _snapshot(self, product: str) -> str:
        number = self._sequence[product] = self._random.randint(10, 10**6)
        sides = {
            side: ",".join(f'{{"price":{first + step},"qty":{self._random.randint(1, 99)}.0}}' for step in range(15))
            for side, first in (("bids", 300), ("asks", 316))
        }
        return (
            f'{{"feed":"book_snapshot","product_id":"{product}","timestamp":{self._time},"seq":{number},"tickSize":null,'
            f'"bids":[{sides["bids"]}],"asks":[{sides["asks"]}]}}'
        )

    def _change(self, product: str) -> str:
        self._sequence[product] += 1
        side, amount = self._random.choice(["buy", "sell"]), self._random.choice(["0", "0.0", "5.0", "20598.10"])
        return (
            f'{{"feed":"book","product_id":"{product}","side":"{side}","seq":{self._sequence[product]},'
            f'"price":{self._price()},"qty":{amount},"timestamp":{self._time}}}'
        )

    def _other(self, product: str) -> str:
        if self._random.random() < 0.2:
            return self._snapshot(product)
        return self._random.choice(
            [
                '{"feed":"heartbeat","time":1534262350627}',
                '{"event":"info","version":1}',
                f'{{"event":"subscribed","feed":"book","product_ids":["{product}"]}}',
                '{"event":"pong"}',
            ]
        )


@pytest.mark.parametrize("seed", range(6))
async def test_generated_frames_of_kraken_futures(seed: int) -> None:
    outcome = await compared_futures(list(FuturesFrames(seed).frames(1_000)))

    assert min(outcome.records[channel] for channel in ("trades", "ticks", "order_book")) > 50
    assert {notice.kind for notice in outcome.notices} == {"heartbeat", "subscribed"}
    assert outcome.refused == []


async def test_the_times_of_krakens_tickers_and_snapshots_are_read_on_both_ways() -> None:
    said = "2023-10-06T17:35:55.440295Z"
    ticker = {"symbol": "BTC/USD", "bid": 1.5, "ask": 2.5, "timestamp": said}
    book = {"symbol": "BTC/USD", "bids": [{"price": 1.5, "qty": 1.5}], "asks": [], "timestamp": said}
    frames = [
        json.dumps({"channel": channel, "type": "snapshot", "data": [row]})
        for channel, row in (("ticker", ticker), ("book", book))
    ]
    wire = Wire("kraken", {"BTC/USD": "XXBTZUSD"}, SPOT, order_book_interval_ms=0)
    wire.reader.ticks_from_tickers = True

    wire.frames(*frames)
    decode = Kraken({}).decoder({"BTC/USD": "BTC/USD"}, START)
    ours = [
        message.time
        for frame in frames
        for message in decode(frame.encode(), START)
        if isinstance(message, Tick | BookChange)
    ]
    theirs = [record.time for record in wire.intake.records]
    await wire.close()

    assert theirs == ours == [1696613755440295] * 2


async def test_ccxt_says_all_trades_of_a_frame_are_the_first_ones_market() -> None:
    """If Kraken ever puts two markets into one message; ours reads each trade's."""
    rows = [
        {"symbol": symbol, "side": "buy", "price": 1.5, "qty": 2.5, "trade_id": 7, "timestamp": "2023-10-06T17:35:55Z"}
        for symbol in ("BTC/USD", "ETH/USD")
    ]
    frame = json.dumps({"channel": "trade", "type": "update", "data": rows})
    wire = Wire("kraken", SPOT_NAMES, SPOT)

    wire.frames(frame)
    theirs = [trade.symbol for trade in wire.intake.of(Trade)]
    ours = Kraken({}).decoder({symbol: symbol for symbol in SPOT_NAMES}, START)(frame.encode(), START)
    await wire.close()

    assert theirs == ["BTC/USD", "BTC/USD"]
    assert [trade.symbol for trade in ours if isinstance(trade, Trade)] == ["BTC/USD", "ETH/USD"]
