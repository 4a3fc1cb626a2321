"""The requests that end a market's book, for venues whose code in the exchange library has none. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ingestd.feeds.books.samples import named_in

Request = dict[str, Any]


def unsubscription(exchange: Any, market: Any, name: str) -> Request | None:
    """What ends the subscription that the library knows by that name; None: it is not of this market's book."""
    return _REQUESTS[exchange.code_name](exchange, market, name)


def _kraken(exchange: Any, market: Any, name: str) -> Request | None:
    """https://docs.kraken.com/api/docs/websocket-v2/book"""
    if "book" not in name or not named_in(name, [market["symbol"]]):
        return None
    params = {"channel": "book", "symbol": [market["symbol"]]}
    return {"method": "unsubscribe", "params": params, "req_id": exchange.request_id()}


def _deribit(exchange: Any, market: Any, name: str) -> Request | None:
    """https://docs.deribit.com/api-reference/subscription-management/public-unsubscribe"""
    if not name.startswith(f"book.{market['id']}."):
        return None
    params = {"channels": [name]}
    return {"jsonrpc": "2.0", "method": "public/unsubscribe", "params": params, "id": exchange.request_id()}


def _poloniex(_exchange: Any, market: Any, name: str) -> Request | None:
    """https://api-docs.poloniex.com/spot/websocket/#unsubscription"""
    if name != f"book_lv2::{market['symbol']}":
        return None
    return {"event": "unsubscribe", "channel": ["book_lv2"], "symbols": [market["id"]]}


def _hitbtc(exchange: Any, market: Any, name: str) -> Request | None:
    """https://api.hitbtc.com/#socket-market-data"""
    if name != f"orderbooks::{market['symbol']}":
        return None
    channel = exchange.handle_option("watchOrderBook", "method", "orderbook/full")
    params = {"symbols": [market["id"]]}
    return {"method": "unsubscribe", "ch": channel, "params": params, "id": exchange.incrementing_nonce()}


def _blofin(_exchange: Any, market: Any, name: str) -> Request | None:
    """https://docs.blofin.com/index.html#ws-order-book-channel"""
    if name != f"books:{market['symbol']}":
        return None
    return {"op": "unsubscribe", "args": [{"channel": "books", "instId": market["id"]}]}


def _krakenfutures(_exchange: Any, market: Any, name: str) -> Request | None:
    """https://docs.kraken.com/api/docs/futures-api/websocket/book"""
    if name != f"orderbook:{market['symbol']}":
        return None
    return {"event": "unsubscribe", "feed": "book", "product_ids": [market["id"]]}


def _whitebit(exchange: Any, market: Any, name: str) -> Request | None:
    """https://docs.whitebit.com/websocket/market-streams/depth"""
    if name != f"orderbook:{market['symbol']}":
        return None
    return {"id": exchange.nonce(), "method": "depth_unsubscribe", "params": [market["id"]]}


def _apex(_exchange: Any, market: Any, name: str) -> Request | None:
    """https://api-docs.pro.apex.exchange/#websocket-v3-for-omni-websocket-endpoint"""
    if name != f"orderbook:{market['symbol']}":
        return None
    return {"op": "unsubscribe", "args": [f"orderBook25.H.{market['id2']}"]}  # the depth that ccxt asks for


def _grvt(exchange: Any, market: Any, name: str) -> Request | None:
    """https://api-docs.grvt.io/market_data_streams/#orderbook-delta"""
    interval = exchange.handle_option("watchOrderBook", "interval", 500)
    if name != f"{market['id']}@{interval}":
        return None
    params = {"stream": "v1.book.d", "selectors": [name]}
    return {"jsonrpc": "2.0", "method": "unsubscribe", "params": params, "id": exchange.request_id()}


_REQUESTS: Mapping[str, Callable[[Any, Any, str], Request | None]] = {
    "apex": _apex,
    "blofin": _blofin,
    "coinbaseinternational": _deribit,  # which it runs on
    "deribit": _deribit,
    "grvt": _grvt,
    "hitbtc": _hitbtc,
    "kraken": _kraken,
    "krakenfutures": _krakenfutures,
    "poloniex": _poloniex,
    "whitebit": _whitebit,
}
