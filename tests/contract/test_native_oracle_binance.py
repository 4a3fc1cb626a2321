"""Binance: on every frame the native decoder says what ccxt's feed says, of spot and of contracts."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ingestd.lab.sim.venue_frames import VENUES, numbered
from ingestd.venues.binance import Binance
from ingestd.venues.venue import Venue
from tests.support.captures import capture_bodies, capture_lines, recorded_markets, shared
from tests.support.oracle import Compared, Frame, compare, numbered_frames
from tests.support.venue_frames import TICKS
from tests.unit.feeds.doubles import Wire

SPOT_URL = "wss://stream.binance.com:9443/ws/0"
LINEAR_URL = "wss://fstream.binance.com/public/ws/0"
INVERSE_URL = "wss://dstream.binance.com/ws/0"
SPOT = {"BTC/USDT": "BTCUSDT", "BNB/USDT": "BNBUSDT"}
LINEAR = {"BTC/USDT:USDT": "BTCUSDT", "BNB/USDT:USDT": "BNBUSDT"}
INVERSE = {"BTC/USD:BTC": "BTCUSD_PERP"}
FIRST_NUMBER = 100
BEGINNING = {"bids": [["1.0", "5"]], "asks": [["9.0", "5"]], "nonce": FIRST_NUMBER}


async def compared(url: str, names: dict[str, str], frames: list[str], **changes: Any) -> Compared:
    wire = Wire("binance", names, url)
    markets = dict(wire.exchange.markets)
    await wire.close()
    venue: Venue = Binance("binance", {})
    return await compare(
        "binance", markets, numbered_frames(url, frames), venue.decoder, book_rule=venue.book_rule, **changes
    )


@pytest.mark.parametrize(
    ("exchange", "capture", "url", "kind"),
    [
        ("binance", "binance-spot-2021-10", SPOT_URL, "spot"),
        ("binanceusdm", "binance-usdm-2021-07", LINEAR_URL, "linear"),
    ],
)
async def test_every_recorded_frame(exchange: str, capture: str, url: str, kind: str) -> None:
    lines = capture_lines(capture)
    bodies = capture_bodies(lines)
    frames = [Frame(url, int(line["ts"] * 1e6), line["data"]) for line in lines if line["kind"] == "recv"]
    found = await recorded_markets(exchange, bodies, {"fetchMarkets": {"types": [kind]}})
    by_id = {market["id"]: symbol for symbol, market in found.items()}
    sent = [json.loads(frame.data)["data"] for frame in frames]
    books = {}
    for asked, body in bodies.items():
        if "/depth?" in asked:
            book = json.loads(body)
            (market_id,) = parse_qs(urlsplit(asked).query)["symbol"]
            books[by_id[market_id]] = {"bids": book["bids"], "asks": book["asks"], "nonce": book["lastUpdateId"]}
    followed = sorted({by_id[event["s"]] for event in sent if "s" in event})
    venue = Binance(exchange, {})

    outcome = await compare(
        exchange, found, frames, venue.decoder, followed=followed, books=books, book_rule=venue.book_rule
    )

    kinds = Counter(event.get("e", "bookTicker") for event in sent)
    held = {symbol: book["nonce"] for symbol, book in books.items()}
    changes = [event for event in sent if event.get("e") == "depthUpdate"]
    # A change that ends at the snapshot's number is taken for contracts, and not for spot.
    fresh = [event for event in changes if event["u"] + (kind == "linear") > held[by_id[event["s"]]]]
    assert outcome.records["trades"] == kinds["aggTrade"] > 0
    assert outcome.records["ticks"] == kinds["bookTicker"] > 0
    assert outcome.records["order_book"] == len(fresh) > 0
    assert outcome.refused == []


@pytest.mark.parametrize(("url", "names"), [(SPOT_URL, SPOT), (LINEAR_URL, LINEAR)], ids=["spot", "linear"])
async def test_every_documented_message(url: str, names: dict[str, str]) -> None:
    frames = [path.read_text() for path in sorted((shared("messages") / "binance").glob("*.json"))]

    outcome = await compared(url, names, frames, books={next(iter(names)): {**BEGINNING, "nonce": 156}})

    assert outcome.records["trades"] == 2
    assert outcome.records["ticks"] == 1
    assert outcome.refused == []


@pytest.mark.parametrize(
    ("exchange", "url", "names"), [("binance", SPOT_URL, SPOT), ("binanceusdm", LINEAR_URL, LINEAR)]
)
async def test_a_burst(exchange: str, url: str, names: dict[str, str]) -> None:
    (frames,) = (venue for venue in VENUES if venue.exchange == exchange)

    outcome = await compared(url, names, [*numbered(frames.trade, 300), *numbered(TICKS[frames.exchange], 300)])

    assert outcome.records == {"trades": 300, "ticks": 300}


class Generator:
    """Frames of the documented forms with random content, from a seed."""

    def __init__(self, seed: int, names: dict[str, str], *, contracts: bool) -> None:
        self._random = random.Random(seed)
        self._markets = list(names.values())
        self._contracts = contracts
        self._sequence = dict.fromkeys(self._markets, FIRST_NUMBER)
        self._number = 1_000_000

    def frames(self, count: int) -> Iterator[str]:
        kinds = [self._trade, self._aggregate, self._ticker, self._depth, self._depth]
        for _ in range(count):
            market = self._random.choice(self._markets)
            event = self._random.choice(kinds)(market)
            if self._random.random() < 0.3:
                event = {"stream": f"{market.lower()}@any", "data": event}
            yield json.dumps(event, separators=(",", ":"))

    def _price(self) -> str:
        return f"{self._random.randint(9_980, 10_020) / 10:.{self._random.choice([1, 1, 8])}f}"

    def _amount(self) -> str:
        return self._random.choice(["0.00000000", "0.10", "1", "1.500", "0.00000001", "25000"])

    def _time(self) -> int:
        return 1_790_000_000_000 + self._random.randint(0, 10**9)

    def _trade(self, market: str) -> dict[str, Any]:
        self._number += self._random.choice([1, 1, 3])
        trade = {"e": "trade", "E": self._time(), "s": market, "t": self._number, "p": self._price(), "q": "0.10"}
        rest: dict[str, Any] = {"T": self._time(), "m": self._random.random() < 0.5}
        extra: dict[str, Any] = {"X": "MARKET"} if self._contracts else {"b": 7, "a": 9, "M": True}
        return {**trade, **extra, **rest}

    def _aggregate(self, market: str) -> dict[str, Any]:
        self._number += 1
        trade = {"e": "aggTrade", "E": self._time(), "s": market, "a": self._number, "p": self._price(), "q": "1"}
        return {**trade, "f": 1, "l": 2, "T": self._time(), "m": self._random.random() < 0.5}

    def _ticker(self, market: str) -> dict[str, Any]:
        best: dict[str, Any] = {"u": self._number, "s": market}
        for price, size in (("b", "B"), ("a", "A")):
            best |= {price: self._random.choice([self._price(), "0.00000000"]), size: self._amount()}
        return {"e": "bookTicker", **best, "T": self._time(), "E": self._time()} if self._contracts else best

    def _depth(self, market: str) -> dict[str, Any]:
        before = self._sequence[market]
        jump = self._random.choice([0] * 150 + [-3] * 10 + [2])
        first = before + 1 + jump
        # On spot what reaches back is wholly old: see the test of what is not.
        last = first + self._random.randint(0, 9 if self._contracts or jump >= 0 else 1)
        if jump <= 0:
            self._sequence[market] = max(before, last)
        rows = [[[self._price(), self._amount()] for _ in range(self._random.randint(0, 4))] for _ in range(2)]
        event = {"e": "depthUpdate", "E": self._time(), "s": market, "U": first, "u": last, "b": rows[0], "a": rows[1]}
        return {**event, "T": self._time(), "pu": first - 1} if self._contracts else event


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("url", "names"),
    [(SPOT_URL, SPOT), (LINEAR_URL, LINEAR), (INVERSE_URL, INVERSE)],
    ids=["spot", "linear", "inverse"],
)
async def test_generated_frames(url: str, names: dict[str, str], seed: int) -> None:
    generator = Generator(seed, names, contracts=url != SPOT_URL)

    outcome = await compared(url, names, list(generator.frames(800)), books=dict.fromkeys(names, BEGINNING))

    assert outcome.records["trades"] > 100
    assert outcome.records["ticks"] > 50
    assert outcome.records["order_book"] > 10
    assert outcome.refused == []
