"""Coinbase Exchange. https://docs.cdp.coinbase.com/exchange/websocket-feed/channels"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import ClassVar

from ingestd.clock import from_datetime, iso_text
from ingestd.lab.sim.venues import base

WS = base.Host("/coinbase-ws", ("wss://ws-feed.exchange.coinbase.com", "wss://ws-feed.pro.coinbase.com"))
REST = base.Host("/coinbase-rest", ("https://api.exchange.coinbase.com", "https://api.pro.coinbase.com"))

_CHANNEL_OF_TYPE = {
    "ticker": "ticker",
    "match": "matches",
    "last_match": "matches",
    "snapshot": "level2",
    "l2update": "level2",
}
_OURS = {"ticker": "ticks", "matches": "trades", "level2": "order_book"}
_TAKER_OF_MAKER = {"buy": "sell", "sell": "buy"}


class Coinbase(base.Venue):
    """Coinbase lists products and channels separately."""

    exchange = "coinbaseexchange"
    hosts = (WS, REST)
    stand_ins: ClassVar[Mapping[str, str]] = {"ticker_batch": "ticker", "level2_batch": "level2", "level2_50": "level2"}
    times = base.times_of("time")

    def request(self, text: str) -> base.Request:
        """`{"type": "subscribe", "product_ids": [...], "channels": [name | {"name", "product_ids"}]}`."""
        asked = json.loads(text)
        products = asked.get("product_ids", [])
        names, channels = [], []
        for channel in asked.get("channels", []):
            name, own = (channel, products) if isinstance(channel, str) else (channel["name"], channel["product_ids"])
            names += [f"{name}:{product}" for product in own or products]
            channels.append({"name": name, "product_ids": own or products})
        reply = base.compact({"type": "subscriptions", "channels": channels})
        return base.Request.of(asked.get("type"), names, [reply])

    def stream_of(self, text: str) -> base.Stream | None:
        document = json.loads(text)
        channel = _CHANNEL_OF_TYPE.get(document.get("type", ""))
        if channel is None:
            return None
        product = document["product_id"]
        return base.Stream(f"{channel}:{product}", _OURS[channel], product)

    def trades(self, payload: str) -> list[base.SentTrade]:
        """`side` is the maker's."""
        data = json.loads(payload)
        trade_id, side = str(data["trade_id"]), _TAKER_OF_MAKER[data["side"]]
        return [base.SentTrade(data["product_id"], trade_id, data["price"], data["size"], _us(data["time"]), side)]

    def ticks(self, payload: str) -> list[base.SentTick]:
        """The ticker of 2021 has no sizes."""
        data = json.loads(payload)
        bid, bid_size, ask, ask_size = map(data.get, ("best_bid", "best_bid_size", "best_ask", "best_ask_size"))
        time_us = _us(data["time"]) if "time" in data else None
        return [base.SentTick(data["product_id"], bid, bid_size, ask, ask_size, time_us)]

    def book_change(self, payload: str) -> base.BookChange:
        """A snapshot, or changes `[side, price, size]`."""
        data = json.loads(payload)
        product = data["product_id"]
        if data["type"] == "snapshot":
            return base.BookChange(product, True, data["bids"], data["asks"], 0, data.get("time", ""))
        rows: dict[str, list[list[str]]] = {"buy": [], "sell": []}
        for side, price, size in data["changes"]:
            rows[side].append([price, size])
        return base.BookChange(product, False, rows["buy"], rows["sell"], 0, data["time"])

    def book_snapshot(self, stream: base.Stream, book: base.RecordedBook) -> str | None:
        """The current format, which ends with its time."""
        snapshot = {"type": "snapshot", "product_id": stream.market_id}
        rows = {"asks": book.sorted_asks(), "bids": book.sorted_bids()}
        return base.compact({**snapshot, **rows, "time": book.time_text})

    def rest(self, call: base.RestCall, source: base.RestSource) -> base.RestAnswer | None:
        """products from the capture; the currencies that the products name; time."""
        match call.path.split("/"):
            case ["products", product, "trades"]:
                trades = source.newest_trades(product, min(int(call.query.get("limit", 100)), 1000))
                body = base.compact([_past_trade(trade) for trade in trades])
                return base.RestAnswer(body, "as streamed", is_of_now=True)
            case ["products"]:
                return base.RestAnswer(source.recorded("/products")[0])
            case ["currencies"]:
                return base.RestAnswer(_currencies(source), "currencies made from the recorded products")
            case ["time"]:
                return base.RestAnswer(base.compact({"epoch": source.now_ms() / 1000}))
        return None

    def symbols(self, market_ids: Iterable[str], source: base.RestSource) -> dict[str, str]:
        """`SKL-USD` → `SKL/USD`."""
        return {market_id.replace("-", "/"): market_id for market_id in market_ids}


def _us(text: str) -> int:
    return from_datetime(datetime.fromisoformat(text))


def _past_trade(trade: base.SentTrade) -> dict[str, str | int]:
    """`side` is the maker's, as in the stream."""
    return {
        "time": iso_text(trade.time_us),
        "trade_id": int(trade.trade_id),
        "price": trade.price,
        "size": trade.quantity,
        "side": _TAKER_OF_MAKER[trade.side],
    }


def _currencies(source: base.RestSource) -> str:
    """Every currency a product names; `max_precision` is what ccxt reads as the precision."""
    products = json.loads(source.recorded("/products")[0])
    names = {product[side] for product in products for side in ("base_currency", "quote_currency")}
    rows = [
        {"id": name, "name": name, "status": "online", "max_precision": "0.00000001", "details": {}, "min_size": "0"}
        for name in sorted(names)
    ]
    return base.compact(rows)
