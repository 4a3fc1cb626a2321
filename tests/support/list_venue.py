"""Any venue's lists of markets, in its own words: bodies by the host and path of the request, and what fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import WSMsgType, web

from ingestd.config.loading import parse
from ingestd.config.models import FeedConfig

Answer = Callable[[Any], list[Any]]  # from what was asked on a socket, the frames to send


class ListVenue:
    """`bodies`: by a part of `host/path?query`, what is answered: a value as JSON, or its text; the first part that is
    there counts. Whatever else is asked for is answered with `status`; `cut`: not at all."""

    def __init__(self, bodies: Mapping[str, Any], *, status: int = 451, cut: bool = False) -> None:
        self.bodies = dict(bodies)
        self.status = status
        self.cut = cut
        self.requests: list[str] = []
        self.asked: list[Any] = []
        self.answer: Answer = lambda _asked: []
        self._port = 0

    async def __aenter__(self) -> ListVenue:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def url_map(self) -> dict[str, str]:
        """Every host of the exchange is this one."""
        return {f"{scheme}s://": f"{scheme}://127.0.0.1:{self._port}/" for scheme in ("http", "ws")}

    def config(self, exchange: str, symbols: list[str], **more: Any) -> FeedConfig:
        """A feed of its trades."""
        feed = {"exchange": exchange, "symbols": symbols, "channels": ["trades"], "url_map": self.url_map, **more}
        return parse({"feeds": [feed]}, {}).feeds[0]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        asked = request.path_qs.lstrip("/")
        posted = await request.text()
        self.requests.append(asked)
        body = next((body for part, body in self.bodies.items() if part in asked + posted), None)
        if body is None:
            if self.cut and request.transport is not None:
                request.transport.abort()
            return web.Response(status=self.status, text="unavailable for legal reasons")
        text = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=text, content_type="application/json")

    async def _stream(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type == WSMsgType.TEXT and message.data[:1] in ("{", "["):
                asked = json.loads(message.data)
                self.asked.append(asked)
                for frame in self.answer(asked):
                    await socket.send_str(json.dumps(frame))
        return socket


async def until(condition: Callable[[], Any], *, of: asyncio.Task[Any], within_s: float = 60.0) -> None:
    """Yield to the loop until the condition holds; raises the task's own error if it ends first."""
    async with asyncio.timeout(within_s):
        while not condition():
            if of.done():
                of.result()
            await asyncio.sleep(0.002)


