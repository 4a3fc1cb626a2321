"""Makes and closes tapped exchanges: ccxt.pro exchanges, run unmodified, with everything that they receive tapped.

A subclass created at run time replaces the stores (`trades`, `tickers`, `bidsasks`, `fundingRates`, `orderbooks`),
the number type, the JSON decoder and the socket client. ccxt's code for the exchange stays as it is.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import Any

import ccxt
import ccxt.pro
from ccxt.base import precise

from ingestd.feeds.ccxt.bounded_numbers import bound_exponents
from ingestd.feeds.ccxt.tap_state import STORES, Tap
from ingestd.feeds.ccxt.tapped_client import LONGEST_KEEP_ALIVE_MS
from ingestd.feeds.ccxt.tapped_exchange import TappedExchange, tapped_property
from ingestd.feeds.stopping import cancelled
from ingestd.venues.all import facts_of
from ingestd.venues.times import asks_for_microseconds

bound_exponents(precise)  # every exchange counts by it

_KEEP_ALIVE_MS = 15_000  # ping interval; a missing pong is noticed after two intervals
_CLOSE_S = 5.0

BASE_CONFIG: dict[str, Any] = {
    "enableRateLimit": True,
    "newUpdates": True,
    "timeout": 15_000,  # ms per REST call
    # A cache is tapped only once it is stored. A first frame with more trades than this would lose some.
    "options": {"tradesLimit": 10_000},
}


@functools.cache
def tapped_class(exchange_id: str) -> type[Any]:
    """The tapped subclass of the ccxt.pro class. Raises KeyError if ccxt has no such exchange.

    `code_name`: the exchange whose code this one inherits: `bybit` for `bybiteu`.
    """
    if exchange_id not in ccxt.pro.exchanges:
        raise KeyError(exchange_id)
    original = getattr(ccxt.pro, exchange_id)
    code_name = [cls.__name__ for cls in original.__mro__ if cls.__module__.startswith("ccxt.pro.")][-1]
    added = {"code_name": code_name, "book_facts": facts_of(code_name).books}
    properties = {name: tapped_property(name) for name in STORES}
    return type(f"tapped_{exchange_id}", (TappedExchange, original), {**added, **properties})


def make_exchange(
    exchange_id: str,
    tap: Tap,
    *,
    options: Mapping[str, Any] | None = None,
    url_map: Mapping[str, str] | None = None,
    credentials: Mapping[str, str] | None = None,
    rate_share: float = 1.0,
) -> Any:
    """Create a tapped exchange without connecting. `options` are merged deeply into ccxt's own.

    `credentials` are ccxt's (`apiKey`, `secret`, `password`); a few exchanges require them even for market data.
    `rate_share`: the fraction of the exchange's request budget that this object may use.
    """
    facts = facts_of(exchange_id)
    config = ccxt.Exchange.deep_extend(
        BASE_CONFIG, {"options": facts.ccxt.options}, {"options": dict(options or {})}, dict(credentials or {})
    )
    if facts.microsecond_url_prefix and asks_for_microseconds(options or {}):
        config["headers"] = {"X-MBX-TIME-UNIT": "MICROSECOND"}
    exchange = tapped_class(exchange_id)(tap, dict(url_map or {}), config)
    if exchange.book_facts.agrees is not None:  # we check the checksum
        exchange.options["watchOrderBook"] = {**exchange.options.get("watchOrderBook", {}), "checksum": False}
    keep_alive = exchange.streaming.get("keepAlive")
    if keep_alive and _KEEP_ALIVE_MS < keep_alive <= LONGEST_KEEP_ALIVE_MS:
        exchange.streaming["keepAlive"] = _KEEP_ALIVE_MS
    if rate_share != 1.0:
        exchange.rateLimit /= rate_share
        exchange.rollingWindowSize = 0.0  # a rolling window would allow the whole share in one burst
        exchange.tokenBucket = None
        exchange.init_rest_rate_limiter()
    return exchange


async def close_exchange(exchange: Any) -> None:
    """Close the sockets and sessions. If the exchange does not answer the close within `_CLOSE_S`, disconnect."""
    exchange.timeout_on_exit = 0  # ms; ccxt would sleep this long after closing
    try:
        async with asyncio.timeout(_CLOSE_S):
            await exchange.close()
    except TimeoutError:
        if exchange.session is not None:
            await exchange.session.close()
            exchange.session = None
        await exchange.close_connector()
    await cancelled(*exchange.background)  # book snapshots that wait for the rate limiter, and the limiter's own loop


def can_forget_books(exchange: Any) -> bool:
    """Whether `forget_book` works on this exchange."""
    books = facts_of(exchange.id).books
    # `has["unWatchOrderBook"]` is wrong for some exchanges.
    has_own = type(exchange).un_watch_order_book is not ccxt.pro.Exchange.un_watch_order_book
    return has_own or books.over_rest or books.unsubscribed_here


def exchange_ids() -> list[str]:
    """The ids of all exchanges that ccxt can stream."""
    return list(ccxt.pro.exchanges)


@functools.cache
def features(exchange_id: str) -> Mapping[str, Any]:
    """ccxt's `has` of the exchange (`watchTrades`: True, False, None or "emulated"). Does not connect."""
    has: Mapping[str, Any] = getattr(ccxt.pro, exchange_id)().has
    return has


@functools.cache
def timeframes(exchange_id: str) -> tuple[str, ...]:
    """The candle timeframes of the exchange, in ccxt's names (`1m`, `1h`, `1M`). Does not connect."""
    return tuple(getattr(ccxt.pro, exchange_id)().timeframes or ())
