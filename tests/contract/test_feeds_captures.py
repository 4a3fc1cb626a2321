"""Recorded public traffic through the tapped clients; the raw frames are the oracle, read without any float.

The recordings lie outside the project (`../shared/data`); without them these tests say that they did not run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import WSMessage, WSMsgType

from ingestd.feeds.ccxt.session import CcxtSession
from ingestd.feeds.ccxt.tap_reader import TapReader
from ingestd.feeds.streams.ledger import StreamLedger
from ingestd.records import BookSnapshot, Tick, Trade
from ingestd.venues.exact import decode_json
from tests.support.captures import capture_bodies, capture_lines, recorded_body
from tests.unit.feeds.doubles import ListIntake, feed_config

Oracle = Callable[[Any], Iterator[tuple[str, str]]]


def binance_trades(frame: Any) -> Iterator[tuple[str, str]]:
    if frame.get("data", {}).get("e") == "aggTrade":
        yield frame["data"]["p"], frame["data"]["q"]


def coinbase_trades(frame: Any) -> Iterator[tuple[str, str]]:
    if frame["type"] in ("match", "last_match"):
        yield frame["price"], frame["size"]


def okx_trades(frame: Any) -> Iterator[tuple[str, str]]:
    if frame["arg"]["channel"] == "trades":
        yield from ((trade["px"], trade["sz"]) for trade in frame.get("data", []))


def kraken_futures_trades(frame: Any) -> Iterator[tuple[str, str]]:
    if frame.get("feed") == "trade" and "price" in frame:
        yield frame["price"], frame["qty"]
    elif frame.get("feed") == "trade_snapshot":
        trades = [(trade["price"], trade["qty"]) for trade in frame["trades"]]
        yield from reversed(trades)  # newest first on the wire; ccxt stores them oldest first


@pytest.mark.parametrize(
    ("capture", "exchange", "url", "trades_of"),
    [
        ("binance-usdm-2021-07", "binanceusdm", "wss://fstream.binance.com/stream", binance_trades),
        ("binance-spot-2021-10", "binance", "wss://stream.binance.com:9443/ws/0", binance_trades),
        ("coinbase-exchange-2021-04", "coinbaseexchange", "wss://ws-feed.exchange.coinbase.com", coinbase_trades),
        ("okx-v5-2022-05", "okx", "wss://ws.okx.com:8443/ws/v5/public", okx_trades),
        ("krakenfutures-2021-07", "krakenfutures", "wss://futures.kraken.com/ws/v1", kraken_futures_trades),
    ],
)
async def test_every_recorded_trade_is_handed_over_in_order_with_its_text(
    capture: str, exchange: str, url: str, trades_of: Oracle
) -> None:
    lines = capture_lines(capture)
    frames = [line["data"] for line in lines if line["kind"] == "recv"]

    intake, ledger = await play(exchange, url, frames, capture_bodies(lines))

    expected = [pair for frame in frames for pair in trades_of(json.loads(frame, parse_float=str, parse_int=str))]
    assert expected
    assert [(trade.price, trade.quantity) for trade in intake.of(Trade)] == expected
    assert ledger.counts.malformed_frames == 0
    assert ledger.counts.unrequested_records == 0
    assert all(tick.bid_price is not None for tick in intake.of(Tick))
    assert all(book.valid for book in intake.of(BookSnapshot))


async def play(exchange: str, url: str, frames: list[str], bodies: dict[str, str]) -> tuple[ListIntake, StreamLedger]:
    """All frames in one loop turn, over the markets of the recorded REST answers."""
    intake = ListIntake()
    options = {"fetchMarkets": {"types": ["spot" if exchange == "binance" else "linear"]}}
    config = feed_config(exchange, ["*"], order_book_interval_ms=0, options=options if "binance" in exchange else {})
    reader = TapReader(config, intake)
    session = CcxtSession(config, reader)

    async def fetch(asked: str, *_: Any, **__: Any) -> Any:
        return decode_json(recorded_body(exchange, asked, bodies))

    session.exchange.fetch = fetch
    await session.exchange.load_markets()
    reader.ticks_from_tickers = True
    for symbol in session.exchange.markets:
        for channel in ("trades", "ticks", "order_book"):
            reader.ledger.add_stream(channel, symbol)
    client = session.exchange.client(url)
    for frame in frames:
        client.handle_message(WSMessage(WSMsgType.TEXT, frame, None))
    await session.close()
    return intake, reader.ledger
