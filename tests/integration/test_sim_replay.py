"""Unmodified ccxt.pro against the replay of every recorded capture: it must see what the capture holds."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ingestd.sim.replay import MAX_SPEED, ReplayVenue

from tests.unit.sim.unmodified_ccxt import unmodified_ccxt, until, watching

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
    async with ReplayVenue(path, speed=MAX_SPEED, quiet_s=0.5, shift_to_now=True) as venue:
        exchange = unmodified_ccxt(case.exchange, venue.url_map)
        await exchange.load_markets()
        symbols = list(venue.symbols)
        assert set(symbols) <= set(exchange.markets)
        async with watching(exchange) as keep:
            for symbol in symbols:
                keep(partial(exchange.watch_trades, symbol), f"trades {symbol}")
                keep(partial(exchange.watch_order_book, symbol), f"book {symbol}")
                keep(partial(getattr(exchange, case.ticks_method), [symbol]), f"ticks {symbol}")
            await until(lambda: venue.source.finished, 25, "the end of the replay")
            await venue.server.stop()
            expected = recorded_trades(path)
            await until(lambda: len(received_trades(exchange)) >= len(expected), 5, "the last trades")
            assert received_trades(exchange) == {key: as_numbers(value) for key, value in expected.items()}
            assert received_bids(exchange) == last_recorded_bids(path)
            await until(lambda: any(book["bids"] for book in exchange.orderbooks.values()), 5, "a book")
        adaptations = venue.source.adaptations.as_list()
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
