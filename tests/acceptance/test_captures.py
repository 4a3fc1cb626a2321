"""Recorded traffic of five venues through the whole daemon into a database, against an independent reading of it.

By our own decoders, and through ccxt.

The reading below uses the capture file and nothing of ingestd. What the replay adapts for today's exchange library
(stream names, missing REST answers; never a payload) is printed.
"""

from __future__ import annotations

import calendar
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from ingestd.config.models import RetentionConfig
from ingestd.lab.sim.replay import MAX_SPEED, replay_venue
from ingestd.storage.database import Database
from tests.support.daemon import Daemon, running, write_config
from tests.support.feeds import DECODERS
from tests.support.postgres import DatabaseForTest
from tests.support.time_limits import AT_LENGTH

pytestmark = pytest.mark.one_server

CAPTURES = Path(__file__).parents[2].parent / "shared" / "data" / "captures"

LEVELS = 10

Frame = dict[str, Any]
# (market, trade id, price, quantity, taker side, time in µs)
TradeRow = tuple[str, str, str, str, str, int]
# (market, bid, bid volume, ask, ask volume)
TickRow = tuple[str, str | None, str | None, str | None, str | None]


# (market, side or None to start the book anew, price, amount: 0 removes)
LevelChange = tuple[str, str | None, float, float]


@dataclass(frozen=True)
class Case:
    """How one venue writes trades and best prices."""

    capture: str
    trades: Callable[[Frame], Iterator[TradeRow]]
    ticks: Callable[[Frame], Iterator[TickRow]]
    levels: Callable[[Frame], Iterator[LevelChange]]
    credentials: str = ""  # ccxt wants a key for this venue's books; the replay does not look at it


def binance_trades(frame: Frame) -> Iterator[TradeRow]:
    data = frame.get("data", {})
    if data.get("e") == "aggTrade":
        yield data["s"], data["a"], data["p"], data["q"], "sell" if data["m"] else "buy", int(data["T"]) * 1000


def binance_ticks(frame: Frame) -> Iterator[TickRow]:
    if frame.get("stream", "").endswith("@bookTicker"):
        data = frame["data"]
        yield data["s"], data["b"], data["B"], data["a"], data["A"]


def coinbase_trades(frame: Frame) -> Iterator[TradeRow]:
    if frame.get("type") in ("match", "last_match"):
        # The venue names the maker's side; the taker is the other one.
        taker = "sell" if frame["side"] == "buy" else "buy"
        yield frame["product_id"], frame["trade_id"], frame["price"], frame["size"], taker, iso_us(frame["time"])


def coinbase_ticks(frame: Frame) -> Iterator[TickRow]:
    if frame.get("type") == "ticker":
        yield frame["product_id"], frame["best_bid"], None, frame["best_ask"], None


def okx_trades(frame: Frame) -> Iterator[TradeRow]:
    if frame.get("arg", {}).get("channel") == "trades":
        for item in frame.get("data", []):
            yield item["instId"], item["tradeId"], item["px"], item["sz"], item["side"], int(item["ts"]) * 1000


def okx_ticks(frame: Frame) -> Iterator[TickRow]:
    if frame.get("arg", {}).get("channel") == "tickers":
        for item in frame.get("data", []):
            yield item["instId"], item["bidPx"], item["bidSz"], item["askPx"], item["askSz"]


def kraken_trades(frame: Frame) -> Iterator[TradeRow]:
    if frame.get("feed") in ("trade", "trade_snapshot") and "event" not in frame:
        for item in frame.get("trades", [frame]):
            yield item["product_id"], item["uid"], item["price"], item["qty"], item["side"], int(item["time"]) * 1000


def kraken_ticks(frame: Frame) -> Iterator[TickRow]:
    if frame.get("feed") == "ticker_lite" and "bid" in frame:
        yield frame["product_id"], frame["bid"], None, frame["ask"], None


def sides(market: str, bids: list[list[str]], asks: list[list[str]]) -> Iterator[LevelChange]:
    for side, levels in (("bids", bids), ("asks", asks)):
        for price, amount, *_ in levels:
            yield market, side, float(price), float(amount)


def binance_levels(frame: Frame) -> Iterator[LevelChange]:
    if "lastUpdateId" in frame:  # the REST snapshot; `frames` adds the market and puts it before the changes
        yield frame["symbol"], None, 0, 0
        yield from sides(frame["symbol"], frame["bids"], frame["asks"])
    elif frame.get("data", {}).get("e") == "depthUpdate" and int(frame["data"]["u"]) > frame["since"]:
        yield from sides(frame["data"]["s"], frame["data"]["b"], frame["data"]["a"])


