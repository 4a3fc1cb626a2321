"""Binance's public REST endpoints over the generated markets, spot (`/api/v3`) and USDⓈ-M (`/fapi/v1`).

https://developers.binance.com/docs/binance-spot-api-docs/rest-api
https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from ingestd.clock import now_us
from ingestd.lab.sim.synthetic.market import MINUTE_MS, TICK_DECIMALS, Candle, Market, Trade, decimal_text
from ingestd.lab.sim.synthetic.wire import AGGREGATE_OFFSET, FUNDING_INTERVAL_MS, Wire, next_funding_ms
from ingestd.lab.sim.venues.base import Json, RestAnswer, RestCall, compact
from ingestd.lab.sim.venues.binance import INVERSE_REST, LINEAR_REST, SPOT_REST

_UNKNOWN_SYMBOL = RestAnswer('{"code":-1121,"msg":"Invalid symbol."}', status=400)
_INTERVAL_MINUTES = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "4h": 240, "1d": 1440}
OI_PERIOD_MS = 300_000
Query = Mapping[str, str]


class Rest:
    """The endpoints of all product families; a request's host says which family it is for."""

    def __init__(self, markets: Sequence[Market]) -> None:
        self._families: dict[str, dict[str, Market]] = {
            SPOT_REST.path: {market.listing.market_id: market for market in markets if not market.listing.linear},
            LINEAR_REST.path: {market.listing.market_id: market for market in markets if market.listing.linear},
            INVERSE_REST.path: {},
        }

    def answer(self, call: RestCall) -> RestAnswer | None:
        """Answer by the last part of the path; None for an endpoint that is not simulated."""
        markets, query, now_ms = self._families.get(call.host), call.query, now_us() // 1000
        endpoint = call.path.rpartition("/")[2]
        if markets is None:
            return None
        match endpoint:
            case "exchangeInfo":
                return RestAnswer(compact(_exchange_info(markets.values(), now_ms)))
            case "time":
                return RestAnswer(compact({"serverTime": now_ms}))
            case "ping":
                return RestAnswer("{}")
        describe = _ENDPOINTS.get(endpoint)
        if describe is None:
            return None
        if endpoint in _OF_ALL_MARKETS and "symbol" not in query:
            wanted = json.loads(query["symbols"]) if "symbols" in query else list(markets)
            if not set(wanted) <= markets.keys():
                return _UNKNOWN_SYMBOL
            return RestAnswer(compact([describe(markets[name], query, now_ms) for name in wanted]))
        market = markets.get(query.get("symbol", ""))
        return _UNKNOWN_SYMBOL if market is None else RestAnswer(compact(describe(market, query, now_ms)))


def _exchange_info(markets: Iterable[Market], now_ms: int) -> Json:
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "rateLimits": [{"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}],
        "exchangeFilters": [],
        "symbols": [_symbol(market) for market in markets],
    }


def _symbol(market: Market) -> Json:
    listing = market.listing
    tick = decimal_text(1, TICK_DECIMALS, listing.price_decimals).decode()
    step = decimal_text(1, 3, listing.quantity_decimals).decode()
    symbol: dict[str, Json] = {
        "symbol": listing.market_id,
        "status": "TRADING",
        "baseAsset": listing.base,
        "quoteAsset": "USDT",
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": step, "maxQty": "9000.000", "stepSize": step},
            {"filterType": "MARKET_LOT_SIZE", "minQty": step, "maxQty": "900.000", "stepSize": step},
        ],
    }
    if listing.linear:
        symbol["filters"].append({"filterType": "MIN_NOTIONAL", "notional": "5"})
        symbol |= {"pair": listing.market_id, "contractType": "PERPETUAL", "deliveryDate": 4133404800000}
        symbol |= {"onboardDate": 1569398400000, "marginAsset": "USDT", "underlyingType": "COIN"}
        return symbol | {"pricePrecision": TICK_DECIMALS, "quantityPrecision": 3}
    symbol["filters"].append({"filterType": "NOTIONAL", "minNotional": "5.00000000", "maxNotional": "9000000.00000000"})
    return symbol | {"isSpotTradingAllowed": True, "isMarginTradingAllowed": False, "permissions": ["SPOT"]}


