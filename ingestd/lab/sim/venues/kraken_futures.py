"""Kraken Futures. https://docs.kraken.com/api/docs/futures-api/websocket/"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import ClassVar

from ingestd.clock import iso_text
from ingestd.lab.sim.venues import base

# one host name for sockets and REST, which differ in the scheme
WS = base.Host("/krakenfutures-ws", ("wss://futures.kraken.com",))
REST = base.Host("/krakenfutures-rest", ("https://futures.kraken.com",))

_OURS = {"trade": "trades", "ticker_lite": "ticks", "ticker": "ticks", "book": "order_book"}


class KrakenFutures(base.Venue):
    """Kraken lists feed and products separately; a stream's name here is `feed:PRODUCT`."""

    exchange = "krakenfutures"
    hosts = (WS, REST)
    stand_ins: ClassVar[Mapping[str, str]] = {"ticker": "ticker_lite", "ticker_lite": "ticker"}
    # a contract's maturity stays
    times = base.times_of("time", "timestamp", "next_funding_rate_time", "serverTime", "lastTime")

    def handshake(self, path: str, query: Mapping[str, str]) -> base.Handshake:
        """The venue greets first."""
        return base.Handshake(greeting=['{"event":"info","version":1}'])

    def request(self, text: str) -> base.Request:
        """`{"event": "subscribe", "feed": "trade", "product_ids": [...]}`, one answer per product."""
        asked = json.loads(text)
        event, feed = asked.get("event", ""), asked.get("feed", "")
        products = [str(product).upper() for product in asked.get("product_ids", [])]
        names = [f"{feed}:{product}" for product in products]
        replies = [base.compact({"event": f"{event}d", "feed": feed, "product_ids": [product]}) for product in products]
        return base.Request.of(event, names, replies)

    def stream_of(self, text: str) -> base.Stream | None:
        """A snapshot belongs to the feed it begins."""
        document = json.loads(text)
        if "event" in document or "product_id" not in document:
            return None
        feed = str(document["feed"]).removesuffix("_snapshot")
        return base.Stream(f"{feed}:{document['product_id']}", _OURS.get(feed, "other"), document["product_id"])

    def trades(self, payload: str) -> list[base.SentTrade]:
        """One trade, or those of a snapshot, newest first. `uid` is the id, `side` the taker's."""
        data = base.parse_exact(payload)
        rows = data["trades"][::-1] if data["feed"] == "trade_snapshot" else [data]
        return [
            base.SentTrade(
                row["product_id"], row["uid"], row["price"], row["qty"], int(row["time"]) * 1000, row["side"]
            )
            for row in rows
        ]

    def ticks(self, payload: str) -> list[base.SentTick]:
        """`ticker_lite` has neither sizes nor a time."""
        data = base.parse_exact(payload)
        bid, bid_size, ask, ask_size = map(data.get, ("bid", "bid_size", "ask", "ask_size"))
        time_us = int(data["time"]) * 1000 if "time" in data else None
        return [base.SentTick(data["product_id"], bid, bid_size, ask, ask_size, time_us)]

    def book_change(self, payload: str) -> base.BookChange:
        """A snapshot, or one level of one side."""
        data = base.parse_exact(payload)
        product, sequence, at = data["product_id"], int(data["seq"]), data["timestamp"]
        if data["feed"] == "book_snapshot":
            bids, asks = ([[row["price"], row["qty"]] for row in data[side]] for side in ("bids", "asks"))
            return base.BookChange(product, True, bids, asks, sequence, at)
        level = [[data["price"], data["qty"]]]
        is_bid = data["side"] == "buy"
        return base.BookChange(product, False, level if is_bid else [], [] if is_bid else level, sequence, at)

    def book_snapshot(self, stream: base.Stream, book: base.RecordedBook) -> str | None:
        """Numbers keep their recorded text."""
        bids, asks = (
            ",".join(f'{{"price":{row[0]},"qty":{row[1]}}}' for row in rows)
            for rows in (book.sorted_bids(), book.sorted_asks())
        )
        return (
            f'{{"feed":"book_snapshot","product_id":"{stream.market_id}","timestamp":{book.time_text},'
            f'"seq":{book.sequence},"tickSize":null,"bids":[{bids}],"asks":[{asks}]}}'
        )

    def rest(self, call: base.RestCall, source: base.RestSource) -> base.RestAnswer | None:
        """instruments from the capture, with ids in capitals, as the sockets and the current REST write them."""
        if call.path.endswith("/instruments"):
            document = json.loads(source.recorded("/instruments")[0])
            for instrument in document["instruments"]:
                instrument["symbol"] = instrument["symbol"].upper()
            note = "instrument symbols in capitals, as the sockets and today's REST write them"
            return base.RestAnswer(base.compact(document), note)
        if call.path.endswith("/tickers"):
            tickers = [
                {"symbol": id_, "last": trade.price, "lastSize": trade.quantity, "lastTime": iso_text(trade.time_us)}
                for id_ in source.symbols.values()
                for trade in source.newest_trades(id_, 1)
            ]
            body = base.compact({"result": "success", "tickers": tickers})
            return base.RestAnswer(body, "the last trades as streamed", is_of_now=True)
        return None

    def symbols(self, market_ids: Iterable[str], source: base.RestSource) -> dict[str, str]:
        """`FI_ETHUSD_211231` → `ETH/USD:ETH-211231`; a PF_ contract settles in dollars."""
        return {_unified(market_id): market_id for market_id in market_ids}


def _unified(market_id: str) -> str:
    kind, pair, *expiry = market_id.split("_")
    coin = pair[:-3].replace("XBT", "BTC")
    settle = pair[-3:] if kind in ("PF", "FF") else coin
    return f"{coin}/{pair[-3:]}:{settle}" + "".join(f"-{day}" for day in expiry)
