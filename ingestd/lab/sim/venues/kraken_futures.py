"""Kraken Futures. https://docs.kraken.com/api/docs/futures-api/websocket/"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from ingestd.lab.sim.venues.base import (
    BookChange,
    Handshake,
    Host,
    Json,
    RecordedBook,
    Request,
    RestAnswer,
    RestCall,
    RestSource,
    SentTick,
    SentTrade,
    Stream,
    edit_rows,
    first_available,
    iso_instant,
    parse_exact,
    shift_instants,
    shift_numbers,
)

# one host name for sockets and REST, which differ in the scheme
WS = Host("/krakenfutures-ws", ("wss://futures.kraken.com",))
REST = Host("/krakenfutures-rest", ("https://futures.kraken.com",))

_OURS = {"trade": "trades", "ticker_lite": "ticks", "ticker": "ticks", "book": "order_book"}
_STANDS_IN = {"ticker": ("ticker_lite",), "ticker_lite": ("ticker",)}
_TIME = re.compile(r'("(?:time|timestamp|next_funding_rate_time)":)(\d{13})(\b)')
_INSTANT = re.compile(r'("(?:serverTime|lastTime)":")(\d{4}-\d\d-\d\dT[0-9:.]+Z)(")')


class KrakenFutures:
    """A stream's name here is `feed:PRODUCT`; Kraken lists feed and products separately."""

    exchange = "krakenfutures"
    hosts = (WS, REST)

    def handshake(self, path: str, query: Mapping[str, str]) -> Handshake:
        """The venue greets first."""
        return Handshake(greeting=['{"event":"info","version":1}'])

    def request(self, text: str) -> Request:
        """`{"event": "subscribe", "feed": "trade", "product_ids": [...]}`, one answer per product."""
        asked = json.loads(text)
        event, feed = asked.get("event", ""), asked.get("feed", "")
        products = [str(product).upper() for product in asked.get("product_ids", [])]
        names = [f"{feed}:{product}" for product in products]
        replies = [
            json.dumps({"event": f"{event}d", "feed": feed, "product_ids": [product]}, separators=(",", ":"))
            for product in products
        ]
        match event:
            case "subscribe":
                return Request(subscribe=names, replies=replies)
            case "unsubscribe":
                return Request(unsubscribe=names, replies=replies)
        return Request()

    def stream_of(self, text: str) -> Stream | None:
        """By the feed; a snapshot belongs to the feed it begins."""
        document = json.loads(text)
        if "event" in document or "product_id" not in document:
            return None
        feed = str(document["feed"]).removesuffix("_snapshot")
        return Stream(f"{feed}:{document['product_id']}", _OURS.get(feed, "other"), document["product_id"])

    def stands_in(self, asked: str, available: Iterable[str]) -> str | None:
        """`ticker` and `ticker_lite` replace each other."""
        feed, _, product = asked.partition(":")
        return first_available((asked, *(f"{other}:{product}" for other in _STANDS_IN.get(feed, ()))), available)

    def payload(self, text: str) -> str:
        """Frames are not enveloped."""
        return text

    def wrap(self, stream: str, payload: str) -> str:
        """Frames are not enveloped."""
        return payload

    def shift(self, stream: Stream, payload: str, delta_ms: int) -> str:
        """Shifts event times, not a contract's maturity."""
        return shift_instants(_INSTANT, shift_numbers(_TIME, payload, delta_ms), delta_ms)

    def shift_rest(self, body: str, delta_ms: int) -> str:
        """The server's time."""
        return shift_instants(_INSTANT, body, delta_ms)

    def trades(self, payload: str) -> list[SentTrade]:
        """One trade, or those of a snapshot, newest first. `uid` is the id, `side` the taker's."""
        data = parse_exact(payload)
        rows = data["trades"][::-1] if data["feed"] == "trade_snapshot" else [data]
        return [
            SentTrade(row["product_id"], row["uid"], row["price"], row["qty"], int(row["time"]) * 1000, row["side"])
            for row in rows
        ]

    def ticks(self, payload: str) -> list[SentTick]:
        """`ticker_lite` has neither sizes nor a time."""
        data = parse_exact(payload)
        time_us = int(data["time"]) * 1000 if "time" in data else None
        sizes = data.get("bid_size"), data.get("ask_size")
        return [SentTick(data["product_id"], data.get("bid"), sizes[0], data.get("ask"), sizes[1], time_us)]

    def book_change(self, payload: str) -> BookChange | None:
        """A snapshot, or one level of one side."""
        data = parse_exact(payload)
        product, sequence, at = data["product_id"], int(data["seq"]), data["timestamp"]
        if data["feed"] == "book_snapshot":
            bids, asks = ([[row["price"], row["qty"]] for row in data[side]] for side in ("bids", "asks"))
            return BookChange(product, True, bids, asks, sequence, at)
        level = [[data["price"], data["qty"]]]
        is_bid = data["side"] == "buy"
        return BookChange(product, False, level if is_bid else [], [] if is_bid else level, sequence, at)

    def first_book(self, market_id: str, source: RestSource) -> BookChange | None:
        """Snapshots come as frames."""
        return None

    def book_snapshot(self, stream: Stream, book: RecordedBook) -> str | None:
        """Numbers keep their recorded text."""
        bids, asks = (
            ",".join(f'{{"price":{row[0]},"qty":{row[1]}}}' for row in rows)
            for rows in (book.sorted_bids(), book.sorted_asks())
        )
        return (
            f'{{"feed":"book_snapshot","product_id":"{stream.market_id}","timestamp":{book.time_text},'
            f'"seq":{book.sequence},"tickSize":null,"bids":[{bids}],"asks":[{asks}]}}'
        )

    def rest(self, call: RestCall, source: RestSource) -> RestAnswer | None:
        """instruments from the capture, with ids in capitals, as the sockets and the current REST write them."""
        if call.path.endswith("/instruments"):
            body = edit_rows(source.recorded("/instruments")[0], "instruments", _capitals)
            return RestAnswer(body, "instrument symbols in capitals, as the sockets and today's REST write them")
        if call.path.endswith("/tickers"):
            newest = [trade for id_ in source.market_ids() for trade in source.newest_trades(id_, 1)]
            body = json.dumps({"result": "success", "tickers": [_ticker(trade) for trade in newest]})
            return RestAnswer(body, "the last trades as streamed", is_of_now=True)
        return None

    def symbols(self, market_ids: Iterable[str], source: RestSource) -> dict[str, str]:
        """`FI_ETHUSD_211231` → `ETH/USD:ETH-211231`; a PF_ contract settles in dollars."""
        return {_unified(market_id): market_id for market_id in market_ids}


def _ticker(trade: SentTrade) -> dict[str, str]:
    moment = iso_instant(trade.time_us)
    return {"symbol": trade.market_id, "last": trade.price, "lastSize": trade.quantity, "lastTime": moment}


def _capitals(instrument: dict[str, Json]) -> None:
    instrument["symbol"] = instrument["symbol"].upper()


def _unified(market_id: str) -> str:
    kind, pair, *expiry = market_id.split("_")
    base = pair[:-3].replace("XBT", "BTC")
    settle = pair[-3:] if kind in ("PF", "FF") else base
    return f"{base}/{pair[-3:]}:{settle}" + "".join(f"-{day}" for day in expiry)