def _depth(market: Market, query: Query, now_ms: int) -> Json:
    limit = int(query.get("limit", 100))
    bids, asks = (
        [[market.price(tick).decode(), market.sizes[side[tick]].decode()] for tick in islice(ticks, limit)]
        for side, ticks in ((market.bids, sorted(market.bids, reverse=True)), (market.asks, sorted(market.asks)))
    )
    times = {"E": now_ms, "T": now_ms} if market.listing.linear else {}
    return {"lastUpdateId": market.update_id, **times, "bids": bids, "asks": asks}


def _selected(market: Market, query: Query, first_id: int | None) -> list[Trade]:
    """Select trades by id, by time, or the last ones, as Binance does; with a start, from the oldest on."""
    limit = min(int(query.get("limit", 500)), 1000)
    if first_id is not None:
        return list(islice((trade for trade in market.trades if trade.trade_id >= first_id), limit))
    if "startTime" in query or "endTime" in query:
        start, end = int(query.get("startTime", 0)), int(query.get("endTime", 1 << 62))
        return list(islice((trade for trade in market.trades if start <= trade.time_ms <= end), limit))
    return list(market.trades)[-limit:]


def _recent_trades(market: Market, query: Query, _: int) -> Json:
    quantum = TICK_DECIMALS + 3
    first_id = int(query["fromId"]) if "fromId" in query else None
    return [
        {
            "id": trade.trade_id,
            "price": market.price(trade.tick).decode(),
            "qty": market.sizes[trade.size].decode(),
            "quoteQty": decimal_text(trade.tick * market.units[trade.size], quantum, max(8, quantum)).decode(),
            "time": trade.time_ms,
            "isBuyerMaker": trade.seller_takes,
            "isBestMatch": True,
        }
        for trade in _selected(market, query, first_id)
    ]


def _newest_trades(market: Market, query: Query, now_ms: int) -> Json:
    """Binance's endpoint `trades` takes neither id nor time."""
    return _recent_trades(market, {name: query[name] for name in query if name == "limit"}, now_ms)


def _aggregate_trades(market: Market, query: Query, _: int) -> Json:
    first_id = int(query["fromId"]) + AGGREGATE_OFFSET if "fromId" in query else None
    return [
        {
            "a": trade.trade_id - AGGREGATE_OFFSET,
            "p": market.price(trade.tick).decode(),
            "q": market.sizes[trade.size].decode(),
            "f": trade.trade_id,
            "l": trade.trade_id,
            "T": trade.time_ms,
            "m": trade.seller_takes,
            "M": True,
        }
        for trade in _selected(market, query, first_id)
    ]


def _klines(market: Market, query: Query, _: int) -> Json:
    span_ms = _INTERVAL_MINUTES.get(query.get("interval", "1m"), 1) * MINUTE_MS
    limit = min(int(query.get("limit", 500)), 1000)
    start, end = int(query.get("startTime", 0)), int(query.get("endTime", 1 << 62))
    merged = [candle for candle in _merged(market.candles, span_ms) if start <= candle.open_ms <= end]
    chosen = merged[:limit] if "startTime" in query else merged[-limit:]
    wire = Wire(market)
    return [_kline(market, wire, candle, span_ms) for candle in chosen]


def _merged(candles: Iterable[Candle], span_ms: int) -> list[Candle]:
    merged: list[Candle] = []
    for minute in candles:
        open_ms = minute.open_ms - minute.open_ms % span_ms
        if not merged or merged[-1].open_ms != open_ms:
            merged.append(Candle(open_ms, minute.open))
        whole = merged[-1]
        whole.high, whole.low = max(whole.high, minute.high), min(whole.low, minute.low)
        whole.close = minute.close
        for name in ("count", "volume", "quote", "taker_base", "taker_quote"):
            setattr(whole, name, getattr(whole, name) + getattr(minute, name))
    return merged


