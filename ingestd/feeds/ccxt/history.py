"""Fetches historical trades, candles, funding rates and open interest of an exchange over REST, as records.

Uses a separate ccxt exchange object, limited to a share of the exchange's request budget, so that the live feed never
waits for it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from itertools import chain
from typing import Any

from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError, Unfillable
from ingestd.feeds.ccxt import records as ccxt_records
from ingestd.feeds.ccxt.ccxt_errors import translated
from ingestd.feeds.ccxt.tap import close_exchange, make_exchange
from ingestd.feeds.ccxt.tap_state import Tap
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.families import may_hold
from ingestd.feeds.markets.quantity_units import unit_of
from ingestd.feeds.past.id_runs import Window
from ingestd.feeds.past.trade_search import Request
from ingestd.feeds.stopping import Stop, failure_of
from ingestd.records import Candle, Funding, OpenInterest, Trade
from ingestd.venues.all import facts_of
from ingestd.venues.symbol_names import nearest_markets
from ingestd.venues.trade_identity import TradeIds
from ingestd.venues.trades import Ids, Series

_CALL_S = 120.0  # timeout of one request, including the wait for the rate limiter
_ROWS_PER_CALL = 500
_HOUR_MS = 3_600_000
_MAX_SEARCHED_HOURS = 48  # how far to search for the first trade of a window
OPEN_INTEREST_PERIOD = "5m"

# The ccxt feature that fetches a channel's history.
_FEATURES: Mapping[str, str] = {
    "trades": "fetchTrades",
    "candles": "fetchOHLCV",
    "funding": "fetchFundingRateHistory",
    "open_interest": "fetchOpenInterestHistory",
}


class CcxtHistory:
    """History of one exchange, with the configuration of one of its feeds. Call `open` before use and `close` once."""

    def __init__(self, config: FeedConfig, *, rate_share: float) -> None:
        self.config = config
        self.wanted = list(config.symbols)  # symbols and glob patterns; a configuration reload replaces them
        self._has_key = bool(config.credentials().get("apiKey"))
        self._ids = TradeIds(now_us())
        self.exchange = make_exchange(
            config.exchange,
            Tap(),
            options=config.options,
            url_map=config.url_map,
            credentials=config.credentials(),
            rate_share=rate_share,
        )

    async def open(self) -> None:
        """Load or reload the markets. Raises FeedError, including RateLimited."""
        await self._call(self.exchange.load_markets, True)
        self.exchange.followed = dict(self.exchange.markets)  # a later list without one of them proves nothing

    async def close(self) -> None:
        await close_exchange(self.exchange)

    def symbols(self) -> list[str]:
        """The listed symbols that the feed follows."""
        return list(self._resolved().symbols)

    def unknown(self) -> dict[str, str]:
        """The configured symbols and patterns that match no market, each with the reason."""
        return self._resolved().unknown

    def _resolved(self) -> symbol_names.Resolution:
        return symbol_names.resolve(self.wanted, self.exchange.markets, self.exchange.namesakes)

    def listed(self) -> list[Mapping[str, Any]]:
        """All markets of the exchange as ccxt dicts, including those that share a symbol."""
        return [*self.exchange.markets.values(), *chain.from_iterable(self.exchange.namesakes.values())]

    def missing(self) -> Mapping[str, str]:
        """The families of markets that could not be listed, each with the reason."""
        return {family.name: why for family, why in self.exchange.missing.items()}

    def require(self, channel: str, symbol: str) -> None:
        """Check that history of this stream can be fetched. Raises Unfillable if the exchange offers no history for the
        channel or does not list the symbol, FeedError if a list that may contain the symbol could not be fetched."""
        feature = _FEATURES.get(channel)
        if feature is None or not self.exchange.has.get(feature):
            raise Unfillable(f"{self.config.exchange} serves no past {channel} over REST")
        if symbol in self.exchange.namesakes:
            raise Unfillable(f"{symbol} {symbol_names.why_shared(self.exchange.namesakes[symbol])}")
        if (hint := self.unlisted(symbol)) is not None:
            raise Unfillable(f"{self.config.exchange} does not list {symbol}" + (f"; {hint}" if hint else ""))

    def unlisted(self, symbol: str) -> str | None:
        """None if the symbol is listed, else a hint with similar symbols, empty if there are none.
        Raises FeedError if a list that may contain the symbol could not be fetched."""
        if symbol in self.exchange.markets or symbol in self.exchange.namesakes:
            return None
        for family, why in self.exchange.missing.items():
            if may_hold(family, symbol):
                raise FeedError(f"the venue's list of {family.name} markets cannot be had: {why}")
        return nearest_markets(symbol, self.exchange.markets)

    def market_id(self, symbol: str) -> str:
        """The venue's id of a market that it lists."""
        return str(self.exchange.markets[symbol]["id"])

    def series(self, symbol: str) -> Series:
        """The REST endpoint whose trade ids match this feed's stream. Raises Unfillable if there is none."""
        return stream_series(self.exchange, symbol, has_key=self._has_key)

    async def trades(self, symbol: str, series: Series, request: Request) -> list[Trade]:
        """Fetch one page of trades in the exchange's order. Raises Unfillable if a trade cannot be read and the ids
        would not show that it is missing."""
        params: dict[str, Any] = dict(series.params)
        number = request.from_id if request.from_id is not None else request.before_id
        if number is not None and series.id_param is not None:
            params[series.id_param] = str(number)
        since_ms = None if request.since_us is None else request.since_us // 1000
        rows = await self._call(self.exchange.fetch_trades, symbol, since_ms, series.page_limit, params)
        self._ids.forget_equal_trades(symbol)  # pages overlap by one millisecond
        unit = unit_of(self.config.exchange, self.exchange.markets[symbol])
        records = self._records(rows, ccxt_records.trade_record, symbol, self._ids, unit)
        if len(records) < len(rows or ()) and series.ids is not Ids.CONSECUTIVE:
            raise Unfillable("a trade in the venue's answer has no price or no quantity, and cannot be stored")
        return records

    async def id_at(self, symbol: str, series: Series, window: Window) -> int | None:
        """The id of the window's first trade, on exchanges that page by ids; None if unknown."""
        method = series.params.get("fetchTradesMethod")
        if method is None or series.id_param is None:
            return None
        params = {"fetchTradesMethod": method.replace("HistoricalTrades", "AggTrades")}
        since_ms = window.start_us // 1000
        for _ in range(_MAX_SEARCHED_HOURS):  # one answer covers one hour
            rows = await self._call(self.exchange.fetch_trades, symbol, since_ms, 1, params)
            if rows:
                return int(rows[0]["info"]["a" if method.endswith("AggTrades") else "f"])
            since_ms += _HOUR_MS
            if since_ms * 1000 >= window.end_us:
                break
        return None

    async def candles(self, symbol: str, timeframe: str, since_us: int, *, with_running: bool = False) -> list[Candle]:
        """One page of candles that opened from `since_us` on, oldest first. `with_running`: also the unfinished one."""
        rows = await self._call(self.exchange.fetch_ohlcv, symbol, timeframe, since_us // 1000, _ROWS_PER_CALL)
        records = self._records(rows, ccxt_records.candle_record, symbol, timeframe)
        until = math.inf if with_running else now_us() - self.timeframe_us(timeframe)
        return sorted((row for row in records if row.time <= until), key=lambda row: row.time)

    async def funding(self, symbol: str, since_us: int) -> list[Funding]:
        """One page of funding rates settled since `since_us`, oldest first."""
        rows = await self._call(self.exchange.fetch_funding_rate_history, symbol, since_us // 1000, 100)
        return sorted(self._records(rows, ccxt_records.funding_record, symbol), key=lambda row: row.time)

    async def open_interest(self, symbol: str, since_us: int) -> list[OpenInterest]:
        """One page of open interest samples since `since_us`, oldest first."""
        rows = await self._call(
            self.exchange.fetch_open_interest_history, symbol, OPEN_INTEREST_PERIOD, since_us // 1000, _ROWS_PER_CALL
        )
        return sorted(self._records(rows, ccxt_records.open_interest_record, symbol), key=lambda row: row.time)

    def timeframe_us(self, timeframe: str) -> int:
        """Length of a candle, in microseconds."""
        return int(self.exchange.parse_timeframe(timeframe)) * 1_000_000

    def _records(self, rows: Any, convert: Callable[..., Any], symbol: str, *more: Any) -> list[Any]:
        """The records of rows from one answer. `more`: further arguments of `convert`."""
        at = now_us()
        records = (convert(self.config.exchange, symbol, row, at, *more) for row in rows or ())
        return [record for record in records if record is not None]

    async def _call(self, method: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        try:
            async with asyncio.timeout(_CALL_S):
                task = await Stop().run(method(*args), name=f"{self.config.label} history")
        except TimeoutError as late:
            raise FeedError(f"{self.config.exchange} did not answer within {_CALL_S:g} s") from late
        if (error := failure_of(task)) is not None:
            raise translated(error) from error
        return task.result()


def stream_series(exchange: Any, symbol: str, *, has_key: bool) -> Series:
    """The REST endpoint whose trade ids match ccxt's trade stream. Raises Unfillable if there is none."""
    option = facts_of(exchange.id).trades.stream_option  # None: the exchange has only one trade stream
    stream = None if option is None else exchange.handle_option_and_params({}, *option)[0]
    return series_for(exchange.id, symbol_names.kind_of(exchange.markets[symbol]), stream, has_key=has_key)


def series_for(exchange: str, kind: str, stream: str | None, *, has_key: bool) -> Series:
    """The REST endpoint for a kind of market (`symbols.kind_of`) and a trade stream (None: the exchange's only one)."""
    past = facts_of(exchange).trades.past
    return past if isinstance(past, Series) else past(kind, stream, has_key)
