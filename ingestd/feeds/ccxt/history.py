"""A venue's past over REST, as records: trades, candles, funding rates, open interest.

Has an exchange object of its own, paced to a share of what the venue allows, so that the live feed never waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from itertools import chain
from typing import Any

from ingestd.clock import now_us
from ingestd.config.models import FeedConfig
from ingestd.errors import FeedError, Unfillable
from ingestd.feeds.ccxt import records as ccxt_records
from ingestd.feeds.ccxt.tap import close_exchange, make_exchange, translated
from ingestd.feeds.ccxt.tap_state import Tap
from ingestd.feeds.markets import symbols as symbol_names
from ingestd.feeds.markets.families import may_hold
from ingestd.feeds.markets.quantity_units import unit_of
from ingestd.feeds.past.id_runs import Window
from ingestd.feeds.past.trade_search import Request
from ingestd.feeds.past.trade_series import series_for
from ingestd.records import Candle, Channel, Funding, OpenInterest, Trade
from ingestd.venues.all import facts_of
from ingestd.venues.past import Ids, Series
from ingestd.venues.symbol_names import nearest_markets
from ingestd.venues.trade_identity import TradeIds

_CALL_S = 120.0  # one request, with the wait for its turn in the budget
_ROWS_PER_CALL = 500
_HOUR_MS = 3_600_000
_HOURS_AT_MOST = 48  # looked through for the first trade of a window
OPEN_INTEREST_PERIOD = "5m"

# The ccxt feature that serves a channel's past.
_FEATURES: Mapping[str, str] = {
    "trades": "fetchTrades",
    "candles": "fetchOHLCV",
    "funding": "fetchFundingRateHistory",
    "open_interest": "fetchOpenInterestHistory",
}
CHANNELS: tuple[Channel, ...] = ("trades", "candles", "funding", "open_interest")


class CcxtHistory:
    """One venue's past, under the configuration of one of its feeds. `open` before use, `close` once."""

    def __init__(self, config: FeedConfig, *, rate_share: float) -> None:
        self.config = config
        self.wanted = list(config.symbols)  # names and globs; a reload replaces them
        self._has_key = bool(config.credentials().get("apiKey"))
        self._ids = TradeIds(now_us())
        self.exchange = make_exchange(
            config.exchange,
            Tap(_Deaf()),
            options=config.options,
            url_map=config.url_map,
            credentials=config.credentials(),
            rate_share=rate_share,
        )

    async def open(self) -> None:
        """Load the markets, or load them again. Raises FeedError (RateLimited among them)."""
        await self._call(self.exchange.load_markets, True)
        self.exchange.followed = dict(self.exchange.markets)  # a later list that lacks one of them is no proof

    async def close(self) -> None:
        await close_exchange(self.exchange)

    def symbols(self) -> list[str]:
        """Those the feed follows, of those the venue lists."""
        return list(self._resolved().symbols)

    def unknown(self) -> dict[str, str]:
        """Why each other name or glob of the feed is none of them."""
        return self._resolved().unknown

    def _resolved(self) -> symbol_names.Resolution:
        return symbol_names.resolve(self.wanted, self.exchange.markets, self.exchange.namesakes)

    def listed(self) -> list[Mapping[str, Any]]:
        """Every market of the venue in the exchange library's form, those that share a name among them."""
        return [*self.exchange.markets.values(), *chain.from_iterable(self.exchange.namesakes.values())]

    def missing(self) -> Mapping[str, str]:
        """Which families of markets the venue did not list, and why."""
        return {family.name: why for family, why in self.exchange.missing.items()}

    def require(self, channel: str, symbol: str) -> None:
        """Raises Unfillable when the venue has no past for this channel, or no such market; FeedError while it may have
        one that it does not list for now."""
        feature = _FEATURES.get(channel)
        if feature is None or not self.exchange.has.get(feature):
            raise Unfillable(f"{self.config.exchange} serves no past {channel} over REST")
        if symbol in self.exchange.namesakes:
            raise Unfillable(f"{symbol} {symbol_names.why_shared(self.exchange.namesakes[symbol])}")
        if (hint := self.unlisted(symbol)) is not None:
            raise Unfillable(f"{self.config.exchange} does not list {symbol}" + (f"; {hint}" if hint else ""))

    def unlisted(self, symbol: str) -> str | None:
        """None where the venue lists it; else the nearest names as a hint, empty when none is near.
        Raises FeedError where the list in which it may be cannot be had."""
        if symbol in self.exchange.markets or symbol in self.exchange.namesakes:
            return None
        for family, why in self.exchange.missing.items():
            if may_hold(family, symbol):
                raise FeedError(f"the venue's list of {family.name} markets cannot be had: {why}")
        return nearest_markets(symbol, self.exchange.markets)

    def series(self, symbol: str) -> Series:
        """The endpoint with the ids that the stream of this feed stores. Raises Unfillable where there is none."""
        return stream_series(self.exchange, symbol, has_key=self._has_key)

    async def trades(self, symbol: str, series: Series, request: Request) -> list[Trade]:
        """One page, in the venue's order. Raises Unfillable where a trade of it cannot be read, and no id shows it."""
        params: dict[str, Any] = dict(series.params)
        number = request.from_id if request.from_id is not None else request.before_id
        if number is not None and series.id_param is not None:
            params[series.id_param] = str(number)
        since_ms = None if request.since_us is None else request.since_us // 1000
        rows = await self._call(self.exchange.fetch_trades, symbol, since_ms, series.page_limit, params)
        self._ids.begin_anew(symbol)  # a page begins with the millisecond in which the one before it ended
        unit = unit_of(self.config.exchange, self.exchange.markets[symbol])
        records = self._records(
            rows, lambda row, at: ccxt_records.trade_record(self.config.exchange, symbol, row, at, self._ids, unit)
        )
        if len(records) < len(rows or ()) and series.ids is not Ids.CONSECUTIVE:
            raise Unfillable("a trade in the venue's answer has no price or no quantity, and cannot be stored")
        return records

    async def id_at(self, symbol: str, series: Series, window: Window) -> int | None:
        """The id of the window's first trade, for a venue that pages by ids; None when it does not say."""
        method = series.params.get("fetchTradesMethod")
        if method is None or series.id_param is None:
            return None
        params = {"fetchTradesMethod": method.replace("HistoricalTrades", "AggTrades")}
        since_ms = window.start_us // 1000
        for _ in range(_HOURS_AT_MOST):  # it answers for one hour at a time
            rows = await self._call(self.exchange.fetch_trades, symbol, since_ms, 1, params)
            if rows:
                return int(rows[0]["info"]["a" if method.endswith("AggTrades") else "f"])
            since_ms += _HOUR_MS
            if since_ms * 1000 >= window.end_us:
                break
        return None

    async def candles(self, symbol: str, timeframe: str, since_us: int, *, with_running: bool = False) -> list[Candle]:
        """Candles that opened since then, oldest first, the running one left out unless asked for."""
        rows = await self._call(self.exchange.fetch_ohlcv, symbol, timeframe, since_us // 1000, _ROWS_PER_CALL)
        span_us = self.timeframe_us(timeframe)
        exchange = self.config.exchange
        records = self._records(rows, lambda row, at: ccxt_records.candle_record(exchange, symbol, timeframe, row, at))
        now = now_us()
        final = (row for row in records if with_running or row.time + span_us <= now)
        return sorted(final, key=lambda row: row.time)

    async def funding(self, symbol: str, since_us: int) -> list[Funding]:
        """The rates that were settled since then, oldest first."""
        rows = await self._call(self.exchange.fetch_funding_rate_history, symbol, since_us // 1000, 100)
        records = self._records(
            rows, lambda row, at: ccxt_records.funding_record(self.config.exchange, symbol, row, at)
        )
        return sorted(records, key=lambda row: row.time)

    async def open_interest(self, symbol: str, since_us: int) -> list[OpenInterest]:
        """The venue's samples since then, oldest first."""
        rows = await self._call(
            self.exchange.fetch_open_interest_history, symbol, OPEN_INTEREST_PERIOD, since_us // 1000, _ROWS_PER_CALL
        )
        records = self._records(
            rows, lambda row, at: ccxt_records.open_interest_record(self.config.exchange, symbol, row, at)
        )
        return sorted(records, key=lambda row: row.time)

    def timeframe_us(self, timeframe: str) -> int:
        """How long a candle lasts, in microseconds."""
        return int(self.exchange.parse_timeframe(timeframe)) * 1_000_000

    def _records(self, rows: Any, convert: Callable[[Any, int], Any]) -> list[Any]:
        at = now_us()
        return [record for record in (convert(row, at) for row in rows or ()) if record is not None]

    async def _call(self, method: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        # In a task of its own: ccxt cancels futures it hands out, which must not look like our own cancellation.
        task = asyncio.create_task(method(*args), name=f"{self.config.label} history")
        try:
            async with asyncio.timeout(_CALL_S):
                await asyncio.wait({task})
        except TimeoutError as late:
            raise FeedError(f"{self.config.exchange} did not answer within {_CALL_S:g} s") from late
        finally:
            task.cancel()
            await asyncio.wait({task})
        if task.cancelled():
            raise FeedError("given up by the exchange library")
        error = task.exception()
        if error is not None:
            raise translated(error) from error
        return task.result()


def stream_series(exchange: Any, symbol: str, *, has_key: bool) -> Series:
    """The endpoint with the ids of the stream that ccxt's exchange object asks for. Raises Unfillable where none is."""
    return series_for(
        exchange.id, symbol_names.kind_of(exchange.markets[symbol]), _stream_name(exchange), has_key=has_key
    )


def _stream_name(exchange: Any) -> str | None:
    """What ccxt subscribes to, by the look-up of its own `watch_trades…`; None where it has no choice."""
    option = facts_of(exchange.id).trades.stream_option
    if option is None:
        return None
    value: str | None = exchange.handle_option_and_params({}, *option)[0]
    return value


class _Deaf:
    """No socket is opened here, so there is nothing to hear."""

    def on_trade(self, symbol: str, trade: dict[str, Any], received_at: int) -> None: ...
    def on_ticker(self, symbol: str, ticker: dict[str, Any], received_at: int) -> None: ...
    def on_bid_ask(self, symbol: str, ticker: dict[str, Any], received_at: int) -> None: ...
    def on_funding(self, symbol: str, rate: dict[str, Any], received_at: int) -> None: ...
    def on_book(self, book: Any, received_at: int) -> None: ...
    def on_book_replaced(self, symbol: str) -> None: ...
    def on_book_broken(self, symbol: str) -> None: ...
    def on_book_without_snapshot(self, symbol: str) -> None: ...
    def book_named_in(self, message_hash: str) -> str | None: ...

    def on_bad_frame(self, url: str, error: Exception, frame: str) -> None: ...
    def on_connected(self, url: str) -> None: ...
    def on_disconnected(self, url: str, reason: str) -> None: ...
    def follows_book(self, symbol: str) -> bool:  # noqa: ARG002 - the protocol's form
        return False

    def on_book_not_loaded(self, symbol: str, error: FeedError, failures: int) -> None: ...
    def on_book_given_up(self, symbol: str) -> None: ...
    def on_refused(self, url: str, error: FeedError) -> None: ...
    def on_rejected(self, url: str) -> None: ...
    def on_wait_cut(self) -> None: ...
    async def writable(self) -> None: ...