def coinbase_levels(frame: Frame) -> Iterator[LevelChange]:
    if frame.get("type") == "snapshot":
        yield frame["product_id"], None, 0, 0
        yield from sides(frame["product_id"], frame["bids"], frame["asks"])
    elif frame.get("type") == "l2update":
        for side, price, amount in frame["changes"]:
            yield frame["product_id"], "bids" if side == "buy" else "asks", float(price), float(amount)


def okx_levels(frame: Frame) -> Iterator[LevelChange]:
    if frame.get("arg", {}).get("channel") == "books" and "data" in frame:
        market = frame["arg"]["instId"]
        if frame["action"] == "snapshot":
            yield market, None, 0, 0
        for item in frame["data"]:
            yield from sides(market, item["bids"], item["asks"])


def kraken_levels(frame: Frame) -> Iterator[LevelChange]:
    if frame.get("feed") == "book_snapshot":
        market = frame["product_id"]
        yield market, None, 0, 0
        for side in ("bids", "asks"):
            for level in frame[side]:
                yield market, side, float(level["price"]), float(level["qty"])
    elif frame.get("feed") == "book" and "side" in frame:
        side = "bids" if frame["side"] == "buy" else "asks"
        yield frame["product_id"], side, float(frame["price"]), float(frame["qty"])


CASES = [
    Case("binance-spot-2021-10", binance_trades, binance_ticks, binance_levels),
    Case("binance-usdm-2021-07", binance_trades, binance_ticks, binance_levels),
    Case(
        "coinbase-exchange-2021-04",
        coinbase_trades,
        coinbase_ticks,
        coinbase_levels,
        credentials='apiKey = "replayed-key"\nsecret = "cmVwbGF5ZWQ="\npassword = "replayed-pass"\n',
    ),
    Case("okx-v5-2022-05", okx_trades, okx_ticks, okx_levels),
    Case("krakenfutures-2021-07", kraken_trades, kraken_ticks, kraken_levels),
]


def iso_us(text: str) -> int:
    seconds = calendar.timegm(datetime.fromisoformat(text).utctimetuple())
    return seconds * 1_000_000 + int(text.partition(".")[2].rstrip("Z").ljust(6, "0"))


def frames(path: Path) -> Iterator[Frame]:
    """Every frame the venue sent, numbers kept as their text; REST depth snapshots first.

    A change a snapshot already holds (`u` up to its `lastUpdateId`) is told by `since`.
    """
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    since: dict[str, int] = {}
    for row in rows:
        if row["kind"] == "http" and "/depth" in row["url"]:
            snapshot = json.loads(row["data"], parse_float=str, parse_int=str)
            snapshot["symbol"] = parse_qs(urlsplit(row["url"]).query)["symbol"][0]
            since[snapshot["symbol"]] = int(snapshot["lastUpdateId"])
            yield snapshot
    for row in rows:
        if row["kind"] == "recv":
            document = json.loads(row["data"], parse_float=str, parse_int=str)
            if isinstance(document, dict):
                market = document["data"].get("s") if isinstance(document.get("data"), dict) else None
                yield {**document, "since": since.get(market or "", 0)}


def final_books(case: Case, path: Path, levels: int) -> dict[str, tuple[list[tuple[float, float]], ...]]:
    """The best levels of each market after the last frame: bids, asks."""
    books: dict[str, dict[str, dict[float, float]]] = {}
    for market, side, price, amount in (change for frame in frames(path) for change in case.levels(frame)):
        if side is None:
            books[market] = {"bids": {}, "asks": {}}
        elif amount:
            books[market][side][price] = amount
        else:
            books[market][side].pop(price, None)
    return {
        market: (
            sorted(book["bids"].items(), reverse=True)[:levels],
            sorted(book["asks"].items())[:levels],
        )
        for market, book in books.items()
    }


async def replayed(
    case: Case, path: Path, database: DatabaseForTest, folder: Path, decoder: str
) -> tuple[dict[str, str], list[Frame], Daemon]:
    """Run the daemon on the replay until everything arrived; market id by symbol, adaptations, the ended daemon."""
    credentials = {}
    if case.credentials and decoder == "ccxt":
        (folder / "key.toml").write_text(case.credentials, encoding="utf-8")
        credentials = {"credentials_file": str(folder / "key.toml")}
    async with replay_venue(path, speed=MAX_SPEED, quiet_s=1.0) as venue:
        config_file = write_config(
            folder,
            {
                "database": {"dsn": database.dsn, "flush_ms": 50},
                "retention": dict.fromkeys(RetentionConfig.model_fields, 0),
                "feeds": [
                    {
                        "exchange": venue.exchange,
                        "decoder": decoder,
                        "symbols": list(venue.symbols),
                        "url_map": venue.url_map,
                        "order_book_interval_ms": 0,
                        "order_book_levels": LEVELS,
                        **credentials,
                    }
                ],
            },
        )
        async with running(config_file) as daemon:
            await daemon.until(lambda received: received.get("trades", 0) > 0)
            while not venue.source.finished:
                await daemon.quiet(0.5)
            await daemon.quiet()
            assert await daemon.stop() == 0, daemon.log()
        return dict(venue.symbols), venue.source.adaptations(), daemon