def binance_spot(market_id: str, base: Any, quote: Any = "USDT", **more: Any) -> dict[str, Any]:
    """As https://developers.binance.com/docs/binance-spot-api-docs/rest-api/general-endpoints#exchange-information"""
    price = {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"}
    lot = {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"}
    market = {"symbol": market_id, "status": "TRADING", "baseAsset": base, "quoteAsset": quote, "orderTypes": ["LIMIT"]}
    market |= {"baseAssetPrecision": 8, "quotePrecision": 8, "isSpotTradingAllowed": True, "filters": [price, lot]}
    return market | more


def binance_linear(market_id: str, base: str) -> dict[str, Any]:
    """As https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Exchange-Information"""
    contract = {"pair": market_id, "contractType": "PERPETUAL", "deliveryDate": 4133404800000, "marginAsset": "USDT"}
    return binance_spot(market_id, base) | contract | {"pricePrecision": 2, "quantityPrecision": 3}


def binance_trades(asked: Any) -> list[Any]:
    """One trade of each stream that is subscribed to."""
    if asked.get("method") != "SUBSCRIBE":
        return []
    names = [name.partition("@")[0].upper() for name in asked["params"]]
    trade = {"e": "trade", "E": 1764000000000, "T": 1764000000000, "t": 1, "p": "100.5", "q": "0.1", "m": False}
    frames: list[Any] = [{"stream": f"{n.lower()}@trade", "data": {**trade, "s": n, "M": True}} for n in names]
    return [{"result": None, "id": asked["id"]}, *frames]


_BYBIT_SIZES = {"basePrecision": "0.0001", "quotePrecision": "0.01", "minOrderQty": "0.001", "maxOrderQty": "100.0"}

# The venue's list of spot markets, and nothing else of it: the part of the request, and the body as its documents say.
SPOT_ONLY: Mapping[str, tuple[str, Any]] = {
    "binance": ("api.binance.com/api/v3/exchangeInfo", {"symbols": [binance_spot("BTCUSDT", "BTC")]}),
    "bybit": (
        "category=spot",
        {
            "retCode": 0,
            "retMsg": "OK",
            "result": {
                "category": "spot",
                "list": [
                    {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading",
                     "marginTrading": "none", "lotSizeFilter": _BYBIT_SIZES, "priceFilter": {"tickSize": "0.1"}}
                ],
            },
        },
    ),
    "okx": (
        "instType=SPOT",
        {
            "code": "0",
            "data": [
                {"instType": "SPOT", "instId": "BTC-USDT", "baseCcy": "BTC", "quoteCcy": "USDT", "state": "live",
                 "tickSz": "0.1", "lotSz": "0.00000001", "minSz": "0.00001", "instFamily": "", "uly": ""}
            ],
        },
    ),
    "gate": (
        "spot/currency_pairs",
        [{"id": "BTC_USDT", "base": "BTC", "quote": "USDT", "fee": "0.2", "min_base_amount": "0.00001",
          "amount_precision": 6, "precision": 2, "trade_status": "tradable"}],
    ),
    "kucoin": (
        "v2/symbols",
        {
            "code": "200000",
            "data": [
                {"symbol": "BTC-USDT", "baseCurrency": "BTC", "quoteCurrency": "USDT", "baseMinSize": "0.00001",
                 "baseMaxSize": "1000", "quoteMinSize": "0.1", "quoteMaxSize": "99999", "priceIncrement": "0.1",
                 "baseIncrement": "0.00000001", "enableTrading": True}
            ],
        },
    ),
    "bitget": (
        "spot/public/symbols",
        {
            "code": "00000",
            "data": [
                {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "minTradeAmount": "0", "status": "online",
                 "maxTradeAmount": "100", "pricePrecision": "2", "quantityPrecision": "6"}
            ],
        },
    ),
    "mexc": (
        "api/v3/exchangeInfo",
        {
            "symbols": [
                {"symbol": "BTCUSDT", "status": "1", "baseAsset": "BTC", "quoteAsset": "USDT", "quotePrecision": 2,
                 "baseAssetPrecision": 8, "baseSizePrecision": "0.000001", "quoteAmountPrecision": "5",
                 "isSpotTradingAllowed": True, "orderTypes": ["LIMIT"]}
            ]
        },
    ),
    "htx": (
        "common/symbols",
        {
            "status": "ok",
            "data": [
                {"base-currency": "btc", "quote-currency": "usdt", "price-precision": 2, "amount-precision": 6,
                 "symbol": "btcusdt", "state": "online", "value-precision": 8, "min-order-amt": 0.0001,
                 "max-order-amt": 1000, "min-order-value": 5}
            ],
        },
    ),
    "bingx": (
        "common/symbols",
        {
            "code": 0,
            "data": {
                "symbols": [
                    {"symbol": "BTC-USDT", "minQty": 0.0001, "maxQty": 100, "minNotional": 5, "maxNotional": 100000,
                     "status": 1, "tickSize": 0.01, "stepSize": 0.00001, "apiStateSell": True, "apiStateBuy": True}
                ]
            },
        },
    ),
    "bitrue": ("api/v1/exchangeInfo", {"symbols": [binance_spot("BTCUSDT", "BTC")]}),
    "lbank": (
        "accuracy",
        {"result": "true", "data": [{"quantityAccuracy": "4", "minTranQua": "0.0001", "priceAccuracy": "2",
                                     "symbol": "btc_usdt"}]},
    ),
    "poloniex": (
        "poloniex.com/markets",
        [{"symbol": "BTC_USDT", "baseCurrencyName": "BTC", "quoteCurrencyName": "USDT", "state": "NORMAL",
          "symbolTradeLimit": {"symbol": "BTC_USDT", "priceScale": 2, "quantityScale": 6, "amountScale": 2,
                               "minQuantity": "0.000001", "minAmount": "1"}}],
    ),
    "aster": ("sapi.", {"symbols": [binance_spot("BTCUSDT", "BTC")]}),
    "weex": ("api/v3/exchangeInfo", {"symbols": [binance_spot("BTCUSDT", "BTC")]}),
    "deepcoin": (
        "instType=SPOT",
        {"code": "0", "data": [{"instType": "SPOT", "instId": "BTC-USDT", "baseCcy": "BTC", "quoteCcy": "USDT",
                                "tickSz": "0.1", "lotSz": "0.0001", "minSz": "0.0001", "state": "live"}]},
    ),
}  # fmt: skip
