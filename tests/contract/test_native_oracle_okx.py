"""OKX: on every frame the native decoder says what ccxt's feed says, and its books have the venue's own checksums."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from ingestd.lab.sim.venue_frames import VENUES, numbered
from ingestd.records import BookSnapshot
from ingestd.venues.messages import BookChange
from ingestd.venues.okx import Okx
from ingestd.venues.venue import Venue
from tests.support.captures import capture_bodies, capture_lines, recorded_markets, shared
from tests.support.oracle import START, Compared, Frame, PlainBook, compare, numbered_frames
from tests.support.venue_frames import TICKS
from tests.unit.feeds.doubles import Wire

URL = "wss://ws.okx.com:443/ws/v5/public"
CAPTURE = "okx-v5-2022-05"
CHECKED_LEVELS = 25
NAMES = {"BTC/USDT": "BTC-USDT", "ETH/USDT": "ETH-USDT", "BTC/USDT:USDT": "BTC-USDT-SWAP", "BTC/USD": "BTC-USD"}


def subscribed(exchange: Any, client: Any) -> None:
    """ccxt takes a book only where it was asked for."""
    for symbol in exchange.markets:
        for channel in ("books", "books5"):
            client.subscriptions[f"{channel}:{symbol}"] = True


async def markets() -> dict[str, Any]:
    wire = Wire("okx", NAMES, URL)
    found = dict(wire.exchange.markets)
    await wire.close()
    return found


async def compared(frames: list[str], **changes: Any) -> Compared:
    venue: Venue = Okx({})
    return await compare(
        "okx",
        await markets(),
        numbered_frames(URL, frames),
        venue.decoder,
        prepare=subscribed,
        book_rule=venue.book_rule,
        **changes,
    )


def captured() -> tuple[dict[str, str], list[Frame]]:
    lines = capture_lines(CAPTURE)
    frames = [Frame(line["url"], int(line["ts"] * 1e6), line["data"]) for line in lines if line["kind"] == "recv"]
    return capture_bodies(lines), frames


async def test_every_recorded_frame() -> None:
    bodies, frames = captured()
    found = await recorded_markets("okx", bodies)
    by_id = {market["id"]: symbol for symbol, market in found.items()}
    followed = [by_id[name] for name in ("BTC-USD-220527", "UNI-USD-SWAP", "BTC-USDT")]
    venue = Okx({})

    outcome = await compare(
        "okx", found, frames, venue.decoder, followed=followed, prepare=subscribed, book_rule=venue.book_rule
    )

    sent = [json.loads(frame.data) for frame in frames]
    rows = {
        channel: sum(len(frame["data"]) for frame in sent if "data" in frame and frame["arg"]["channel"] == channel)
        for channel in ("trades", "tickers", "books")
    }
    assert outcome.records == {"trades": rows["trades"], "ticks": rows["tickers"], "order_book": rows["books"]}
    assert len(outcome.notices) == sum("event" in frame for frame in sent)
    assert outcome.refused == []
    assert outcome.books.keys() == set(followed)


async def test_a_market_that_is_not_followed_is_left_out() -> None:
    bodies, frames = captured()
    found = await recorded_markets("okx", bodies)

    outcome = await compare("okx", found, frames, Okx({}).decoder, followed=["BTC/USDT"], prepare=subscribed)

    assert outcome.records["trades"] == sum('"trades","instId":"BTC-USDT"},"data"' in frame.data for frame in frames)
    assert outcome.books.keys() == {"BTC/USDT"}


def test_the_recorded_books_have_the_venues_checksums() -> None:
    """In 2022 it still computed them: of the best 25 levels a side, bid and ask in turn."""
    frames = captured()[1]
    names = ("BTC-USD-220527", "UNI-USD-SWAP", "BTC-USDT")
    decode = Okx({}).decoder({name: name for name in names}, START)
    books: dict[str, PlainBook] = {}
    checked = 0

    for frame in frames:
        for change in decode(frame.data.encode(), frame.received_at):
            if isinstance(change, BookChange):
                if change.is_snapshot:
                    books[change.symbol] = PlainBook()
                books[change.symbol].apply(change)
                assert change.checksum == checksum(books[change.symbol].snapshot("okx", change.symbol, CHECKED_LEVELS))
                checked += 1

    assert checked == sum('"channel":"books"' in frame.data and '"data"' in frame.data for frame in frames)


def checksum(book: BookSnapshot | None) -> int:
    assert book is not None
    parts: list[str] = []
    for depth in range(CHECKED_LEVELS):
        for side in (book.bids, book.asks):
            parts += [":".join(level) for level in side[depth : depth + 1]]
    unsigned = zlib.crc32(":".join(parts).encode())
    return unsigned - 2**32 if unsigned >= 2**31 else unsigned


async def test_every_documented_message() -> None:
    frames = [path.read_text() for path in sorted((shared("messages") / "okx").glob("ws_*.json"))]

    outcome = await compared(frames)

    assert outcome.records == {"trades": 1, "ticks": 2, "order_book": 2, "funding": 1}
    assert outcome.refused == []


async def test_a_burst() -> None:
    (venue,) = (venue for venue in VENUES if venue.exchange == "okx")

    outcome = await compared([*numbered(venue.trade, 300), *numbered(TICKS[venue.exchange], 300)])

    assert outcome.records == {"trades": 300, "ticks": 300}


class Generator:
    """Frames of the documented forms with random content, from a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._sequence: dict[str, int] = {}
        self._trade = 0

    def frames(self, count: int) -> Iterator[str]:
        kinds = [self._trades, self._best, self._ticker, self._book, self._book, self._funding]
        for _ in range(count):
            yield json.dumps(self._random.choice(kinds)(self._random.choice(list(NAMES.values()))))

    def _price(self) -> str:
        return f"{self._random.randint(9_980, 10_020) / 10:.2f}"

    def _amount(self) -> str:
        return self._random.choice(["0", "0.10", "1", "1.500", "0.00000001", "25000"])

    def _time(self) -> str:
        return str(1_790_000_000_000 + self._random.randint(0, 10**9))

    def _rows(self, count: int) -> list[list[str]]:
        prices = {self._price() for _ in range(count)}
        return [[price, self._amount(), "0", "1"] for price in prices]

    def _trades(self, market: str) -> Any:
        rows = []
        for _ in range(self._random.choice([1, 1, 2, 5])):
            self._trade += self._random.choice([1, 1, 3])
            amount = self._random.choice(["0.10", "3", "0.00000001"])
            side = self._random.choice(["buy", "sell"])
            row = {"instId": market, "tradeId": str(self._trade), "px": self._price(), "sz": amount, "side": side}
            rows.append({**row, "ts": self._time(), "count": "2"})
        return {"arg": {"channel": self._random.choice(["trades", "trades-all"]), "instId": market}, "data": rows}

    def _best(self, market: str) -> Any:
        bids, asks = ([[self._price(), "1.10", "0", "3"]][: self._random.choice([0, 1, 1, 1])] for _ in range(2))
        row = {"bids": bids, "asks": asks, "ts": self._time(), "seqId": 7}
        return {"arg": {"channel": "bbo-tbt", "instId": market}, "data": [row]}

    def _ticker(self, market: str) -> Any:
        row = {"instType": "SPOT", "instId": market, "last": self._price(), "ts": self._time()}
        for side in ("bid", "ask"):
            row |= {
                f"{side}Px": self._random.choice([self._price(), ""]),
                f"{side}Sz": self._random.choice(["1.10", ""]),
            }
        return {"arg": {"channel": "tickers", "instId": market}, "data": [row]}

    def _book(self, market: str) -> Any:
        before = self._sequence.get(market)
        kind = self._random.choice(["follows"] * 12 + ["repeated", "reset", "lost", "snapshot"])
        if before is None or kind == "snapshot":
            action, previous, number, size = "snapshot", -1, self._random.randint(100, 10_000), 20
        else:
            action, previous, number, size = "update", before, before + self._random.randint(1, 9), 4
            if kind == "repeated":
                number, size = before, 0
            elif kind == "reset":
                number = self._random.randint(1, 50)
            elif kind == "lost":
                previous, number = before + 3, before + 5
        self._sequence[market] = number
        row = {"asks": self._rows(size), "bids": self._rows(size), "ts": self._time(), "checksum": 0}
        row |= {"prevSeqId": previous, "seqId": number}
        return {"arg": {"channel": "books", "instId": market}, "action": action, "data": [row]}

    def _funding(self, market: str) -> Any:
        due = 1_790_000_000_000
        following = due + self._random.choice([1, 2, 4, 8, 12, 16, 24]) * 3_600_000
        times = self._random.choice(
            [(str(due), str(following)), (str(due), ""), ("", ""), (str(due), str(following + 7))]
        )
        row = {"instId": market, "fundingRate": self._random.choice(["0.00010", "-0.000212", "0", ""])}
        row |= {"fundingTime": times[0], "nextFundingTime": times[1], "ts": self._time()}
        return {"arg": {"channel": "funding-rate", "instId": market}, "data": [row]}


@pytest.mark.parametrize("seed", range(6))
async def test_generated_frames(seed: int) -> None:
    outcome = await compared(list(Generator(seed).frames(600)))

    assert min(outcome.records[channel] for channel in ("trades", "ticks", "order_book", "funding")) > 50
    assert outcome.refused == []


async def test_books_of_five_levels() -> None:
    generator = random.Random(1)
    row = (
        '{"arg":{"channel":"books5","instId":"BTC-USDT"},"data":[{"asks":[["10.2","%d","0","1"]],"bids":[["10.1","%d",'
    )
    row += '"0","1"]],"instId":"BTC-USDT","ts":"1790000000000","seqId":%d}]}'
    frames = [row % (generator.randint(1, 9), generator.randint(1, 9), number) for number in range(20)]

    outcome = await compared(frames)

    assert outcome.records == {"order_book": 20}