# Beside other tests one by each decoder in turn: both are compared frame by frame in the contract tests.
@pytest.mark.parametrize(
    ("case", "decoder"),
    [
        pytest.param(case, decoder, id=f"{case.capture}-{decoder}")
        for number, case in enumerate(CASES)
        for decoder in (DECODERS if AT_LENGTH else DECODERS[number % 2 :][:1])
    ],
)
async def test_a_capture_is_stored_digit_for_digit(
    case: Case,
    decoder: str,
    database: DatabaseForTest,
    db: Database,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = CAPTURES / f"{case.capture}.ndjson.gz"
    if not path.exists():
        pytest.skip("the recorded exchange traffic is not here (../shared/data)")

    market_ids, adaptations, daemon = await replayed(case, path, database, tmp_path, decoder)

    sent_trades = Counter(trade for frame in frames(path) for trade in case.trades(frame))
    sent_ticks = Counter(tick for frame in frames(path) for tick in case.ticks(frame))
    assert sent_trades
    assert sent_ticks
    stored_trades = Counter(
        (market_ids[row["symbol"]], row["trade_id"], row["price"], row["quantity"], row["side"], row["us"])
        for row in await db.fetch(
            "SELECT symbol, trade_id, price::text, quantity::text, side, "
            "(extract(epoch FROM time) * 1000000)::bigint AS us FROM trades"
        )
    )
    # A venue may send one trade twice (in a snapshot and again live): it is stored once.
    assert stored_trades == Counter(sent_trades.keys())
    stored_ticks = Counter(
        (market_ids[row["symbol"]], row["bid"], row["bid_volume"], row["ask"], row["ask_volume"])
        for row in await db.fetch(
            "SELECT symbol, bid_price::text AS bid, bid_volume::text, ask_price::text AS ask, ask_volume::text "
            "FROM market_ticks"
        )
    )
    assert stored_ticks == sent_ticks
    books = final_books(case, path, LEVELS)
    assert set(books) == set(market_ids.values())
    assert await last_books(db, market_ids) == books
    assert await db.fetchval("SELECT count(*) FROM order_book WHERE NOT valid") == 0
    assert await db.fetchval("SELECT count(*) FROM rejected_records") == 0
    assert await db.fetchval("SELECT sum(trades_count) FROM candles_1m") == len(sent_trades)
    volumes = await db.fetch("SELECT symbol, sum(quote_volume) AS worth FROM candles_1d GROUP BY symbol")
    assert {market_ids[row["symbol"]]: row["worth"] for row in volumes} == worth(case, path)
    counts = daemon.counts()
    for channel, received in counts["received"].items():
        assert received == sum(counts[term].get(channel, 0) for term in ("stored", "duplicate")), channel
    assert not counts["in_journal"]
    with capsys.disabled():
        kinds = Counter(note.get("kind") for note in adaptations)
        print(f"\n{case.capture}, {decoder}: the replay adapted {dict(kinds)}, for example {adaptations[:2]}")


def worth(case: Case, path: Path) -> dict[str, Decimal]:
    """What was traded of each market in its quote currency, by the sizes of contracts in the venue's own lists."""
    with gzip.open(path, "rt") as lines:
        lists = [json.loads(line) for line in lines if '"kind":"http"' in line]
    of_quote: dict[str, Decimal] = {}  # the markets whose contracts are of the quote currency
    for document in (json.loads(row["data"], parse_float=str) for row in lists if "instruments" in row["url"]):
        for item in document.get("data", []):
            if item.get("ctType") == "inverse":
                of_quote[item["instId"]] = Decimal(item["ctVal"])
        for item in document.get("instruments", []):
            if item["type"] == "futures_inverse":
                of_quote[item["symbol"].upper()] = Decimal(item["contractSize"])
    total: dict[str, Decimal] = {}
    for market, _, price, quantity, _, _ in {trade for frame in frames(path) for trade in case.trades(frame)}:
        amount = Decimal(quantity) * (of_quote[market] if market in of_quote else Decimal(price))
        total[market] = total.get(market, Decimal(0)) + amount
    return total


async def last_books(db: Database, market_ids: dict[str, str]) -> dict[str, tuple[list[tuple[float, float]], ...]]:
    """The newest snapshot of each market, as numbers."""
    rows = await db.fetch(
        "SELECT DISTINCT ON (symbol) symbol, bids, asks FROM order_book "
        "ORDER BY symbol, received_at DESC, sequence DESC NULLS LAST"
    )
    return {
        market_ids[row["symbol"]]: tuple(
            [(level["price"], level["amount"]) for level in json.loads(row[side])] for side in ("bids", "asks")
        )
        for row in rows
    }
