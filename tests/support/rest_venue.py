"""A venue's past over REST, in its own words, from a list of trades: whole, cut short, or with holes.

Each venue's answers are as its documents describe them: https://docs.kraken.com/api/docs/rest-api/get-recent-trades,
https://docs.cdp.coinbase.com/exchange/reference/exchangerestapi_getproducttrades,
https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history,
https://bybit-exchange.github.io/docs/v5/market/recent-trade, https://www.bitstamp.net/api/#tag/Transactions-public,
https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from ingestd.clock import now_us

Query = Mapping[str, str]
PAGE = 100  # trades in an answer, at most


@dataclass(frozen=True)
class Past:
    """One trade. `time` in microseconds."""

    number: int
    time: int
    price: str = "100.50"
    quantity: str = "0.10"

    @property
    def iso(self) -> str:
        at = datetime.fromtimestamp(self.time // 1_000_000, UTC)
        return f"{at:%Y-%m-%dT%H:%M:%S}.{self.time % 1_000_000:06d}Z"


@dataclass
class RestVenue:
    """What a venue still has of its past, oldest first. `candles`, `funding`, `interest`: rows in the venue's form."""

    exchange: str
    trades: list[Past] = field(default_factory=list)
    ends_at: int | None = None  # by id or time it gives none later than this id; its newest ones it gives
    candles: list[list[Any]] = field(default_factory=list)
    hours: list[list[Any]] = field(default_factory=list)  # candles of an hour, where there are others beside them
    funding: list[dict[str, Any]] = field(default_factory=list)
    interest: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)  # path, query, headers
    port: int = 0

    @property
    def url_map(self) -> dict[str, str]:
        return dict.fromkeys(_HOSTS[self.exchange], f"http://127.0.0.1:{self.port}")

    @property
    def symbol(self) -> str:
        return _SYMBOLS.get(self.exchange, "BTC/USD")

    def before(self, number: int) -> list[Past]:
        """The newest with a smaller id."""
        return [one for one in self._given() if one.number < number][-PAGE:]

    def since(self, holds: Callable[[Past], bool]) -> list[Past]:
        """The oldest of those for which it holds."""
        return [one for one in self._given() if holds(one)][:PAGE]

    def newest(self) -> list[Past]:
        return self.trades[-PAGE:]

    def _given(self) -> Sequence[Past]:
        return [one for one in self.trades if self.ends_at is None or one.number <= self.ends_at]


