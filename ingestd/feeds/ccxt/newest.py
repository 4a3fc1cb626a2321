"""Fetches the newest trade, or the best bid and ask, of silent streams over REST.

One request serves all markets if the exchange has such a request: for trades `Trades.newest` of the exchange's file in
`venues` states it, for best prices ccxt's feature table. Otherwise each market needs its own request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import ChannelError, FeedError, RateLimited, Unfillable
from ingestd.feeds.ccxt import records
from ingestd.feeds.ccxt.ccxt_errors import translated
from ingestd.feeds.ccxt.history import stream_series
from ingestd.feeds.markets.symbols import kind_of
from ingestd.venues.all import facts_of
from ingestd.venues.exact import decimal_text
from ingestd.venues.trade_identity import TradeIds
from ingestd.venues.trades import Ids, NewestAnswer, NewestRequest, Row

REPLY_WITHIN_S = 30.0  # including the wait for ccxt's rate limiter
_TRADES = 10  # trades to request per market


def bulk_for(exchange: str, kind: str, stream: str | None) -> NewestRequest | None:
    """The request for the newest trades of all markets of a kind (`spot`, `linear`, `inverse`); None if the exchange
    has none whose answer proves anything.

    `stream`: the trade stream that ccxt subscribes to, on exchanges with several.
    """
    newest = facts_of(exchange).trades.newest
    return newest if newest is None or isinstance(newest, NewestRequest) else newest(kind, stream)


class Newest:
    """A `streams.silence.Newest` that asks through the feed's ccxt exchange object, which queues the requests.

    `exchange()` returns that object, or None while the feed has none.
    """

    def __init__(self, config: FeedConfig, exchange: Callable[[], Any]) -> None:
        self._config = config
        self._exchange = exchange
        self._ids = TradeIds(now_us())
        self._useless: set[str] = set()
        self._has_key = bool(config.credentials().get("apiKey"))

    @property
    def is_ready(self) -> bool:
        exchange = self._exchange()
        return exchange is not None and bool(exchange.markets)

    def kind(self, symbol: str) -> str:
        return kind_of(self._exchange().markets.get(symbol, {}))

    def has_bulk(self, kind: str) -> bool:
        return bulk_for(self._config.exchange, kind, self._stream(kind)) is not None

    async def trades_of_all(self, kind: str, symbols: Collection[str]) -> dict[str, NewestAnswer]:
        exchange = self._exchange()
        bulk = bulk_for(self._config.exchange, kind, self._stream(kind))
        if bulk is None:
            raise ChannelError(f"{self._config.exchange} has no such request")
        ids = {symbol: str(exchange.markets[symbol]["id"]) for symbol in symbols if symbol in exchange.markets}
        reply = await self._call(getattr(exchange, bulk.method), bulk.params(kind, list(ids.values())))
        try:
            rows = bulk.rows(reply)
            answers = {
                symbol: bulk.read(rows[key]) for symbol, id_ in ids.items() if (key := _key(rows, id_)) is not None
            }
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise FeedError(f"the last trades in the answer of {self._config.exchange} cannot be read") from error
        return {symbol: answer for symbol, answer in answers.items() if answer is not None}

    async def trade(self, symbol: str) -> NewestAnswer | None:
        exchange = self._exchange()
        if not exchange.has.get("fetchTrades"):
            raise ChannelError(f"{self._config.exchange} serves no past trades over REST")
        params: dict[str, str] = {}
        limit, own, numbered = _TRADES, False, False
        try:
            series = stream_series(exchange, symbol, has_key=self._has_key)
        except Unfillable:
            pass  # trades over REST have other ids than the stream, but their times can be compared
        else:
            params, limit = dict(series.params), min(series.page_limit, _TRADES)
            # Without `Historical` the endpoint has the same ids, needs no key and costs less of the request budget.
            params = {name: value.replace("HistoricalTrades", "Trades") for name, value in params.items()}
            own, numbered = series.is_known, series.ids is not Ids.OPAQUE
        rows = await self._call(exchange.fetch_trades, symbol, None, limit, params)
        newest = max((row for row in rows or () if isinstance(row, Mapping)), key=_place, default=None)
        if newest is None:
            return None
        time_us, number = _place(newest)
        trade_id = None if newest.get("id") is None else str(newest["id"])
        mark = "trade", (time_us, trade_id)
        if not own or trade_id is None:
            return NewestAnswer(mark, time=time_us or None)
        record = records.trade_record(self._config.exchange, symbol, newest, now_us(), self._ids)
        return NewestAnswer(
            mark, trade_id, number if numbered and number >= 0 else None, time_us or None, record=record
        )

    async def best(self, symbols: Collection[str]) -> dict[str, NewestAnswer]:
        exchange = self._exchange()
        wanted = [symbol for symbol in symbols if symbol in exchange.markets]
        method = self._best_method()
        if method is None or not wanted:
            raise ChannelError(f"{self._config.exchange} serves no best prices over REST")
        many = method != _BEST_OF_ONE
        try:
            reply = await self._call(getattr(exchange, method), wanted if many else wanted[0])
        except RateLimited:
            raise
        except FeedError:
            self._useless.add(method)  # ccxt's `has` is wrong for some exchanges
            raise
        tickers = reply if many else {wanted[0]: reply}
        answers = {}
        for symbol, ticker in tickers.items():
            names = ("bid", "ask", "bidVolume", "askVolume")
            bid, ask, bid_size, ask_size = (decimal_text(ticker.get(name)) for name in names)
            best = bid, ask, bid_size, ask_size
            if symbol in wanted and (bid is not None or ask is not None):
                answers[symbol] = NewestAnswer(("best", best), best=best)
        return answers

    def has_best_of_many(self) -> bool:
        return self._best_method() not in (_BEST_OF_ONE, None)

    def _best_method(self) -> str | None:
        has = self._exchange().has
        known = [name for name, feature in _BEST if has.get(feature) is True]
        return next((name for name in known if name not in self._useless), known[-1] if known else None)

    def _stream(self, kind: str) -> str | None:
        exchange = self._exchange()
        symbol = next((s for s, market in exchange.markets.items() if kind_of(market) == kind), None)
        if symbol is None or facts_of(self._config.exchange).trades.stream_option is None:
            return None
        try:
            method = stream_series(exchange, symbol, has_key=self._has_key).params.get("fetchTradesMethod", "")
        except Unfillable:
            return None
        return "aggTrade" if "Agg" in method else "trade"

    async def _call(self, method: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        try:
            async with asyncio.timeout(REPLY_WITHIN_S):
                return await method(*args)
        except Exception as error:  # ccxt may raise anything
            raise translated(error) from error


_BEST_OF_ONE = "fetch_ticker"
_BEST = (("fetch_bids_asks", "fetchBidsAsks"), ("fetch_tickers", "fetchTickers"), (_BEST_OF_ONE, "fetchTicker"))


def _key(rows: Mapping[str, Row], market_id: str) -> str | None:
    return next((key for key in (market_id, market_id.upper()) if key in rows), None)


def _place(row: Row) -> tuple[int, int]:
    """Sort key of a trade: its time in microseconds and its numeric id, -1 if the id is not a number."""
    trade_id = str(row.get("id"))
    return int(row.get("timestamp") or 0) * 1000, int(trade_id) if trade_id.isdecimal() else -1