def _kline(market: Market, wire: Wire, candle: Candle, span_ms: int) -> Json:
    prices = [market.price(tick).decode() for tick in (candle.open, candle.high, candle.low, candle.close)]
    volume, quote, taker, taker_quote = (text.decode() for text in wire.volumes(candle))
    last_ms = candle.open_ms + span_ms - 1
    return [candle.open_ms, *prices, volume, last_ms, quote, candle.count, taker, taker_quote, "0"]


def _open_interest(market: Market, _: Query, now_ms: int) -> Json:
    """Open interest that changes with the trade id, so that two polls differ."""
    units = 10_000_000 + market.trade_id % 100_000
    return {"symbol": market.listing.market_id, "openInterest": decimal_text(units, 3, 3).decode(), "time": now_ms}


def _open_interest_history(market: Market, query: Query, now_ms: int) -> Json:
    """One sample every five minutes, the same on every request."""
    start, end = int(query.get("startTime", now_ms - 500 * OI_PERIOD_MS)), int(query.get("endTime", now_ms))
    first = -(-start // OI_PERIOD_MS) * OI_PERIOD_MS
    times = range(first, min(end, now_ms) + 1, OI_PERIOD_MS)[: int(query.get("limit", 30))]
    return [
        {
            "symbol": market.listing.market_id,
            "sumOpenInterest": decimal_text(10_000_000 + at // OI_PERIOD_MS % 1000, 3, 3).decode(),
            "sumOpenInterestValue": decimal_text(20_000_000 + at // OI_PERIOD_MS % 1000, 2, 2).decode(),
            "timestamp": at,
        }
        for at in times
    ]


def _premium_index(market: Market, _: Query, now_ms: int) -> Json:
    mark, index = market.price(market.bid).decode(), market.price(market.ask).decode()
    return {
        "symbol": market.listing.market_id,
        "markPrice": mark,
        "indexPrice": index,
        "estimatedSettlePrice": index,
        "lastFundingRate": "0.00010000",
        "interestRate": "0.00010000",
        "nextFundingTime": next_funding_ms(now_ms),
        "time": now_ms,
    }


def _funding_history(market: Market, query: Query, now_ms: int) -> Json:
    """The latest funding rates, oldest first."""
    last = next_funding_ms(now_ms) - FUNDING_INTERVAL_MS
    times = [last - FUNDING_INTERVAL_MS * age for age in range(min(int(query.get("limit", 100)), 100))][::-1]
    start, end = int(query.get("startTime", 0)), int(query.get("endTime", 1 << 62))
    return [
        {
            "symbol": market.listing.market_id,
            "fundingRate": "0.00010000",
            "fundingTime": at,
            "markPrice": market.price(market.bid).decode(),
        }
        for at in times
        if start <= at <= end
    ]


def _book_ticker(market: Market, _: Query, now_ms: int) -> Json:
    times = {"time": now_ms} if market.listing.linear else {}
    return {
        "symbol": market.listing.market_id,
        "bidPrice": market.price(market.bid).decode(),
        "bidQty": market.sizes[market.bids[market.bid]].decode(),
        "askPrice": market.price(market.ask).decode(),
        "askQty": market.sizes[market.asks[market.ask]].decode(),
        **times,
    }


def _day_ticker(market: Market, _: Query, now_ms: int) -> Json:
    """The 24 h ticker, with only the fields about the last trade."""
    trades = market.trades
    return {
        "symbol": market.listing.market_id,
        "lastPrice": market.price(trades[-1].tick).decode() if trades else "0.00",
        "openTime": now_ms - 86_400_000,
        "closeTime": now_ms,
        "firstId": trades[0].trade_id if trades else -1,
        "lastId": trades[-1].trade_id if trades else -1,
        "count": len(trades),
    }


_ENDPOINTS: dict[str, Callable[[Market, Query, int], Json]] = {
    "depth": _depth,
    "trades": _newest_trades,
    "historicalTrades": _recent_trades,
    "aggTrades": _aggregate_trades,
    "klines": _klines,
    "openInterest": _open_interest,
    "openInterestHist": _open_interest_history,
    "fundingRate": _funding_history,
    "premiumIndex": _premium_index,
    "bookTicker": _book_ticker,
    "24hr": _day_ticker,
}
_OF_ALL_MARKETS = {"premiumIndex", "bookTicker", "24hr"}  # unless the request names one
