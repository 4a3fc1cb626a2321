"""Coinbase Exchange. https://docs.cdp.coinbase.com/exchange/websocket-feed/channels"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from ingestd.lab.sim.venues.base import (
    BookChange,
    Handshake,
    Host,
    RecordedBook,
    Request,
    RestAnswer,
    RestCall,
    RestSource,
    SentTick,
    SentTrade,
    Stream,
    first_available,
    instant_us,
    iso_instant,
    shift_instants,
)

WS = Host("/coinbase-ws", ("wss://ws-feed.exchange.coinbase.com", "wss://ws-feed.pro.coinbase.com"))
REST = Host("/coinbase-rest", ("https://api.exchange.coinbase.com", "https://api.pro.coinbase.com"))

_CHANNEL_OF_TYPE = {
    "ticker": "ticker",
    "match": "matches",
    "last_match": "matches",
    "snapshot": "level2",
    "l2update": "level2",
}
_OURS = {"ticker": "ticks", "matches": "trades", "level2": "order_book"}
# newer or batched channel → the recorded channel that replaces it
_STANDS_IN = {"ticker_batch": "ticker", "level2_batch": "level2", "level2_50": "level2"}
_TIME = re.compile(r'("time":")(\d{4}-\d\d-\d\dT[0-9:.]+Z)(")')
_TAKER_OF_MAKER = {"buy": "sell", "sell": "buy"}


class Coinbase:
    """A stream's name here is `channel:product`; Coinbase lists products and channels separately."""

    exchange = "coinbaseexchange"
    hosts = (WS, REST)

    def handshake(self, path: str, query: Mapping[str, str]) -> Handshake:
        """One URL for everything."""
        return Handshake()

    def request(self, text: str) -> Request:
        """`{"type": "subscribe", "product_ids": [...], "channels": [name | {"name", "product_ids"}]}`."""
        asked = json.loads(text)
        products = asked.get("product_ids", [])
        names, channels = [], []
        for channel in asked.get("channels", []):
            name, own = (channel, products) if isinstance(channel, str) else (channel["name"], channel["product_ids"])
            names += [f"{name}:{product}" for product in own or products]
            channels.append({"name": name, "product_ids": own or products})
        reply = json.dumps({"type": "subscriptions", "channels": channels}, separators=(",", ":"))
        if asked.get("type") == "unsubscribe":
            return Request(unsubscribe=names, replies=[reply])
        return Request(subscribe=names, replies=[reply])

    def stream_of(self, text: str) -> Stream | None:
        """By the frame's type."""
        document = json.loads(text)
        channel = _CHANNEL_OF_TYPE.get(document.get("type", ""))
        if channel is None:
            return None
        product = document["product_id"]
        return Stream(f"{channel}:{product}", _OURS[channel], product)

    def stands_in(self, asked: str, available: Iterable[str]) -> str | None:
        """The full channel replaces its batched form."""
        channel, _, product = asked.partition(":")
        return first_available((asked, f"{_STANDS_IN.get(channel, channel)}:{product}"), available)

    def payload(self, text: str) -> str:
        """Frames are not enveloped."""
        return text

    def wrap(self, stream: str, payload: str) -> str:
        """Frames are not enveloped."""
        return payload

    def shift(self, stream: Stream, payload: str, delta_ms: int) -> str:
        """The `time` field."""
        return shift_instants(_TIME, payload, delta_ms)

    def shift_rest(self, body: str, delta_ms: int) -> str:
        """The `time` field."""
        return shift_instants(_TIME, body, delta_ms)

    def trades(self, payload: str) -> list[SentTrade]:
        """`side` is the maker's."""
        data = json.loads(payload)
        side = _TAKER_OF_MAKER[data["side"]]
        trade_id = str(data["trade_id"])
        return [
            SentTrade(data["product_id"], trade_id, data["price"], data["size"], instant_us(data["time"]), side),
        ]

    def ticks(self, payload: str) -> list[SentTick]:
        """The ticker of 2021 has no sizes."""
        data = json.loads(payload)
        return [
            SentTick(
                data["product_id"],
                data.get("best_bid"),
                data.get("best_bid_size"),
                data.get("best_ask"),
                data.get("best_ask_size"),
                instant_us(data["time"]) if "time" in data else None,
            )
        ]

    def book_change(self, payload: str) -> BookChange | None:
        """A snapshot, or changes `[side, price, size]`."""
        data = json.loads(payload)
        product = data["product_id"]
        if data["type"] == "snapshot":
            return BookChange(product, True, data["bids"], data["asks"], 0, data.get("time", ""))
        rows: dict[str, list[list[str]]] = {"buy": [], "sell": []}
        for side, price, size in data["changes"]:
            rows[side].append([price, size])
        return BookChange(product, False, rows["buy"], rows["sell"], 0, data["time"])

    def first_book(self, market_id: str, source: RestSource) -> BookChange | None:
        """Snapshots come as frames."""
        return None

    def book_snapshot(self, stream: Stream, book: RecordedBook) -> str | None:
        """The current format, which ends with its time."""
        snapshot = {"type": "snapshot", "product_id": stream.market_id}
        rows = {"asks": book.sorted_asks(), "bids": book.sorted_bids()}
        return json.dumps({**snapshot, **rows, "time": book.time_text}, separators=(",", ":"))

    def rest(self, call: RestCall, source: RestSource) -> RestAnswer | None:
        """products from the capture; the currencies that the products name; time."""
        match call.path.split("/"):
            case ["products", product, "trades"]:
                trades = source.newest_trades(product, min(int(call.query.get("limit", 100)), 1000))
                return RestAnswer(json.dumps([_past_trade(trade) for trade in trades]), "as streamed", is_of_now=True)
        match call.path:
            case "products":
                return RestAnswer(source.recorded("/products")[0])
            case "currencies":
                return RestAnswer(_currencies(source), "currencies made from the recorded products")
            case "time":
                return RestAnswer(json.dumps({"epoch": source.now_ms() / 1000}))
        return None

    def symbols(self, market_ids: Iterable[str], source: RestSource) -> dict[str, str]:
        """`SKL-USD` → `SKL/USD`."""
        return {market_id.replace("-", "/"): market_id for market_id in market_ids}


def _past_trade(trade: SentTrade) -> dict[str, str | int]:
    """`side` is the maker's, as in the stream."""
    return {
        "time": iso_instant(trade.time_us),
        "trade_id": int(trade.trade_id),
        "price": trade.price,
        "size": trade.quantity,
        "side": _TAKER_OF_MAKER[trade.side],
    }


def _currencies(source: RestSource) -> str:
    """Every currency a product names; `max_precision` is what ccxt reads as the precision."""
    names: set[str] = set()
    for product in json.loads(source.recorded("/products")[0]):
        names |= {product["base_currency"], product["quote_currency"]}
    rows = [
        {"id": name, "name": name, "status": "online", "max_precision": "0.00000001", "details": {}, "min_size": "0"}
        for name in sorted(names)
    ]
    return json.dumps(rows, separators=(",", ":"))
