"""OKX v5. https://www.okx.com/docs-v5/en/#overview-websocket"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import ClassVar

from ingestd.lab.sim.venues import base
from ingestd.venues.ccxt_books import in_turn, signed

WS = base.Host("/okx-ws", ("wss://ws.okx.com:8443", "wss://ws.okx.com:443"))
REST = base.Host("/okx-rest", ("https://www.okx.com",))

_OURS = {
    "trades": "trades",
    "trades-all": "trades",
    "tickers": "ticks",
    "bbo-tbt": "ticks",
    "funding-rate": "funding",
    "open-interest": "open_interest",
}
_FAMILIES = {"books": "order_book", "candle": "candles"}  # by the beginning of the channel's name
_CANDLE_TIME = re.compile(r'(\[")(\d{13})\b')
_CHECKSUM_LEVELS = 25


class Okx(base.Venue):
    """`/ws/v5/public` and `/business` are served the same way."""

    exchange = "okx"
    hosts = (WS, REST)
    stand_ins: ClassVar[Mapping[str, str]] = {"bbo-tbt": "tickers", "trades-all": "trades"}  # `tickers` has bid and ask
    times = base.times_of("ts", "fundingTime", "nextFundingTime")  # not an instrument's listing and expiry

    def request(self, text: str) -> base.Request:
        """`{"op": "subscribe", "args": [{"channel", "instId"}]}`, one answer per argument; `ping` → `pong`."""
        if text == "ping":
            return base.Request(replies=["pong"])
        asked = json.loads(text)
        operation, args = asked.get("op"), asked.get("args", [])
        names = [f"{arg['channel']}:{arg.get('instId', '')}" for arg in args]
        replies = [base.compact({"event": operation, "arg": arg, "connId": "sim"}) for arg in args]
        return base.Request.of(operation, names, replies)

    def stream_of(self, text: str) -> base.Stream | None:
        if text == "pong":
            return None
        document = json.loads(text)
        arg = document.get("arg")
        if arg is None or "event" in document:
            return None
        channel, market_id = arg["channel"], arg["instId"]
        ours = next((ours for begin, ours in _FAMILIES.items() if channel.startswith(begin)), None)
        return base.Stream(f"{channel}:{market_id}", ours or _OURS.get(channel, "other"), market_id)

    def shift(self, stream: base.Stream, payload: str, delta_ms: int) -> str:
        """A candle row begins with its time, and stays on its minute."""
        if stream.name.startswith("candle"):
            return base.shifted(_CANDLE_TIME, payload, delta_ms // 60_000 * 60_000)
        return super().shift(stream, payload, delta_ms)

    def trades(self, payload: str) -> list[base.SentTrade]:
        """A frame may hold several trades."""
        return [
            base.SentTrade(row["instId"], row["tradeId"], row["px"], row["sz"], int(row["ts"]) * 1000, row["side"])
            for row in json.loads(payload)["data"]
        ]

    def ticks(self, payload: str) -> list[base.SentTick]:
        """From `tickers`, or `bbo-tbt` with one level per side."""
        document = json.loads(payload)
        if document["arg"]["channel"] == "bbo-tbt":
            return [_bbo(document["arg"]["instId"], row) for row in document["data"]]
        return [
            base.SentTick(row["instId"], row["bidPx"], row["bidSz"], row["askPx"], row["askSz"], int(row["ts"]) * 1000)
            for row in document["data"]
        ]

    def book_change(self, payload: str) -> base.BookChange:
        """Rows are `[price, size, "0", orders]`. In 2022 there was no `seqId`: the time orders the frames."""
        document = json.loads(payload)
        row = document["data"][0]
        reset = document.get("action") == "snapshot"
        return base.BookChange(document["arg"]["instId"], reset, row["bids"], row["asks"], 0, row["ts"])

    def book_snapshot(self, stream: base.Stream, book: base.RecordedBook) -> str | None:
        """With the checksum OKX defines: CRC32 of the 25 best levels, bid and ask in turn."""
        asks, bids = book.sorted_asks(), book.sorted_bids()
        row = {"asks": asks, "bids": bids, "ts": book.time_text, "checksum": _checksum(bids, asks)}
        arg = {"channel": stream.name.partition(":")[0], "instId": stream.market_id}
        return base.compact({"arg": arg, "action": "snapshot", "data": [row]})

    def rest(self, call: base.RestCall, source: base.RestSource) -> base.RestAnswer | None:
        """instruments from the capture (empty for missing types); time."""
        match call.path:
            case "api/v5/public/instruments":
                kind, family = call.query.get("instType", ""), call.query.get("uly") or call.query.get("instFamily")
                bodies = source.recorded(f"instruments?instType={kind}" + (f"&uly={family}" if family else ""))
                empty = base.RestAnswer(_wrapped([]), "no instruments recorded: empty")
                return base.RestAnswer(bodies[0]) if bodies else empty
            case "api/v5/market/trades" | "api/v5/market/history-trades":
                trades = source.newest_trades(call.query.get("instId", ""), int(call.query.get("limit", 100)))
                body = _wrapped([_past_trade(trade) for trade in trades])
                return base.RestAnswer(body, "as streamed", is_of_now=True)
            case "api/v5/public/time":
                return base.RestAnswer(_wrapped([{"ts": str(source.now_ms())}]))
        return None

    def symbols(self, market_ids: Iterable[str], source: base.RestSource) -> dict[str, str]:
        """By the recorded instruments; a contract settles in `settleCcy`."""
        wanted = set(market_ids)
        rows = (row for body in source.recorded("instruments?") for row in json.loads(body)["data"])
        return {_unified(row): row["instId"] for row in rows if row["instId"] in wanted}


def _past_trade(trade: base.SentTrade) -> dict[str, str]:
    names = {"instId": trade.market_id, "tradeId": trade.trade_id, "px": trade.price, "sz": trade.quantity}
    return {**names, "side": trade.side, "ts": str(trade.time_us // 1000)}


def _bbo(market_id: str, row: Mapping[str, list[list[str]]]) -> base.SentTick:
    bid, bid_size = row["bids"][0][:2] if row["bids"] else (None, None)
    ask, ask_size = row["asks"][0][:2] if row["asks"] else (None, None)
    return base.SentTick(market_id, bid, bid_size, ask, ask_size, int(str(row["ts"])) * 1000)


def _unified(row: Mapping[str, str]) -> str:
    symbol = "/".join(row["instId"].split("-")[:2])
    if row["instType"] != "SPOT":
        symbol += f":{row['settleCcy']}"
    if row["instType"] == "FUTURES":
        symbol += f"-{row['instId'].split('-')[2]}"
    return symbol


def _checksum(bids: list[list[str]], asks: list[list[str]]) -> int:
    sides = [[(row[0], row[1]) for row in rows[:_CHECKSUM_LEVELS]] for rows in (bids, asks)]
    return signed(zlib.crc32(in_turn(*sides).encode()))


def _wrapped(rows: list[dict[str, str]]) -> str:
    return base.compact({"code": "0", "msg": "", "data": rows})
