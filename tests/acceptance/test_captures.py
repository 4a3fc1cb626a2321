"""Recorded traffic of five venues through the whole daemon into a database, against an independent reading of it.

The reading below uses the capture file and nothing of ingestd. What the replay adapts for today's exchange library
(stream names, missing REST answers; never a payload) is printed.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ingestd.config import RetentionConfig
from ingestd.sim.replay import MAX_SPEED, ReplayVenue
from ingestd.storage.database import Database
from tests.support.daemon import Daemon, running, write_config
from tests.support.postgres import DatabaseForTest

CAPTURES = Path(__file__).parents[2].parent / "shared" / "data" / "captures"

Frame = dict[str, Any]
# (market, trade id, price, quantity, taker side, time in ms)
TradeRow = tuple[str, str, str, str, str, int]
# (market, bid, bid volume, ask, ask volume)
TickRow = tuple[str, str | None, str | None, str | None, str | None]


@dataclass(frozen=True)
class Case:
    """How one venue writes trades and best prices."""

    capture: str
    trades: Callable[[Frame], Iterator[TradeRow]]
    ticks: Callable[[Frame], Iterator[TickRow]]
    books: bool = True


def binance_trades(frame: Frame) -> Iterator[TradeRow]:
    data = frame.get("data", {})
    if data.get("e") == "aggTrade":
        yield data["s"], data["a"], data["p"], data["q"], "sell" if data["m"] else "buy", int(data["T"])


def binance_ticks(frame: Frame) -> Iterator[TickRow]:
    if frame.get("stream", "").endswith("@bookTicker"):
        data = frame["data"]
        yield data["s"], data["b"], data["B"], data["a"], data["A"]


def coinbase_trades(frame: Frame) -> Iterator[TradeRow]:
    if frame.get("type") in ("match", "last_match"):
        # The venue names the maker's side; the taker is the other one.
        taker = "sell" if frame["side"] == "buy" else "buy"
        yield frame["product_id"], frame["trade_id"], frame["price"], frame["size"], taker, iso_ms(frame["time"])


def coinbase_ticks(frame: Frame) -> Iterator[TickRow]:
    if frame.get("type") == "ticker":
        yield frame["product_id"], frame["best_bid"], None, frame["best_ask"], None


def okx_trades(frame: Frame) -> Iterator[TradeRow]:
    if frame.get("arg", {}).get("channel") == "trades":
        for item in frame.get("data", []):
            yield item["instId"], item["tradeId"], item["px"], item["sz"], item["side"], int(item["ts"])


def okx_ticks(frame: Frame) -> Iterator[TickRow]:
    if frame.get("arg", {}).get("channel") == "tickers":
        for item in frame.get("data", []):
            yield item["instId"], item["bidPx"], item["bidSz"], item["askPx"], item["askSz"]


def kraken_trades(frame: Frame) -> Iterator[TradeRow]:
    if frame.get("feed") in ("trade", "trade_snapshot") and "event" not in frame:
        for item in frame.get("trades", [frame]):
            yield item["product_id"], item["uid"], item["price"], item["qty"], item["side"], int(item["time"])


def kraken_ticks(frame: Frame) -> Iterator[TickRow]:
    if frame.get("feed") == "ticker_lite" and "bid" in frame:
        yield frame["product_id"], frame["bid"], None, frame["ask"], None


CASES = [
    Case("binance-spot-2021-10", binance_trades, binance_ticks),
    Case("binance-usdm-2021-07", binance_trades, binance_ticks),
    Case("coinbase-exchange-2021-04", coinbase_trades, coinbase_ticks, books=False),
    Case("okx-v5-2022-05", okx_trades, okx_ticks),
    Case("krakenfutures-2021-07", kraken_trades, kraken_ticks),
]


def iso_ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def frames(path: Path) -> Iterator[Frame]:
    """Every frame the venue sent, numbers kept as their text."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            if row["kind"] == "recv":
                document = json.loads(row["data"], parse_float=str, parse_int=str)
                if isinstance(document, dict):
                    yield document


async def replayed(path: Path, database: DatabaseForTest, folder: Path) -> tuple[dict[str, str], list[Frame], Daemon]:
    """Run the daemon on the replay until everything arrived; market id by symbol, adaptations, the ended daemon."""
    async with ReplayVenue(path, speed=MAX_SPEED, quiet_s=1.0) as venue:
        config_file = write_config(
            folder,
            {
                "database": {"dsn": database.dsn, "flush_ms": 50},
                "retention": dict.fromkeys(RetentionConfig.model_fields, 0),
                "feeds": [
                    {
                        "exchange": venue.exchange,
                        "symbols": list(venue.symbols),
                        "url_map": venue.url_map,
                        "order_book_interval_ms": 0,
                        "order_book_levels": 10,
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
        return dict(venue.symbols), venue.source.adaptations.as_list(), daemon


@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.capture)
async def test_a_capture_is_stored_digit_for_digit(
    case: Case, database: DatabaseForTest, db: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = CAPTURES / f"{case.capture}.ndjson.gz"
    if not path.exists():
        pytest.skip("the recorded exchange traffic is not here (../shared/data)")

    market_ids, adaptations, daemon = await replayed(path, database, tmp_path)

    sent_trades = Counter(trade for frame in frames(path) for trade in case.trades(frame))
    sent_ticks = Counter(tick for frame in frames(path) for tick in case.ticks(frame))
    assert sent_trades
    assert sent_ticks
    stored_trades = Counter(
        (market_ids[row["symbol"]], row["trade_id"], row["price"], row["quantity"], row["side"], row["ms"])
        for row in await db.fetch(
            "SELECT symbol, trade_id, price::text, quantity::text, side, "
            "(extract(epoch FROM time) * 1000)::bigint AS ms FROM trades"
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
    assert await db.fetchval("SELECT count(*) FROM rejected_records") == 0
    assert await db.fetchval("SELECT sum(trades_count) FROM candles_1m") == len(sent_trades)
    counts = daemon.counts()
    for channel, received in counts["received"].items():
        assert received == sum(counts[term].get(channel, 0) for term in ("stored", "duplicate")), channel
    assert not counts["in_journal"]
    with capsys.disabled():
        kinds = Counter(note.get("kind") for note in adaptations)
        print(f"\n{case.capture}: the replay adapted {dict(kinds)}, for example {adaptations[:2]}")