@asynccontextmanager
async def rest_venue(exchange: str, trades: Sequence[Past] = (), **more: Any) -> AsyncIterator[RestVenue]:
    """Serve it on a port of this machine."""
    venue = RestVenue(exchange, list(trades), **more)

    async def answer(request: web.Request) -> web.Response:
        path, query = request.path.strip("/"), dict(request.query)
        venue.asked.append((path, query, dict(request.headers)))
        body = _ANSWERS[exchange](venue, path, query)
        if body is None:
            return web.json_response({"error": "not found"}, status=404)
        return web.json_response(body)

    app = web.Application()
    app.router.add_get("/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    venue.port = runner.addresses[0][1]
    try:
        yield venue
    finally:
        await runner.cleanup()


def _kraken(venue: RestVenue, path: str, query: Query) -> Any:
    match path.rsplit("/", 1)[-1]:
        case "AssetPairs":
            pair = {"altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD", "pair_decimals": 1}
            return _kraken_result(
                {"XXBTZUSD": {**pair, "lot_decimals": 8, "fees": [[0, 0.4]], "fees_maker": [[0, 0.2]],
                              "leverage_buy": [], "leverage_sell": [], "ordermin": "0.0001", "costmin": "0.5",
                              "tick_size": "0.1", "status": "online", "cost_decimals": 5, "lot_multiplier": 1}}
            )  # fmt: skip
        case "Assets":
            return _kraken_result({})
        case "Trades":
            chosen = venue.newest()
            if "since" in query:
                # seconds, or the nanoseconds that it hands out as `last`
                since = int(query["since"])
                since_us = since * 1_000_000 if since < 10**12 else since // 1000
                chosen = venue.since(lambda one: one.time > since_us)
            rows = [
                [one.price, one.quantity, float(f"{one.time // 1_000_000}.{one.time % 1_000_000:06d}7"), "b", "l", "",
                 one.number]
                for one in chosen
            ]  # fmt: skip
            return _kraken_result({"XXBTZUSD": rows, "last": str(chosen[-1].time * 1000 if chosen else 0)})
    return None


def _kraken_result(result: Any) -> Any:
    return {"error": [], "result": result}


def _coinbase(venue: RestVenue, path: str, query: Query) -> Any:
    if path.endswith("/trades"):
        chosen = venue.before(int(query["after"])) if "after" in query else venue.newest()
        return [
            {"trade_id": one.number, "side": "sell", "size": one.quantity, "price": one.price, "time": one.iso}
            for one in reversed(chosen)
        ]
    if path.endswith("products"):
        product = {"id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD", "quote_increment": "0.01"}
        return [{**product, "base_increment": "0.00000001", "status": "online", "trading_disabled": False}]
    return [] if path.endswith("currencies") else None


def _okx(venue: RestVenue, path: str, query: Query) -> Any:
    if path.endswith("instruments"):
        market = {"instType": "SPOT", "instId": "BTC-USD", "baseCcy": "BTC", "quoteCcy": "USD", "state": "live"}
        spot = {**market, "tickSz": "0.1", "lotSz": "0.00000001", "minSz": "0.00001", "instFamily": "", "uly": ""}
        return {"code": "0", "msg": "", "data": [spot] if query.get("instType") == "SPOT" else []}
    if path.endswith("history-trades"):
        chosen = venue.before(int(query["after"])) if "after" in query else venue.newest()
        rows = [
            {"instId": "BTC-USD", "side": "buy", "sz": one.quantity, "px": one.price, "tradeId": str(one.number),
             "ts": str(one.time // 1000)}
            for one in reversed(chosen)
        ]  # fmt: skip
        return {"code": "0", "msg": "", "data": rows}
    return None


def _bybit(venue: RestVenue, path: str, query: Query) -> Any:
    if path.endswith("instruments-info"):
        sizes = {"basePrecision": "0.0001", "quotePrecision": "0.01", "minOrderQty": "0.001", "maxOrderQty": "100.0"}
        market = {"symbol": "BTCUSD", "baseCoin": "BTC", "quoteCoin": "USD", "status": "Trading"}
        spot = {**market, "marginTrading": "none", "lotSizeFilter": sizes, "priceFilter": {"tickSize": "0.1"}}
        listed = [spot] if query.get("category") == "spot" else []
        return {"retCode": 0, "retMsg": "OK", "result": {"list": listed, "nextPageCursor": ""}, "time": 1}
    if path.endswith("recent-trade"):
        rows = [
            {"execId": f"x{one.number}", "symbol": "BTCUSD", "price": one.price, "size": one.quantity, "side": "Buy",
             "time": str(one.time // 1000), "isBlockTrade": False}
            for one in reversed(venue.newest())
        ]  # fmt: skip
        return {"retCode": 0, "retMsg": "OK", "result": {"category": "spot", "list": rows}, "time": 1}
    return None


def _bitstamp(venue: RestVenue, path: str, _: Query) -> Any:
    if path.endswith("markets"):
        market = {"name": "BTC/USD", "market_symbol": "btcusd", "base_currency": "BTC", "counter_currency": "USD"}
        return [{**market, "base_decimals": 8, "counter_decimals": 2, "minimum_order_value": "10", "trading": "Enabled",
                 "market_type": "SPOT"}]  # fmt: skip
    if "transactions" in path:  # of the last hour, in whole seconds
        return [
            {"date": str(one.time // 1_000_000), "tid": str(one.number), "price": one.price, "type": "0",
             "amount": one.quantity}
            for one in reversed(venue.trades)
        ]  # fmt: skip
    return [] if path.endswith("currencies") else None


def _binance(venue: RestVenue, path: str, query: Query) -> Any:
    """Spot, and USDⓈ-M where the exchange is `binanceusdm`."""
    start, end = int(query.get("startTime", 0)), int(query.get("endTime", 1 << 62))
    limit = int(query.get("limit", 500))
    match path.rsplit("/", 1)[-1]:
        case "exchangeInfo":
            return {"symbols": [_binance_market("fapi" in path)] if "dapi" not in path else [], "rateLimits": []}
        case "trades":
            return [_binance_trade(one) for one in venue.newest()]
        case "historicalTrades":
            from_id = int(query["fromId"]) if "fromId" in query else None
            chosen = venue.newest() if from_id is None else venue.since(lambda one: one.number >= from_id)
            return [_binance_trade(one) for one in chosen]
        case "aggTrades":
            found = [one for one in venue.trades if start <= one.time // 1000 <= end][:limit]
            return [
                {"a": one.number - 7, "p": one.price, "q": one.quantity, "f": one.number, "l": one.number,
                 "T": one.time // 1000, "m": False, "M": True}
                for one in found
            ]  # fmt: skip
        case "klines":
            candles = venue.hours if venue.hours and query["interval"] == "1h" else venue.candles
            return [row for row in candles if start <= row[0] <= end][:limit]
        case "fundingRate":
            return [row for row in venue.funding if start <= row["fundingTime"] <= end][:limit]
        case "openInterestHist":
            return [row for row in venue.interest if start <= row["timestamp"] <= end][:limit]
    return None


def _binance_market(linear: bool) -> dict[str, Any]:
    steps = [{"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"}]
    market: dict[str, Any] = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT"}
    market |= {"baseAssetPrecision": 8, "quotePrecision": 8, "orderTypes": ["LIMIT"], "filters": steps}
    if not linear:
        return market | {"isSpotTradingAllowed": True, "permissions": ["SPOT"]}
    contract = {"pair": "BTCUSDT", "contractType": "PERPETUAL", "deliveryDate": 4133404800000, "marginAsset": "USDT"}
    return market | contract | {"onboardDate": 1569398400000, "pricePrecision": 2, "quantityPrecision": 3}


def _binance_trade(one: Past) -> dict[str, Any]:
    made = {"id": one.number, "price": one.price, "qty": one.quantity, "quoteQty": "1", "time": one.time // 1000}
    return {**made, "isBuyerMaker": False, "isBestMatch": True}


def now_s() -> int:
    return now_us() // 1_000_000


_SYMBOLS = {"binance": "BTC/USDT", "binanceusdm": "BTC/USDT:USDT"}
_HOSTS = {
    "kraken": ("https://api.kraken.com",),
    "coinbaseexchange": ("https://api.exchange.coinbase.com",),
    "okx": ("https://www.okx.com",),
    "bybit": ("https://api.bybit.com",),
    "bitstamp": ("https://www.bitstamp.net",),
    "binance": ("https://api.binance.com", "https://fapi.binance.com", "https://dapi.binance.com"),
    "binanceusdm": ("https://fapi.binance.com",),
}
_ANSWERS: Mapping[str, Callable[[RestVenue, str, Query], Any]] = {
    "kraken": _kraken,
    "coinbaseexchange": _coinbase,
    "okx": _okx,
    "bybit": _bybit,
    "bitstamp": _bitstamp,
    "binance": _binance,
    "binanceusdm": _binance,
}
