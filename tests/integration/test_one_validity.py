"""One definition of validity for every destination: what the journal rejects is in no table, message or candle."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingestd.config.loading import parse
from ingestd.lab.sim.embedded_valkey import EmbeddedValkey
from ingestd.lab.sim.synthetic.venue import SyntheticVenue, synthetic_venue
from ingestd.service import Service
from tests.support.exposed import exposed
from tests.support.postgres import DatabaseForTest
from tests.support.redis_servers import reader

WITHIN_S = 60.0


def flawed_frames(market_id: str, now_ms: int) -> list[dict[str, Any]]:
    """What a venue has sent, or may send: trades of nothing (`X` is NA then), a clock far ahead, sides below zero."""
    trade = {"e": "trade", "E": now_ms, "T": now_ms, "s": market_id, "p": "7.5", "q": "1", "X": "MARKET", "m": False}
    best = {"e": "bookTicker", "u": 1, "E": now_ms, "T": now_ms, "s": market_id, "b": "7", "B": "1", "a": "8", "A": "1"}
    return [
        {**trade, "t": 1, "p": "0", "q": "0", "X": "NA"},
        {**trade, "t": 2, "q": "0"},
        {**trade, "t": 3, "p": "-7.5"},
        {**trade, "t": 4, "p": "NaN"},
        {**trade, "t": 5, "T": now_ms + 8 * 3_600_000},
        {**best, "b": "-7.5"},
        {**best, "B": "-1"},
        {**best, "E": now_ms + 8 * 3_600_000},
    ]


def marked_frames(market_id: str, now_ms: int) -> list[dict[str, Any]]:
    """Trades that the venue marks; those of the insurance fund are far off its market, and in none of its candles."""
    trade = {"e": "trade", "E": now_ms, "T": now_ms, "s": market_id, "p": "0.5", "q": "1", "m": False}
    return [
        {**trade, "t": 11, "p": "0.25", "X": "INSURANCE_FUND"},
        {**trade, "t": 12, "p": "9000000", "X": "ADL"},
        {**trade, "t": 13, "X": "RPI"},
        {**trade, "t": 14, "X": "NEVER_SEEN"},
    ]


def send(venue: SyntheticVenue, symbol: str, make: Callable[[str, int], list[dict[str, Any]]]) -> int:
    market_id = venue.symbols[symbol].removesuffix(".P")
    frames = make(market_id, time.time_ns() // 1_000_000)
    (connection,) = [one for one in venue.hub.connections if any("@trade" in name for name in one.streams)]
    for frame in frames:
        venue.hub.put(connection, json.dumps(frame).encode())
    return len(frames)


async def test_what_is_rejected_reaches_no_destination(postgres_database: DatabaseForTest, tmp_path: Path) -> None:
    async with synthetic_venue(symbols=0, futures_symbols=1, rate=200.0) as venue:
        (symbol,) = venue.symbols
        with EmbeddedValkey() as valkey, reader(valkey.url) as client, client.pubsub() as listener:
            listener.psubscribe("trades:*", "market_data:*")
            for _ in range(2):
                assert listener.get_message(timeout=2)
            document: dict[str, Any] = {
                "instance": {"name": "one", "state_dir": str(tmp_path)},
                "database": {"dsn": postgres_database.dsn, "flush_ms": 20},
                "redis": {"url": valkey.url, "primary_exchange": "binanceusdm"},
                "http": {"listen": "127.0.0.1:0"},
                "backfill": {"enabled": False},
                "feeds": [
                    {
                        "exchange": "binanceusdm",
                        "symbols": [symbol],
                        "channels": ["ticks", "trades"],
                        "decoder": "native",
                        "url_map": venue.url_map,
                    }
                ],
            }
            service = Service(parse(document, {}))
            running = asyncio.create_task(service.run())

            async def until_stored(channel: str, count: int) -> None:
                async with asyncio.timeout(WITHIN_S):
                    while service.counts()["stored"].get(channel, 0) < count:
                        assert not running.done()
                        await asyncio.sleep(0.02)

            await until_stored("trades", 20)
            sent = send(venue, symbol, flawed_frames)
            marked = send(venue, symbol, marked_frames)
            await until_stored("trades", service.counts()["stored"]["trades"] + 50 + marked)
            shown = exposed(service.metrics)
            await venue.stop()
            service.request_stop("done")
            await running
            counts = service.counts()
            heard = []
            while message := listener.get_message(timeout=0.2):
                heard.append(json.loads(message["data"]))
            candles = [json.loads(text) for key in client.keys("candle:*") for text in client.lrange(key, 0, -1)]

    database = await postgres_database.connect(application_name="test")
    rejected = await database.fetch("SELECT reason, count(*) FROM rejected_records GROUP BY 1")
    stored = {row["trade_id"] for row in await database.fetch("SELECT trade_id FROM trades")}
    kinds = await database.fetch(
        "SELECT trade_id, kind, in_candles FROM trades WHERE kind IS NOT NULL OR NOT in_candles"
    )
    lowest = (await database.fetch("SELECT least(min(bid_price), min(ask_price)) AS low FROM market_ticks"))[0]["low"]
    await database.close()
    assert {row["reason"]: row["count"] for row in rejected} == {"price": 4, "quantity": 2, "too_far_ahead": 2}
    assert sum(counts["rejected"].values()) == sent
    assert lowest > 0
    messages = [message for message in heard if "tradeId" in message]
    assert {message["tradeId"] for message in messages} == stored  # those flawed have the ids 1 to 5, which are none
    assert not stored & {"1", "2", "3", "4", "5"}
    assert min(message["bidPrice"] for message in heard if "bidPrice" in message) > 0
    of_marked = {"11": ("insurance_fund", False), "12": ("adl", False), "13": ("rpi", True), "14": ("other", True)}
    assert {row["trade_id"]: (row["kind"], row["in_candles"]) for row in kinds} == of_marked
    told = {message["tradeId"]: (message["kind"], message["inCandles"]) for message in messages if "kind" in message}
    assert told == of_marked
    for kind, count in {"insurance_fund": 1, "adl": 1, "rpi": 1, "other": 2}.items():  # NA is no label of the list
        assert f'ingestd_trade_kinds_total{{exchange="binanceusdm",kind="{kind}"}} {count}.0' in shown
    # The live candles count what the venue's own do.
    counted = [message["price"] for message in messages if message.get("inCandles", True)]
    assert min(counted) == min(candle["low"] for candle in candles) == 0.5
    assert max(counted) == max(candle["high"] for candle in candles)
    assert sum(candle["tradesCount"] for candle in candles) == len(counted) == len(messages) - 2
    for channel in ("trades", "ticks"):
        terms = ("stored", "duplicate", "rejected", "dropped")
        assert counts["received"][channel] == sum(counts[term].get(channel, 0) for term in terms)
